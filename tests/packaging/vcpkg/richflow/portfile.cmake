# An overlay port of this checkout: vcpkg install richflow --overlay-ports=tests/packaging/vcpkg
# A port in a registry has vcpkg_from_git or vcpkg_from_github here.
get_filename_component(SOURCE_PATH "${CMAKE_CURRENT_LIST_DIR}/../../../.." ABSOLUTE)

vcpkg_check_features(OUT_FEATURE_OPTIONS features FEATURES compiled RICHFLOW_BUILD_COMPILED)
if(NOT RICHFLOW_BUILD_COMPILED)
  # Headers are the same in all configurations.
  set(VCPKG_BUILD_TYPE release)
endif()

vcpkg_cmake_configure(
  SOURCE_PATH
  "${SOURCE_PATH}"
  OPTIONS
  ${features}
  -DRICHFLOW_BUILD_TESTS=OFF
  -DRICHFLOW_BUILD_EXAMPLES=OFF
  -DRICHFLOW_BUILD_BENCHMARKS=OFF
  -DRICHFLOW_MPI=OFF)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(CONFIG_PATH lib/cmake/richflow)
vcpkg_fixup_pkgconfig()

file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug/include" "${CURRENT_PACKAGES_DIR}/debug/share"
     "${CURRENT_PACKAGES_DIR}/share/doc")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
