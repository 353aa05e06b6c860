# A program that is given a seed that is no seed says so and leaves nothing behind. For other bad values of what it lists
# in its help, and a folder that cannot be made, its message names the option to change.
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

# must_name(option value): FOLDER is for the results, unless the option is that folder.
function(must_name option value)
  set(arguments --quick --out=${FOLDER} --${option}=${value})
  if(option STREQUAL "out")
    set(arguments --quick --out=${value})
  endif()
  execute_process(COMMAND ${PROGRAM} ${arguments} TIMEOUT 60 RESULT_VARIABLE result OUTPUT_VARIABLE output
                  ERROR_VARIABLE output)
  if(NOT result MATCHES "^[0-9]+$" OR result EQUAL 0 OR NOT output MATCHES "--${option}[^a-z0-9-]")
    message(FATAL_ERROR "--${option}=${value}: exit code ${result}, and a message that should name the option:\n${output}")
  endif()
endfunction()

execute_process(COMMAND ${PROGRAM} --help OUTPUT_VARIABLE help COMMAND_ERROR_IS_FATAL ANY)
foreach(bad IN ITEMS threads=x shard=3/2 data=nowhere alpha=0 alphas=0 alpha2=0 widths=0)
  string(REPLACE "=" ";" bad ${bad})
  list(GET bad 0 option)
  if(help MATCHES "--${option} ")
    must_name(${bad})
  endif()
endforeach()
file(REMOVE_RECURSE ${FOLDER})
file(WRITE ${FOLDER} "")
must_name(out ${FOLDER}/below_a_file)
file(REMOVE ${FOLDER})
