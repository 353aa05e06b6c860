# Runs PROGRAM on PROCESSES processes of THREADS threads each: their table must be that of one process, and
# a full disk must end them all with an error.
file(REMOVE_RECURSE ${FOLDER})
# Open MPI asks before it runs as root or on more processes than cores; both are harmless here.
set(ENV{OMPI_ALLOW_RUN_AS_ROOT} 1)
set(ENV{OMPI_ALLOW_RUN_AS_ROOT_CONFIRM} 1)
set(ENV{OMPI_MCA_rmaps_base_oversubscribe} 1)
# It also keeps memory until the process ends, which the leak sanitizer would lay at our door.
set(ENV{ASAN_OPTIONS} "detect_leaks=0:$ENV{ASAN_OPTIONS}")

function(run processes folder)
  execute_process(COMMAND ${LAUNCHER} ${COUNT_FLAG} ${processes} ${PROGRAM} ${folder} ${THREADS} ${ARGN}
                  RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output TIMEOUT 120)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${processes} processes ended with ${result}:\n${output}")
  endif()
endfunction()

run(${PROCESSES} ${FOLDER}/many)
run(1 ${FOLDER}/one)
file(READ ${FOLDER}/many/mpi.csv many)
file(READ ${FOLDER}/one/mpi.csv one)
if(NOT many STREQUAL one)
  message(FATAL_ERROR "The table of ${PROCESSES} processes differs from that of one")
endif()
run(${PROCESSES} ${FOLDER}/full-disk full-disk)
