# Names the ```cpp blocks of a page that have more than `most` lines, without blank ones.
# Usage: awk -v most=24 -f lengths.awk PAGE
/^```cpp$/ { in_block = 1; start = FNR; lines = 0; next }
/^```$/ && in_block {
  in_block = 0
  ++blocks
  if (lines > most) {
    printf "%s:%d: a program of %d lines, more than %d\n", FILENAME, start, lines, most
    failed = 1
  }
}
in_block && !/^ *$/ { ++lines }
END {
  if (!failed) printf "%d programs of at most %d lines\n", blocks, most
  exit failed
}
