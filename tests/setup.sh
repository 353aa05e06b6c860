# shellcheck shell=sh disable=SC2086  # needs and packages are lists of words
# Sourced by tests/run.sh, examples/reproduce.sh and .ci/run: finds out what is missing on this machine,
# installs it where that is possible, configures and builds. POSIX sh.
#
# What is there is found by asking for it (the command, the CMake package, the file), never by asking the
# package manager: software that was installed in another way is as good.

say() { printf '%s\n' "$*"; }
fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

# The Debian/Ubuntu package of a need.
package_of() {
  case $1 in
    compiler) say g++ ;;
    cmake) say cmake ;;
    build_tool) say ninja-build ;;
    Eigen3) say libeigen3-dev ;;
    Catch2) say catch2 ;;
    benchmark) say libbenchmark-dev ;;
    CLI11) say libcli11-dev ;;
    nlohmann_json) say nlohmann-json3-dev ;;
    ZLIB) say zlib1g-dev ;;
    gnuplot) say gnuplot-nox ;;
    fashion_mnist) say dataset-fashion-mnist ;;
    clang) say clang ;;
    clang_runtime) say libclang-rt-dev ;;
    clang-format) say clang-format ;;
    clang-tidy) say clang-tidy ;;
    pkg-config) say pkg-config ;;
    multiprecision | odeint) say libboost-dev ;;
    sundials) say libsundials-dev ;;
    clp) say coinor-libclp-dev ;;
    libsvm) say libsvm-dev ;;
  esac
}

# What a need is, for a reader whose system names its packages differently.
describe() {
  case $1 in
    compiler) say "a C++20 compiler (g++ 12 or clang++ 14, or newer)" ;;
    cmake) say "CMake 3.21 or newer" ;;
    build_tool) say "Ninja or Make" ;;
    clang_runtime) say "the sanitizers of clang++, and libFuzzer" ;;
    fashion_mnist) say "the Fashion-MNIST images" ;;
    multiprecision) say "Boost.Multiprecision, for the tests with 50 digits" ;;
    *) say "$1" ;;
  esac
}

# Needs without which the rest still works; their absence costs a part of the output.
is_optional() {
  case $1 in
    gnuplot | fashion_mnist | multiprecision | odeint | sundials | clp | libsvm) return 0 ;;
    *) return 1 ;;
  esac
}

has_command() { command -v "$1" >/dev/null 2>&1; }

has_cmake() {
  has_command cmake || return 1
  version=$(cmake --version | sed -n '1s/^cmake version \([0-9]*\.[0-9]*\).*/\1/p')
  [ "${version%.*}" -gt 3 ] || { [ "${version%.*}" -eq 3 ] && [ "${version#*.}" -ge 21 ]; }
}

has_compiler() {
  printf '#include <concepts>\nint main() {}\n' | ${CXX:-c++} -std=c++20 -x c++ -fsyntax-only - 2>/dev/null
}

# Only the linker knows whether clang++ has its sanitizers and libFuzzer.
has_clang_runtime() {
  printf 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }\n' |
    clang++ -fsanitize=fuzzer,address,undefined -x c++ - -o /dev/null 2>/dev/null
}

# Looks for a header without reading what it includes, which can take seconds.
compiles_include() {
  printf '#if !__has_include(<%s>)\n#error\n#endif\n' "$1" | ${CXX:-c++} -std=c++20 -x c++ -fsyntax-only - 2>/dev/null
}

# Which build tool CMake is to use: Ninja where it is there, else CMake's own choice, which is Make.
choose_generator() {
  if [ -z "${CMAKE_GENERATOR:-}" ] && has_command ninja; then
    CMAKE_GENERATOR=Ninja
    export CMAKE_GENERATOR
  fi
}

# Lets CMake look for a package, with every search path that it honours, and with the build tool that will be used.
has_cmake_package() {
  has_cmake && has_compiler || return 1
  choose_generator
  probe=$(mktemp -d) || return 1
  cat >"$probe/CMakeLists.txt" <<PROJECT
cmake_minimum_required(VERSION 3.21)
project(probe LANGUAGES CXX)
find_package($1 REQUIRED)
PROJECT
  cmake -S "$probe" -B "$probe/build" >/dev/null 2>&1
  found=$?
  rm -rf "$probe"
  return $found
}

has() {
  case $1 in
    compiler) has_compiler ;;
    cmake) has_cmake ;;
    build_tool) has_command ninja || has_command make ;;
    Eigen3 | Catch2 | benchmark | CLI11 | nlohmann_json | ZLIB) has_cmake_package "$1" ;;
    clang) has_command clang++ ;;
    clang_runtime) has_clang_runtime ;;
    gnuplot | clang-format | clang-tidy | pkg-config) has_command "$1" ;;
    fashion_mnist) [ -f /usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz ] ;;
    multiprecision) compiles_include boost/multiprecision/cpp_bin_float.hpp ;;
    odeint) compiles_include boost/numeric/odeint.hpp ;;
    sundials) compiles_include cvode/cvode.h ;;
    clp) compiles_include coin/ClpSimplex.hpp ;;
    libsvm) compiles_include libsvm/svm.h ;;
  esac
}

