# Links between pages: awk -v root=FOLDER -f links.awk PAGE.md...
#
# - a relative link [text](path#anchor) leads to a file or folder that is there, and to a heading of the page that it names
# - a file in backquotes, as `tests/run.sh` or `models/model.hpp`, is there (in the root, or in include/richflow)
#
# Prints those that are dead and ends with 1 then. Addresses of the web are not looked at.

function report(text) {
  print FILENAME ": " text
  mistakes++
}

function exists(path) {
  if (!(path in known)) known[path] = system("test -e \"" path "\"") == 0
  return known[path]
}

# What GitHub makes of a heading.
function slug(text) {
  text = tolower(text)
  gsub(/\[|\]\([^)]*\)/, "", text)
  gsub(/[^a-z0-9 _-]/, "", text)
  gsub(/ /, "-", text)
  return text
}

function read_headings(path,    line, in_code, found, count) {
  if (path in is_read) return
  is_read[path] = 1
  while ((found = (getline line < path)) > 0) {
    if (line ~ /^```/) in_code = !in_code
    if (in_code || line !~ /^#+ /) continue
    sub(/^#+ +/, "", line)
    line = slug(line)
    count = headings[path]++
    anchors[path, line] = 1
  }
  close(path)
}

function check_link(target,    path, anchor, folder) {
  if (target ~ /^[a-z]+:/) return
  links++
  path = target
  anchor = ""
  if (match(target, /#/)) {
    path = substr(target, 1, RSTART - 1)
    anchor = substr(target, RSTART + 1)
  }
  folder = FILENAME
  if (!sub(/\/[^\/]*$/, "", folder)) folder = "."
  path = path == "" ? FILENAME : folder "/" path
  if (!exists(path)) {
    report("the link to " target " leads nowhere")
    return
  }
  if (anchor == "") return
  read_headings(path)
  if (!((path, anchor) in anchors)) report("the link to " target " names no heading")
}

FNR == 1 { in_code = 0 }
/^```/ {
  in_code = !in_code
  next
}
in_code { next }
{
  rest = $0
  # Code is no link; files in it are looked for.
  while (match(rest, /`[^`]*`/)) {
    code = substr(rest, RSTART + 1, RLENGTH - 2)
    rest = substr(rest, 1, RSTART - 1) "code" substr(rest, RSTART + RLENGTH)
    if (code ~ /^[a-z0-9_.]+(\/[a-z0-9_.]+)+\.(hpp|cpp|md|sh|cmake|py|awk|txt|in)$/ && code !~ /^build/) {
      files++
      if (!exists(root "/" code) && !exists(root "/include/" code) && !exists(root "/include/richflow/" code))
        report("there is no file " code)
    }
  }
  # A link may be broken between its words, but not between ] and (.
  while (match(rest, /\]\([^) ]+\)/)) {
    link = substr(rest, RSTART + 2, RLENGTH - 3)
    rest = substr(rest, RSTART + RLENGTH)
    check_link(link)
  }
}
END {
  FILENAME = "all pages"
  if (!links) report("no link was found")
  if (!mistakes) print links " links, " files " files: all are there"
  exit mistakes > 0
}
