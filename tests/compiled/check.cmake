# Two programs must print the same.
#
#   cmake -D FIRST=program -D SECOND=program -P check.cmake

foreach(which IN ITEMS FIRST SECOND)
  execute_process(COMMAND "${${which}}" RESULT_VARIABLE result OUTPUT_VARIABLE output_of_${which})
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${${which}} ends with ${result}")
  endif()
endforeach()
string(LENGTH "${output_of_FIRST}" length)
if(length LESS 1000)
  message(FATAL_ERROR "${FIRST} prints too little: ${output_of_FIRST}")
endif()
if(NOT output_of_FIRST STREQUAL output_of_SECOND)
  message(FATAL_ERROR "the two differ:\n${output_of_FIRST}\n\n${output_of_SECOND}")
endif()
