# CITATION.cff and the newest entry of CHANGELOG.md are of the version in include/richflow/version.hpp.
# Usage: cmake -D SOURCE=folder -P version.cmake
cmake_minimum_required(VERSION 3.21)
file(STRINGS ${SOURCE}/include/richflow/version.hpp numbers REGEX "^#define RICHFLOW_VERSION_[A-Z]+ [0-9]+$")
list(TRANSFORM numbers REPLACE "^.* " "")
list(JOIN numbers "." version)
file(STRINGS ${SOURCE}/CITATION.cff cited REGEX "^version: ")
if(NOT cited STREQUAL "version: ${version}")
  message(FATAL_ERROR "CITATION.cff says `${cited}` of version ${version}")
endif()
file(STRINGS ${SOURCE}/CHANGELOG.md newest REGEX "^## " LIMIT_COUNT 1)
if(NOT "${newest} " MATCHES "^## ${version} ")
  message(FATAL_ERROR "the newest entry of CHANGELOG.md is `${newest}`, and the version ${version}")
endif()
