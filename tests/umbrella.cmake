# richflow/richflow.hpp must name every public header but itself, those of testing/ and the one that needs MPI, and
# nothing else.
# Usage: cmake -D INCLUDE_DIR=include -P umbrella.cmake

file(GLOB_RECURSE expected RELATIVE ${INCLUDE_DIR} ${INCLUDE_DIR}/richflow/*.hpp)
list(FILTER expected EXCLUDE REGEX "^richflow/(richflow\\.hpp$|testing/|sweep/mpi\\.hpp$)")

file(STRINGS ${INCLUDE_DIR}/richflow/richflow.hpp named REGEX "^#include \"richflow/")
list(TRANSFORM named REPLACE "^#include \"([^\"]+)\".*$" "\\1")

set(missing ${expected})
list(REMOVE_ITEM missing ${named})
set(superfluous ${named})
list(REMOVE_ITEM superfluous ${expected})
if(missing OR superfluous)
  message(FATAL_ERROR "richflow/richflow.hpp does not name: ${missing}\nand should not name: ${superfluous}")
endif()
