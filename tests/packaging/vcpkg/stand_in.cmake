# The port without vcpkg, which is on few machines: a stand-in for vcpkg's functions does what they do to the files, and
# a program finds the package where vcpkg would put it.
#
#   cmake -D SCRATCH=folder -D COMPILER=c++ -D GENERATOR=Ninja -P stand_in.cmake

cmake_minimum_required(VERSION 3.21)
set(port_folder "${CMAKE_CURRENT_LIST_DIR}/richflow")
file(REMOVE_RECURSE "${SCRATCH}")

# What vcpkg sets before it includes a portfile.
set(PORT richflow)
set(FEATURES core)
set(CURRENT_PACKAGES_DIR "${SCRATCH}/packages")
set(CURRENT_BUILDTREES_DIR "${SCRATCH}/buildtrees")

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
  if(arg_UNPARSED_ARGUMENTS OR NOT VCPKG_BUILD_TYPE STREQUAL "release")
    message(FATAL_ERROR "the port configures with `${arg_UNPARSED_ARGUMENTS}` for `${VCPKG_BUILD_TYPE}`")
  endif()
  must_run(
    "${CMAKE_COMMAND}" -G "${GENERATOR}" -S "${arg_SOURCE_PATH}" -B "${CURRENT_BUILDTREES_DIR}" ${arg_OPTIONS}
    "-DCMAKE_CXX_COMPILER=${COMPILER}" -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_LIBDIR:STRING=lib
    "-DCMAKE_INSTALL_PREFIX=${CURRENT_PACKAGES_DIR}" -DCMAKE_ERROR_ON_ABSOLUTE_INSTALL_DESTINATION=ON
    -DCMAKE_EXPORT_NO_PACKAGE_REGISTRY=ON)
  if(output MATCHES "not used by the project.*\n *RICHFLOW_")
    message(FATAL_ERROR "the port sets what the project does not know:\n${output}")
  endif()
endfunction()

function(vcpkg_cmake_install)
  must_run("${CMAKE_COMMAND}" --build "${CURRENT_BUILDTREES_DIR}" --target install)
endfunction()

# The files for find_package move to share/PORT, two folders below the prefix.
function(vcpkg_cmake_config_fixup)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" CONFIG_PATH "")
  file(GLOB files "${CURRENT_PACKAGES_DIR}/${arg_CONFIG_PATH}/*.cmake")
  foreach(file IN LISTS files)
    file(READ "${file}" text)
    set(up "get_filename_component(_IMPORT_PREFIX \"\${_IMPORT_PREFIX}\" PATH)\n")
    string(REPLACE "${up}${up}${up}" "${up}${up}" text "${text}")
    get_filename_component(name "${file}" NAME)
    file(WRITE "${CURRENT_PACKAGES_DIR}/share/${PORT}/${name}" "${text}")
  endforeach()
  file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/lib/cmake")
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
foreach(wanted IN ITEMS include/richflow/richflow.hpp include/richflow/source_hash.hpp share/richflow/copyright
                        share/richflow/richflow-config.cmake lib/pkgconfig/richflow.pc)
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
  else()
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
         "-DCMAKE_CXX_COMPILER=${COMPILER}" "-DCMAKE_PREFIX_PATH=${SCRATCH}/installed")
must_run("${CMAKE_COMMAND}" --build "${SCRATCH}/consumer")
must_run("${SCRATCH}/consumer/consumer")
