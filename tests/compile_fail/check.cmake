# What must not compile. Each snippet is compiled as it is, which must fail and say in the first error the sentence that
# the snippet's first line announces; the failure must be short enough to be read. A second line `// with: OPTION...`
# gives options of that compilation. With MUST_COMPILE defined (its twin) a snippet must pass: all twins are compiled as
# one source.
# Usage: cmake -D MODE=parse|twins|snippet|programs -D COMPILER=c++ -D SNIPPETS=x.cpp|y.cpp -D INCLUDE_DIR=include
#          -D SYSTEM_INCLUDES=dir|dir -D SCRATCH=dir -P check.cmake
# Mode parse comes first; it parses the library once for the others. Mode programs, with AWK and a NAME, compiles the
# programs in the comments of the SNIPPETS, headers here (tests/documentation/header_programs.awk).

set(longest_output 19)

string(REPLACE "|" ";" snippets "${SNIPPETS}")
string(REPLACE "|" ";" system_includes "${SYSTEM_INCLUDES}")
list(TRANSFORM system_includes PREPEND -isystem)
set(compile ${COMPILER} -std=c++20 -Wall -Wextra -Wpedantic -Wconversion -Wshadow -I${INCLUDE_DIR} ${system_includes})
set(parsed_once ${SCRATCH}/parsed_once.hpp)
# No snippet can make the engines fail: they are compiled elsewhere, and would take most of the time here.
set(with_parsed_once -DRICHFLOW_COMPILED -include ${parsed_once})

if(MODE STREQUAL "parse")
  file(WRITE ${parsed_once} "#include \"richflow/richflow.hpp\"\n")
  # Both g++ and clang++ look for this name.
  execute_process(COMMAND ${compile} -DRICHFLOW_COMPILED -Werror -x c++-header ${parsed_once} -o ${parsed_once}.gch
                  RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "The library does not compile")
  endif()

elseif(MODE STREQUAL "twins")
  set(includes "")
  set(twins "")
  foreach(snippet IN LISTS snippets)
    file(STRINGS ${snippet} own_includes REGEX "^#include ")
    list(APPEND includes ${own_includes})
    get_filename_component(name ${snippet} NAME_WE)
    string(APPEND twins "namespace ${name} {\n#include \"${snippet}\"\n}\n")
  endforeach()
  # Outside the namespaces, so that in them they include nothing again.
  list(REMOVE_DUPLICATES includes)
  list(JOIN includes "\n" includes)
  file(WRITE ${SCRATCH}/twins.cpp "${includes}\n${twins}")
  execute_process(COMMAND ${compile} -fsyntax-only ${with_parsed_once} -Werror -DMUST_COMPILE ${SCRATCH}/twins.cpp
                  RESULT_VARIABLE result ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "Every twin must compile, but:\n${output}")
  endif()

elseif(MODE STREQUAL "programs")
  set(documentation ${CMAKE_CURRENT_LIST_DIR}/../documentation)
  execute_process(COMMAND ${AWK} -f ${documentation}/header_programs.awk ${snippets}
                  OUTPUT_FILE ${SCRATCH}/${NAME}.cpp RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${AWK} fails on the headers")
  endif()
  execute_process(COMMAND ${compile} -w -fsyntax-only ${with_parsed_once} -I${documentation} ${SCRATCH}/${NAME}.cpp
                  RESULT_VARIABLE result ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "A program in a comment does not compile:\n${output}")
  endif()
  file(STRINGS ${SCRATCH}/${NAME}.cpp counted REGEX "^// [0-9]+ programs")
  message(STATUS "${counted}")

else()
  file(STRINGS ${snippets} first_lines LIMIT_COUNT 2)
  if(NOT first_lines MATCHES "^// must not compile: ([^;]+)")
    message(FATAL_ERROR "${snippets} must begin with `// must not compile: <sentence of the compiler's output>`")
  endif()
  set(sentence "${CMAKE_MATCH_1}")
  # Options may change what the library is.
  set(options ${with_parsed_once})
  if(first_lines MATCHES ";// with: (.+)$")
    separate_arguments(options UNIX_COMMAND "${CMAKE_MATCH_1}")
  endif()
  execute_process(COMMAND ${compile} -fsyntax-only ${options} ${snippets} RESULT_VARIABLE result ERROR_VARIABLE output)
  if(result EQUAL 0)
    message(FATAL_ERROR "The snippet compiles, and should have failed with: ${sentence}")
  endif()
  string(REGEX MATCH "[^\n]*error: [^\n]*" first_error "${output}")
  string(FIND "${first_error}" "${sentence}" position)
  if(position EQUAL -1)
    message(FATAL_ERROR "The first error is not `${sentence}`, but `${first_error}`:\n${output}")
  endif()
  # By which headers it was reached is another matter where the library was parsed before.
  string(REGEX REPLACE "(In file included from|                 from) [^\n]*\n" "" messages "${output}")
  string(REGEX MATCHALL "\n" line_ends "${messages}")
  list(LENGTH line_ends lines)
  if(lines GREATER longest_output)
    message(FATAL_ERROR "The failure takes ${lines} lines, more than ${longest_output}:\n${output}")
  endif()
  message(STATUS "fails in ${lines} lines, as it must")
endif()
