#!/bin/sh
# Installs what is missing (where that is possible), builds the tests and runs all of them.
#
#   sh tests/run.sh [--preset NAME] [CMAKE_OPTION...]     NAME: release (default), dev, asan, tsan, fuzz, ci
set -eu
cd "$(dirname "$0")/.."
. tests/setup.sh

preset=release
case ${1:-} in
  -h | --help)
    sed -n '2,4s/^# \{0,1\}//p' tests/run.sh
    exit 0
    ;;
  --preset)
    [ $# -ge 2 ] || fail "--preset needs a name"
    preset=$2
    shift 2
    ;;
esac

needs="compiler cmake build_tool Eigen3 Catch2 multiprecision"
case $preset in
  asan) needs="$needs CLI11 nlohmann_json ZLIB" ;;
  tsan) ;;
  fuzz) needs="compiler cmake build_tool Eigen3 nlohmann_json ZLIB clang clang_runtime" ;;
  ci) needs="$needs CLI11 nlohmann_json ZLIB benchmark gnuplot fashion_mnist" ;;
  *) needs="$needs CLI11 nlohmann_json ZLIB gnuplot fashion_mnist" ;;
esac

say "richflow tests: install what is missing, configure and build in build/$preset, run."
# shellcheck disable=SC2086  # a list of words
require_all $needs
configure "$preset" "$@"
cmake --build --preset "$preset" --parallel "$(build_jobs)"
ctest --preset "$preset" --parallel "$(build_jobs)"