missing_of() {
  for need in "$@"; do
    has "$need" || printf '%s ' "$need"
  done
}

packages_of() {
  for need in "$@"; do
    package_of "$need"
  done | tr '\n' ' '
}

# How to become root for the package manager: nothing as root, `sudo -n`, or no way (fails).
root_prefix() {
  if [ "$(id -u)" -eq 0 ]; then
    say ""
  elif has_command sudo && sudo -n true 2>/dev/null; then
    say "sudo -n"
  else
    return 1
  fi
}

# apt_get PREFIX ARGUMENT...: apt-get as root, which waits while another process (a new machine updates itself for
# minutes) holds a lock: that of dpkg, that of the package lists or that of the downloads. PREFIX as `root_prefix` says.
lock_seconds=1800
apt_get() {
  apt_prefix=$1
  shift
  apt_errors=$(mktemp) || return 1
  apt_waited=0
  while :; do
    apt_status=0
    $apt_prefix env LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get -o "DPkg::Lock::Timeout=10" "$@" \
      2>"$apt_errors" || apt_status=$?
    if [ "$apt_status" -eq 0 ] || [ "$apt_waited" -ge "$lock_seconds" ] ||
      ! grep -q -e 'Could not get lock' -e 'Unable to lock' -e 'Unable to acquire the dpkg frontend lock' "$apt_errors"; then
      break
    fi
    [ "$apt_waited" -gt 0 ] || say "Another process holds the lock of apt: waiting for it, at most $((lock_seconds / 60)) minutes."
    sleep "${APT_LOCK_POLL_SECONDS:-5}"
    apt_waited=$((apt_waited + 15))
  done
  cat "$apt_errors" >&2
  rm -f "$apt_errors"
  return "$apt_status"
}

# require_all NEED...: afterwards every need that is not optional is there, or the script has ended with
# a list of what is missing.
require_all() {
  missing=$(missing_of "$@")
  if [ -z "$missing" ]; then
    say "Everything needed is installed."
    return 0
  fi
  packages=$(packages_of $missing)
  if has_command apt-get && prefix=$(root_prefix); then
    say "Missing:  $missing"
    say "Running:  ${prefix:+$prefix }apt-get update && ${prefix:+$prefix }apt-get install --no-install-recommends $packages"
    apt_get "$prefix" update -qq ||
      say "apt-get update failed; continuing with the package lists that are here."
    # One optional package that the system does not offer must not keep the others from being installed.
    apt_get "$prefix" install -y -qq --no-install-recommends $packages ||
      for package in $packages; do
        apt_get "$prefix" install -y -qq --no-install-recommends "$package" ||
          say "Could not install $package."
      done
    missing=$(missing_of $missing)
  else
    say "Not root (and no password-less sudo), or no apt-get: nothing can be installed from here."
  fi

  blocking=
  for need in $missing; do
    if is_optional "$need"; then
      say "Continuing without $(describe "$need") (Debian package $(package_of "$need"))."
    else
      blocking="$blocking $need"
      say "Missing: $(describe "$need") (Debian package $(package_of "$need"))" >&2
    fi
  done
  [ -z "$blocking" ] || fail "On Debian or Ubuntu: apt-get install $(packages_of $blocking)"
}

# As many compilations at a time as there are cores, and 1.5 GB of memory for each.
build_jobs() {
  cores=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || say 1)
  by_memory=$(awk '/^MemAvailable:/ { print int($2 / 1500000) }' /proc/meminfo 2>/dev/null)
  if [ -n "$by_memory" ] && [ "$by_memory" -lt "$cores" ]; then cores=$by_memory; fi
  [ "$cores" -ge 1 ] || cores=1
  say "$cores"
}

# configure PRESET [CMAKE_OPTION...], in the source folder. A folder that was configured before keeps its build tool.
configure() {
  case $(pwd) in
    *[\"\;\\\$]*)
      fail "CMake cannot build in a folder with a double quote, a semicolon, a backslash or a dollar sign in its path: $(pwd)"
      ;;
  esac
  say "Configuring build/$1"
  preset=$1
  shift
  configured=$(sed -n 's/^CMAKE_GENERATOR:INTERNAL=//p' "build/$preset/CMakeCache.txt" 2>/dev/null) || configured=
  case $configured in
    Ninja) has_command ninja || configured= ;;
    "Unix Makefiles") has_command make || configured= ;;
  esac
  if [ -n "$configured" ]; then
    CMAKE_GENERATOR=$configured
    export CMAKE_GENERATOR
  else
    rm -rf "build/$preset/CMakeCache.txt" "build/$preset/CMakeFiles"
    choose_generator
  fi
  cmake --preset "$preset" "$@"
}
