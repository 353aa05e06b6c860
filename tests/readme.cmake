# Runs PROGRAM, which must succeed and print what the file OUTPUT holds (anything, if that is empty).
execute_process(COMMAND ${PROGRAM} OUTPUT_VARIABLE printed RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "The program ended with ${result}:\n${printed}")
endif()
file(READ ${OUTPUT} expected)
if(NOT expected STREQUAL "" AND NOT printed STREQUAL expected)
  message(FATAL_ERROR "The program printed\n${printed}\nwhere README.md says\n${expected}")
endif()
