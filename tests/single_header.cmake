# What a compiler sees of the single header is what it sees of richflow/richflow.hpp, up to blanks.
# Usage: cmake -D INCLUDE_DIR=include -D COMPILER=g++ -D SYSTEM_INCLUDES=DIRS -D SCRATCH=DIR -P single_header.cmake

file(REMOVE_RECURSE ${SCRATCH})
file(MAKE_DIRECTORY ${SCRATCH}/copied)
execute_process(COMMAND ${CMAKE_COMMAND} -D OUTPUT=${SCRATCH}/copied/richflow.hpp -P ${INCLUDE_DIR}/single_header.cmake
                COMMAND_ERROR_IS_FATAL ANY)
set(system_options "")
foreach(directory IN LISTS SYSTEM_INCLUDES)
  list(APPEND system_options -isystem ${directory})
endforeach()

function(preprocess source include_dir result)
  file(WRITE ${SCRATCH}/source.cpp ${source})
  execute_process(COMMAND ${COMPILER} -std=c++20 -E -P ${system_options} -I${include_dir} ${SCRATCH}/source.cpp
                  OUTPUT_VARIABLE text COMMAND_ERROR_IS_FATAL ANY)
  string(REGEX REPLACE "[ \t\n]+" " " text "${text}")
  set(${result} "${text}" PARENT_SCOPE)
endfunction()

preprocess("#include \"richflow/richflow.hpp\"\n" ${INCLUDE_DIR} expected)
# Twice in one source, as two headers of a project may include it; nothing else of the library is in reach.
preprocess("#include \"richflow.hpp\"\n#include \"richflow.hpp\"\n" ${SCRATCH}/copied found)
string(FIND "${expected}" "namespace richflow" at)
if(at EQUAL -1)
  message(FATAL_ERROR "the preprocessed library holds no namespace richflow")
endif()
if(NOT expected STREQUAL found)
  message(FATAL_ERROR "the single header is not what richflow/richflow.hpp is")
endif()
