# What the headers cite is on the page of the theory: awk -f citations.awk docs/theory.md HEADER...
#
# - "docs/theory.md, section 2.2" (or "sections 2.2 and 3.2") names a heading of the page
# - "Woodworth et al. 2020, Theorem 1" (equation, section, figure, appendix) is in a row of its table of the paper
# - an author and a year, as in "Pesme et al. 2021", are on one line of its references
#
# Prints what is missing and ends with 1 then. The headers must cite at least one of each.

function report(text) {
  print current ": " text
  mistakes++
}

# The comments of a header are one line: a citation may be broken anywhere.
function check_header(    rest, cited, name, year, count, parts, i, kind, number) {
  gsub(/[ \t]+/, " ", comment)
  rest = comment
  while (match(rest, /docs\/theory\.md, sections? [0-9]+(\.[0-9]+)?((,| and|, and) [0-9]+\.[0-9]+)*/)) {
    cited = substr(rest, RSTART + length("docs/theory.md, "), RLENGTH - length("docs/theory.md, "))
    rest = substr(rest, RSTART + RLENGTH)
    count = split(cited, parts, /[^0-9.]+/)
    for (i = 1; i <= count; ++i) {
      sub(/\.$/, "", parts[i])
      if (parts[i] == "") continue
      sections_cited++
      if (!(parts[i] in heading)) report("section " parts[i] " is not on the page of the theory")
    }
  }
  # The paper's own numbers, in either case of the first letter.
  rest = tolower(comment)
  while (match(rest, /woodworth et al\. \(?2020\)?, ((and )?(theorem|equations?|section|figure|appendix) \(?[0-9a-z]\)?( and \([0-9]\))?(, | and )?)+/)) {
    cited = substr(rest, RSTART, RLENGTH)
    rest = substr(rest, RSTART + RLENGTH)
    sub(/equations \(/, "equation (", cited)
    sub(/\) and \(/, ") and equation (", cited)
    while (match(cited, /(theorem|equation|section|figure|appendix)s? \(?[0-9a-z]/)) {
      kind = substr(cited, RSTART, RLENGTH)
      cited = substr(cited, RSTART + RLENGTH)
      number = substr(kind, length(kind))
      sub(/s? .*/, "", kind)
      paper_cited++
      if (!((kind " " number) in of_paper)) report("the paper's " kind " " number " is not in the table of the theory")
    }
  }
  rest = comment
  while (match(rest, /[A-Z][A-Za-z]+( et al\.)?,? \(?(19|20)[0-9][0-9][^0-9]/)) {
    cited = substr(rest, RSTART, RLENGTH - 1)
    rest = substr(rest, RSTART + RLENGTH - 1)
    name = cited
    sub(/[^A-Za-z].*/, "", name)
    year = substr(cited, length(cited) - 3)
    authors_cited++
    if (!is_reference(name, year)) report(name " " year " is not among the references of the theory")
  }
}

function is_reference(name, year,    i) {
  for (i = 1; i <= num_references; ++i)
    if (index(references[i], name) && index(references[i], year)) return 1
  return 0
}

FNR == 1 && NR > 1 && comment != "" { check_header() }
FNR == 1 {
  current = FILENAME
  comment = ""
}

# The page.
NR == FNR && /^##+ [0-9]/ {
  number = $2
  sub(/\.$/, "", number)
  heading[number] = 1
  in_references = /References/
}
NR == FNR && in_references && /^- / { references[++num_references] = $0 }
NR == FNR && /^\| .*\| sections? [0-9]/ {
  split(tolower($0), cells, "|")
  rest = cells[2]
  while (match(rest, /(theorem|equation|section|figure|appendix) \(?[0-9a-z]/)) {
    kind = substr(rest, RSTART, RLENGTH)
    rest = substr(rest, RSTART + RLENGTH)
    sub(/\(/, "", kind)
    of_paper[kind] = 1
  }
  row = cells[3]
  gsub(/[^0-9., ]/, "", row)
  count = split(row, parts, /[, ]+/)
  for (i = 1; i <= count; ++i)
    if (parts[i] != "") row_sections[parts[i]] = $0
}

# The headers.
NR != FNR && /\/\// {
  line = $0
  sub(/^.*\/\/[\/!<]*/, "", line)
  comment = comment " " line
}

END {
  check_header()
  current = "docs/theory.md"
  for (number in row_sections)
    if (!(number in heading)) report("the table names section " number ", which is not there")
  current = "the headers"
  if (!sections_cited) report("no section of the theory is cited")
  if (!paper_cited) report("no statement of the paper is cited")
  if (!authors_cited) report("no author is cited")
  if (!mistakes) print sections_cited " sections, " paper_cited " statements of the paper, " authors_cited " authors: all are there"
  exit mistakes > 0
}
