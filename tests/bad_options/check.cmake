# A program that is given a seed that is no seed says so and leaves nothing behind.
#   PROGRAM; FOLDER: for the results

foreach(seed IN ITEMS 08x -1 18446744073709551616 1e3)
  file(REMOVE_RECURSE ${FOLDER})
  execute_process(COMMAND ${PROGRAM} --quick --out ${FOLDER} --seed=${seed} TIMEOUT 60 RESULT_VARIABLE result
                  OUTPUT_VARIABLE output ERROR_VARIABLE output)
  message("${output}")
  if(NOT result MATCHES "^[0-9]+$" OR result EQUAL 0)
    message(FATAL_ERROR "--seed=${seed}: exit code ${result} where an error is needed")
  endif()
  if(NOT output MATCHES "--seed '${seed}' must be a whole number in decimal digits")
    message(FATAL_ERROR "--seed=${seed}: the message does not say what is wrong")
  endif()
  if(EXISTS ${FOLDER})
    message(FATAL_ERROR "--seed=${seed}: the program made its folder all the same")
  endif()
endforeach()
