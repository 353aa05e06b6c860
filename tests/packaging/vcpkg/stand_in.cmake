# The port without vcpkg, which is on few machines: a stand-in for vcpkg's functions does what they do to the files, and
# a program finds the package where vcpkg would put it.
#
#   cmake -D SCRATCH=folder -D COMPILER=c++ -D GENERATOR=Ninja -P stand_in.cmake
#
# With -D COMPILED=file it is the port with the feature `compiled`. The file is the library that another build of the
# same sources has made, with FLAGS: the port configures, installs and moves, and need not compile for minutes.

cmake_minimum_required(VERSION 3.21)
set(port_folder "${CMAKE_CURRENT_LIST_DIR}/richflow")
file(REMOVE_RECURSE "${SCRATCH}")

# What vcpkg sets before it includes a portfile.
set(PORT richflow)
set(FEATURES core)
if(COMPILED)
  list(APPEND FEATURES compiled)
endif()
set(CURRENT_PACKAGES_DIR "${SCRATCH}/packages")
set(build_types Release)
set(build_Release "${SCRATCH}/buildtrees/rel")
set(prefix_Release "${CURRENT_PACKAGES_DIR}")
if(COMPILED)
  list(APPEND build_types Debug)
  set(build_Debug "${SCRATCH}/buildtrees/dbg")
  set(prefix_Debug "${CURRENT_PACKAGES_DIR}/debug")
endif()

function(must_run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${ARGN}\nends with ${result}:\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

function(vcpkg_check_features)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" OUT_FEATURE_OPTIONS FEATURES)
  set(options "")
  while(arg_FEATURES)
    list(POP_FRONT arg_FEATURES feature variable)
    set(value OFF)
    if(feature IN_LIST FEATURES)
      set(value ON)
    endif()
    list(APPEND options -D${variable}=${value})
    set(${variable} ${value} PARENT_SCOPE)
  endwhile()
  set(${arg_OUT_FEATURE_OPTIONS} ${options} PARENT_SCOPE)
endfunction()

# vcpkg configures a debug build too, unless VCPKG_BUILD_TYPE says release, and refuses options that a project does not
# know.
function(vcpkg_cmake_configure)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" SOURCE_PATH OPTIONS)
  set(wanted_type release)
  if(COMPILED)
    set(wanted_type "")
  endif()
  if(arg_UNPARSED_ARGUMENTS OR NOT "${VCPKG_BUILD_TYPE}" STREQUAL "${wanted_type}")
    message(FATAL_ERROR "the port configures with `${arg_UNPARSED_ARGUMENTS}` for `${VCPKG_BUILD_TYPE}`")
  endif()
  foreach(type IN LISTS build_types)
    must_run(
      "${CMAKE_COMMAND}" -G "${GENERATOR}" -S "${arg_SOURCE_PATH}" -B "${build_${type}}" ${arg_OPTIONS}
      "-DCMAKE_CXX_COMPILER=${COMPILER}" -DCMAKE_BUILD_TYPE=${type} -DCMAKE_INSTALL_LIBDIR:STRING=lib
      "-DCMAKE_INSTALL_PREFIX=${prefix_${type}}" -DCMAKE_ERROR_ON_ABSOLUTE_INSTALL_DESTINATION=ON
      -DCMAKE_EXPORT_NO_PACKAGE_REGISTRY=ON)
    if(output MATCHES "not used by the project.*\n *RICHFLOW_")
      message(FATAL_ERROR "the port sets what the project does not know:\n${output}")
    endif()
  endforeach()
endfunction()

function(vcpkg_cmake_install)
  foreach(type IN LISTS build_types)
    if(COMPILED)
      file(COPY "${COMPILED}" DESTINATION "${build_${type}}")
      must_run("${CMAKE_COMMAND}" --install "${build_${type}}")
    else()
      must_run("${CMAKE_COMMAND}" --build "${build_${type}}" --target install)
    endif()
  endforeach()
endfunction()

# The files for find_package move to share/PORT, two folders below the prefix; what the debug build says of itself, too.
function(vcpkg_cmake_config_fixup)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" CONFIG_PATH "")
  file(GLOB files "${CURRENT_PACKAGES_DIR}/${arg_CONFIG_PATH}/*.cmake"
       "${CURRENT_PACKAGES_DIR}/debug/${arg_CONFIG_PATH}/*-debug.cmake")
  foreach(file IN LISTS files)
    file(READ "${file}" text)
    set(up "get_filename_component(_IMPORT_PREFIX \"\${_IMPORT_PREFIX}\" PATH)\n")
    string(REPLACE "${up}${up}${up}" "${up}${up}" text "${text}")
    get_filename_component(name "${file}" NAME)
    if(name MATCHES "-debug[.]cmake$")
      string(REPLACE "\${_IMPORT_PREFIX}/" "\${_IMPORT_PREFIX}/debug/" text "${text}")
    endif()
    file(WRITE "${CURRENT_PACKAGES_DIR}/share/${PORT}/${name}" "${text}")
  endforeach()
  file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/lib/cmake" "${CURRENT_PACKAGES_DIR}/debug/lib/cmake")
endfunction()

# It makes absolute paths relative: there must be none.
function(vcpkg_fixup_pkgconfig)
endfunction()

function(vcpkg_install_copyright)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "" FILE_LIST)
  file(INSTALL "${arg_FILE_LIST}" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}" RENAME copyright)
