# All of richflow/richflow.hpp in one file, which needs Eigen alone:
#
#   cmake -D OUTPUT=richflow.hpp -P include/single_header.cmake
#
# or the target richflow_single_header of a build. Every header stands where it is included first.
cmake_minimum_required(VERSION 3.21)
if(NOT OUTPUT)
  message(FATAL_ERROR "single_header.cmake needs -D OUTPUT=FILE")
endif()
set(root ${CMAKE_CURRENT_LIST_DIR})

# Appends the header `name` and before it what it includes to `text` of the caller, unless it is there.
function(append_header name)
  get_property(known GLOBAL PROPERTY headers)
  if(name IN_LIST known)
    return()
  endif()
  set_property(GLOBAL APPEND PROPERTY headers ${name})
  file(READ ${root}/${name} rest)
  string(REPLACE "#pragma once\n" "" rest "${rest}")
  set(mark "\n#include \"richflow/")
  set(rest "\n${rest}")
  while(TRUE)
    string(FIND "${rest}" "${mark}" at)
    if(at EQUAL -1)
      break()
    endif()
    string(SUBSTRING "${rest}" 0 ${at} before)
    math(EXPR at "${at} + 11")  # behind the quote
    string(SUBSTRING "${rest}" ${at} -1 rest)
    string(FIND "${rest}" "\"" end)
    string(SUBSTRING "${rest}" 0 ${end} included)
    math(EXPR end "${end} + 1")
    string(SUBSTRING "${rest}" ${end} -1 rest)
    string(APPEND text "${before}")
    if(EXISTS ${root}/${included})
      append_header(${included})
    else()
      string(APPEND text "\n#include \"${included}\"")  # what a build may add, behind __has_include
    endif()
  endwhile()
  string(APPEND text "${rest}")
  set(text "${text}" PARENT_SCOPE)
endfunction()

file(STRINGS ${root}/richflow/version.hpp version REGEX "^#define RICHFLOW_VERSION_(MAJOR|MINOR|PATCH) [0-9]+$")
list(TRANSFORM version REPLACE "^.* " "")
list(JOIN version "." version)
file(READ ${root}/../LICENSE license)
string(REGEX REPLACE "\n+$" "" license "${license}")
string(REPLACE "\n" "\n// " license "${license}")
string(REPLACE "// \n" "//\n" license "${license}")

set(text "")
append_header(richflow/richflow.hpp)
string(REGEX REPLACE "\n\n\n+" "\n\n" text "${text}")
file(WRITE ${OUTPUT} "#pragma once\n\n// richflow ${version} in one file.\n//\n// ${license}\n${text}")
