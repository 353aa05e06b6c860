# awk -f docs/groups.awk -f tests/documentation/groups.awk HEADER...
# Whether all that a header of the folder F declares is in the group F of the reference, as docs/groups.awk opens it.
# What is in a namespace detail is not in the reference.

function wrong(text) {
  print file ":" line ": " text
  ++num_wrong
}
function finish() {
  if (inside != "") wrong("the group " inside " has no end")
}

FNR == 1 {
  if (file != "") finish()
  inside = hidden = ""
  file = FILENAME
  num_parts = split(file, parts, "/")
  expected = parts[num_parts - 1]
}
{ line = FNR }
match($0, /@addtogroup [^ ]*/) {
  if (inside != "") wrong("the group " inside " has no end")
  inside = substr($0, RSTART + 12, RLENGTH - 12)
  if (inside != expected) wrong("the group " inside " is not that of the folder " expected)
  ++num_groups
  next
}
/@\}/ {
  inside = ""
  next
}
/^namespace (Eigen|richflow::(testing::)?detail) \{$/ {
  hidden = $2
  next
}
/^\}  \/\/ namespace / && $4 == hidden { hidden = "" }
inside == "" && hidden == "" &&
    /^(template|class|struct|enum|union|concept|using|inline|constexpr|static|extern|namespace|\[\[)/ {
  wrong("this is in no group: " $0)
}
END {
  finish()
  print ARGC - 1 " headers, " num_groups " parts of groups" (num_wrong ? ", " num_wrong " mistakes" : ": each is that of its folder")
  exit num_wrong > 0 || num_groups == 0
}
