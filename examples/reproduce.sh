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
# Ends with the number of the paper's claims that hold; the exit code is 0 when all of them do.
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
      sed -n '2,12s/^# \{0,1\}//p' examples/reproduce.sh
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

# Claims of an earlier run do not count.
rm -f "$out/claims.json"

number=0
broken=
skipped=
for name in $programs; do
  number=$((number + 1))
  if [ "$name" = alpha_path ] && ! has fashion_mnist; then
    say "[$number/$total] $name: skipped, its data (Debian package dataset-fashion-mnist) is not installed"
    skipped="$skipped $name"
    continue
  fi
  say "[$number/$total] $name"
  status=0
  "build/$preset/examples/$name" ${effort:+"$effort"} ${seed:+--seed "$seed"} ${threads:+--threads "$threads"} --out "$out" || status=$?
  # 1 says that a claim is violated, which claims.json tells; more than that, that the program could not finish.
  if [ "$status" -gt 1 ]; then broken="$broken $name"; fi
done

count_claims() { grep -o "\"holds\": *$1" "$out/claims.json" 2>/dev/null | wc -l | tr -d ' '; }
hold=$(count_claims true)
violated=$(count_claims false)

say ""
say "Claims: $hold hold, $violated violated. Pictures and claims.json: $out"
[ -z "$skipped" ] || say "Skipped:$skipped"
[ -z "$broken" ] || fail "Did not finish:$broken"
[ "$violated" -eq 0 ] || exit 1
[ "$hold" -gt 0 ] || fail "No program made a claim"
