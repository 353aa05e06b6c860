# Runs COMMAND (a list separated by |), which must succeed and print what the file OUTPUT holds (anything, if that is
# empty). PAGE names the page that says so.
string(REPLACE "|" ";" command "${COMMAND}")
# Open MPI asks before it runs as root or on more processes than cores; both are harmless here. It also keeps memory
# until the process ends, which the leak sanitizer would lay at our door.
if(USES_MPI)
  set(ENV{OMPI_ALLOW_RUN_AS_ROOT} 1)
  set(ENV{OMPI_ALLOW_RUN_AS_ROOT_CONFIRM} 1)
  set(ENV{OMPI_MCA_rmaps_base_oversubscribe} 1)
  set(ENV{ASAN_OPTIONS} "detect_leaks=0:$ENV{ASAN_OPTIONS}")
endif()
# A program may write files: into a folder of its own, empty at the start.
file(REMOVE_RECURSE ${FOLDER})
file(MAKE_DIRECTORY ${FOLDER})
execute_process(COMMAND ${command} WORKING_DIRECTORY ${FOLDER} OUTPUT_VARIABLE printed RESULT_VARIABLE result)
if(NOT result EQUAL 0)
  message(FATAL_ERROR "The program ended with ${result}:\n${printed}")
endif()
file(READ ${OUTPUT} expected)
if(NOT expected STREQUAL "" AND NOT printed STREQUAL expected)
  message(FATAL_ERROR "The program printed\n${printed}\nwhere ${PAGE} says\n${expected}")
endif()
