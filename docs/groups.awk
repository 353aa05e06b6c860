# Doxygen's input filter for headers: what namespace richflow has in a header of the folder F goes into the group F, which
# docs/groups.dox defines. Runs before docs/formulas.awk, which prints the lines. The number of lines does not change.

function folder(path) {
  if (path !~ /richflow\/[a-z]+\/[^\/]*$/) return ""
  sub(/\/[^\/]*$/, "", path)
  sub(/^.*\//, "", path)
  return path
}

FNR == 1 { group = folder(FILENAME) }
group != "" && /^namespace richflow(::testing)? \{$/ { $0 = $0 "  /** @addtogroup " group " */ /** @{ */" }
group != "" && /^\}  \/\/ namespace richflow(::testing)?$/ { $0 = "/** @} */ " $0 }