endfunction()

include("${port_folder}/portfile.cmake")

# What vcpkg looks for after a port has been built.
file(GLOB_RECURSE installed LIST_DIRECTORIES TRUE RELATIVE "${CURRENT_PACKAGES_DIR}" "${CURRENT_PACKAGES_DIR}/*")
set(all_wanted include/richflow/richflow.hpp include/richflow/source_hash.hpp share/richflow/copyright
               share/richflow/richflow-config.cmake lib/pkgconfig/richflow.pc)
if(COMPILED)
  get_filename_component(archive "${COMPILED}" NAME)
  list(APPEND all_wanted lib/${archive} debug/lib/${archive} lib/pkgconfig/richflow-compiled.pc
       debug/lib/pkgconfig/richflow-compiled.pc share/richflow/richflow-targets-debug.cmake)
endif()
foreach(wanted IN LISTS all_wanted)
  if(NOT wanted IN_LIST installed)
    message(FATAL_ERROR "the port installs no ${wanted}")
  endif()
endforeach()
foreach(entry IN LISTS installed)
  set(path "${CURRENT_PACKAGES_DIR}/${entry}")
  if(IS_DIRECTORY "${path}")
    file(GLOB inside "${path}/*")
    if(NOT inside)
      message(FATAL_ERROR "the port leaves the empty folder ${entry}")
    endif()
  elseif(NOT entry MATCHES "[.]a$") # whose debug information names its sources
    file(READ "${path}" text)
    string(FIND "${text}" "${SCRATCH}" absolute)
    if(NOT absolute EQUAL -1)
      message(FATAL_ERROR "${entry} names the folder ${SCRATCH}")
    endif()
  endif()
endforeach()

# vcpkg copies the files of a package into a tree with those of others.
file(RENAME "${CURRENT_PACKAGES_DIR}" "${SCRATCH}/installed")
must_run("${CMAKE_COMMAND}" -G "${GENERATOR}" -S "${CMAKE_CURRENT_LIST_DIR}/../consumer" -B "${SCRATCH}/consumer"
         "-DCMAKE_CXX_COMPILER=${COMPILER}" "-DCMAKE_PREFIX_PATH=${SCRATCH}/installed" "-DCMAKE_CXX_FLAGS=${FLAGS}"
         -DCMAKE_BUILD_TYPE=Release)
if(COMPILED)
  must_run("${CMAKE_COMMAND}" -DLIBRARY=richflow::compiled "${SCRATCH}/consumer")
endif()
must_run("${CMAKE_COMMAND}" --build "${SCRATCH}/consumer")
must_run("${SCRATCH}/consumer/consumer")
