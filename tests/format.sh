#!/bin/sh
# Formats every source and header of ours, or checks that they are formatted.
#
#   sh tests/format.sh [--check]
#
# With clang-format 14, since other versions break lines elsewhere: as clang-format-14 or clang-format, or as
# CLANG_FORMAT names it.
set -eu
cd "$(dirname "$0")/.."
version=14

case ${1:-} in
  -h | --help)
    sed -n '2,7s/^# \{0,1\}//p' tests/format.sh
    exit 0
    ;;
  --check) options="--dry-run -Werror" ;;
  '') options=-i ;;
  *)
    printf 'unknown option %s (sh tests/format.sh --help)\n' "$1" >&2
    exit 1
    ;;
esac

if [ -z "${CLANG_FORMAT:-}" ]; then
  CLANG_FORMAT=clang-format
  if command -v "clang-format-$version" >/dev/null 2>&1; then CLANG_FORMAT=clang-format-$version; fi
fi
case $("$CLANG_FORMAT" --version 2>&1) in
  *"version $version."*) ;;
  *)
    printf '%s is not clang-format %s (Debian package clang-format-%s; or set CLANG_FORMAT)\n' "$CLANG_FORMAT" "$version" "$version" >&2
    exit 1
    ;;
esac

# The sources of a checkout, or of an exported tree without git's index; each ends with a NUL.
sources() {
  if git rev-parse --git-dir >/dev/null 2>&1; then
    git ls-files -z --cached --others --exclude-standard -- '*.cpp' '*.hpp'
  else
    find . \( -path ./build -o -path ./figures \) -prune -o \( -name '*.cpp' -o -name '*.hpp' \) -print0
  fi
}

# shellcheck disable=SC2086  # one or two options
sources | xargs -0 -r "$CLANG_FORMAT" $options
