# Compiles a snippet twice: as it is, which must fail and print the sentence that the snippet's first
# line announces, and with MUST_COMPILE defined (its twin), which must pass. The failure must be short
# enough to be read. A second line `// with: OPTION...` gives options of the compilation that must fail.
# Usage: cmake -D COMPILER=c++ -D SNIPPET=x.cpp -D INCLUDE_DIR=include -D SYSTEM_INCLUDES=dir|dir -P check.cmake

set(longest_output 40)

file(STRINGS ${SNIPPET} first_line LIMIT_COUNT 1)
if(NOT first_line MATCHES "^// must not compile: (.+)$")
  message(FATAL_ERROR "${SNIPPET} must begin with `// must not compile: <sentence of the compiler's output>`")
endif()
set(sentence "${CMAKE_MATCH_1}")
file(STRINGS ${SNIPPET} first_lines LIMIT_COUNT 2)
set(options "")
if(first_lines MATCHES ";// with: (.+)$")
  separate_arguments(options UNIX_COMMAND "${CMAKE_MATCH_1}")
endif()

string(REPLACE "|" ";" system_includes "${SYSTEM_INCLUDES}")
list(TRANSFORM system_includes PREPEND -isystem)
set(compile ${COMPILER} -std=c++20 -fsyntax-only -Wall -Wextra -Wpedantic -Wconversion -Wshadow -I${INCLUDE_DIR}
            ${system_includes})

execute_process(COMMAND ${compile} -Werror -DMUST_COMPILE ${SNIPPET} RESULT_VARIABLE result ERROR_VARIABLE output)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "The twin must compile, but:\n${output}")
endif()

execute_process(COMMAND ${compile} ${options} ${SNIPPET} RESULT_VARIABLE result ERROR_VARIABLE output)
if(result EQUAL 0)
  message(FATAL_ERROR "The snippet compiles, and should have failed with: ${sentence}")
endif()
string(FIND "${output}" "${sentence}" position)
if(position EQUAL -1)
  message(FATAL_ERROR "The compiler does not say `${sentence}`, but:\n${output}")
endif()
string(REGEX MATCHALL "\n" line_ends "${output}")
list(LENGTH line_ends lines)
if(lines GREATER longest_output)
  message(FATAL_ERROR "The failure takes ${lines} lines, more than ${longest_output}:\n${output}")
endif()
message(STATUS "fails in ${lines} lines, as it must")
