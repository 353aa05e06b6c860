#!/bin/sh
# Installs what is missing (where that is possible), builds the programs and draws every figure.
#
#   sh examples/reproduce.sh [--quick | --full] [--out DIR] [--seed S] [--threads N] [--preset NAME]
#
# --quick    a reduced run of all figures in about a minute; --full: the paper's own protocol
# --out      the folder for pictures, tables and claims.json (default: figures)
# --seed     of every random draw (default: that of the programs)
# --threads  threads of each program (default: all cores)
# --preset   the build to use (default: release)
#
# Ends with the number of the paper's claims that hold, and a page with all figures, index.html; the exit code is 0 when
# all of them do. After an interruption the same command goes on where it was.
set -eu
called_from=$(pwd)
cd "$(dirname "$0")/.."
. .ci/setup.sh

preset=release
out=$(pwd)/figures
effort=
seed=
threads=
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help)
      sed -n '2,13s/^# \{0,1\}//p' examples/reproduce.sh
      exit 0
      ;;
    --quick | --full) effort=$1 ;;
    --out | --seed | --threads | --preset)
      [ $# -ge 2 ] || fail "$1 needs a value"
      case $1 in
        --seed) seed=$2 ;;
        --threads) threads=$2 ;;
        --preset) preset=$2 ;;
        --out)
          case $2 in
            /*) out=$2 ;;
            *) out=$called_from/$2 ;;
          esac
          ;;
      esac
      shift
      ;;
    *) fail "unknown option $1 (sh examples/reproduce.sh --help)" ;;
  esac
  shift
done

say "richflow figures: install what is missing, build in build/$preset, write to $out."
require_all compiler cmake build_tool Eigen3 CLI11 nlohmann_json ZLIB gnuplot fashion_mnist
# The presets also build the tests, which need more than the figures do.
tests=ON
has Catch2 || tests=OFF
configure "$preset" -DRICHFLOW_BUILD_TESTS=$tests
cmake --build --preset "$preset" --parallel "$(build_jobs)" --target richflow_examples

programs=
total=0
for program in "build/$preset/examples/"fig*_* "build/$preset/examples/alpha_path"; do
  if [ ! -f "$program" ] || [ ! -x "$program" ]; then continue; fi
  programs="$programs $(basename "$program")"
  total=$((total + 1))
done
[ "$total" -gt 0 ] || fail "No programs in build/$preset/examples"

# What was asked for, and then the programs that have finished: there only while a run is under way.
state=$out/.reproduce
asked="effort=$effort seed=$seed preset=$preset"
mkdir -p "$out" || fail "Cannot make the folder $out"
resume=
if [ -f "$state" ] && [ "$(sed -n 1p "$state")" = "$asked" ]; then
  resume=--resume
  say "Going on with the interrupted run in $out."
else
  # Claims of an earlier run do not count.
  rm -f "$out/claims.json"
  printf '%s\n' "$asked" >"$state" || fail "Cannot write into $out"
fi

# run_program NAME [OPTION...]
run_program() {
  name=$1
  shift
  status=0
  "build/$preset/examples/$name" ${effort:+"$effort"} ${seed:+--seed "$seed"} ${threads:+--threads "$threads"} --out "$out" "$@" || status=$?
}

number=0
broken=
skipped=
begin=$(date +%s)
for name in $programs; do
  number=$((number + 1))
  if [ -n "$resume" ] && sed 1d "$state" | grep -qx "$name"; then
    say "[$number/$total] $name: done before the interruption"
    continue
  fi
  if [ "$name" = alpha_path ] && ! has fashion_mnist; then
    say "[$number/$total] $name: skipped, its data (Debian package dataset-fashion-mnist) is not installed"
    skipped="$skipped $name"
    continue
  fi
  say "[$number/$total] $name (after $(($(date +%s) - begin)) s)"
  if [ -n "$resume" ] && "build/$preset/examples/$name" --help | grep -q -e --resume; then
    run_program "$name" --resume
    if [ "$status" -eq 2 ]; then
      say "[$number/$total] $name cannot go on where it was, and starts anew"
      run_program "$name"
    fi
  else
    run_program "$name"
  fi
  # 1 says that a claim is violated, which claims.json tells; more than that, that the program could not finish. A
  # signal ends it all: the next run goes on from here.
  [ "$status" -lt 128 ] || fail "$name was interrupted; run this again to go on"
  if [ "$status" -gt 1 ]; then broken="$broken $name"; else printf '%s\n' "$name" >>"$state"; fi
done
rm -f "$state"
"build/$preset/examples/report" --out "$out" || broken="$broken report"

count_claims() { grep -o "\"holds\": *$1" "$out/claims.json" 2>/dev/null | wc -l | tr -d ' '; }
hold=$(count_claims true)
violated=$(count_claims false)

say ""
say "Claims: $hold hold, $violated violated. Report: $out/index.html"
[ -z "$skipped" ] || say "Skipped:$skipped"
[ -z "$broken" ] || fail "Did not finish:$broken"
[ "$violated" -eq 0 ] || exit 1
[ "$hold" -gt 0 ] || fail "No program made a claim"
