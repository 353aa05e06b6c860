# Doxygen's input filter for headers: typesets the formulas in /// comments, which are written as plain text in
# backquotes or in indented blocks. A text is a formula when all its words are known below and it has an operator or an
# argument; anything else, code above all, is left as it is. The number of lines does not change. With -v plain=1 all
# lines are left as they are.

BEGIN {
  split("alpha beta gamma delta epsilon eta theta lambda mu nu phi sigma", greek, " ")
  for (k in greek) known[greek[k]] = "\\" greek[k]
  split("log exp sinh cosh min max sup sqrt", functions, " ")
  for (k in functions) known[functions[k]] = "\\" functions[k]
  known["arcsinh"] = "\\operatorname{arcsinh}"
  known["diag"] = "\\operatorname{diag}"
  known["sign"] = "\\operatorname{sign}"
  known["sum"] = "\\sum"
  known["integral"] = "\\int"
  known["grad"] = "\\nabla"
  known["inf"] = known["infinity"] = "\\infty"
  known["subject"] = "\\ \\text{ subject"
  known["to"] = "to}\\ "
  split("new embedded star relative absolute out", words, " ")
  for (k in words) known[words[k]] = "\\mathrm{" words[k] "}"
  known["l1"] = "\\ell_1"
  known["l2"] = "\\ell_2"
  split("dt dy dz dw du dnu", differentials, " ")
  for (k in differentials) known[differentials[k]] = "d" substr(differentials[k], 2)
  known["dnu"] = "d\\nu"
}

# sqrt(...) with its closing parenthesis to \sqrt{...}; "" when there is none.
function close_roots(text,    at, depth, k, c) {
  while ((at = index(text, "\\sqrt(")) > 0) {
    depth = 0
    for (k = at + 5; k <= length(text); ++k) {
      c = substr(text, k, 1)
      if (c == "(") ++depth
      if (c == ")" && --depth == 0) break
    }
    if (k > length(text)) return ""
    text = substr(text, 1, at + 4) "{" substr(text, at + 6, k - at - 6) "}" substr(text, k + 1)
  }
  return text
}

# The text as TeX, or "" when it is no formula.
function tex(text,    rest, result, word, before, follower) {
  if (text !~ /[ (|^=]/ || text ~ /[][;"#%&$\\?@`]|::|log_|[0-9]e[-+]?[0-9]|[a-z]\.[a-z]|[A-Za-z0-9]\(\)|_[A-Za-z0-9]+_|_( |$)/) return ""
  # A call that writes its last argument is code.
  if (text ~ /, out\)/) return ""
  sub(/min\{ /, "min\\{", text) && sub(/ \}$/, "\\}", text)
  rest = text
  result = ""
  while (match(rest, /[A-Za-z][A-Za-z0-9]*/)) {
    before = substr(rest, 1, RSTART - 1)
    word = substr(rest, RSTART, RLENGTH)
    follower = substr(rest, RSTART + RLENGTH)
    if (before ~ /_$/ && word ~ /^[a-z][a-z]$/ && !(word in known)) word = "{" word "}"  # two indices
    else if (word in known) word = known[word]
    else if (word ~ /^[A-Za-z][0-9]+$/ && match(follower, /^_[a-z]/)) {
      word = substr(word, 1, 1) "_{" substr(word, 2) "," substr(follower, 2, 1) "}"
      follower = substr(follower, 3)
    }
    else if (word ~ /^[A-Za-z][0-9]+$/) word = substr(word, 1, 1) "_{" substr(word, 2) "}"
    else if (length(word) > 1) return ""
    if (before ~ /_$/ && word ~ /^\\mathrm/) word = "{" word "}"
    result = result before word
    rest = follower
  }
  text = close_roots(result rest)
  gsub(/_\{\\mathrm\{star\}\}/, "^\\star ", text)
  while (match(text, /\^\([^()]*\)/))
    text = substr(text, 1, RSTART) "{" substr(text, RSTART + 2, RLENGTH - 3) "}" substr(text, RSTART + RLENGTH)
  while (match(text, /\^-[A-Za-z0-9]+/))
    text = substr(text, 1, RSTART) "{" substr(text, RSTART + 1, RLENGTH - 1) "}" substr(text, RSTART + RLENGTH)
  if (text ~ /\^\(/) return ""
  while (match(text, /<[^<>=|]*, [^<>=|]*>/))
    text = substr(text, 1, RSTART - 1) "\\langle " substr(text, RSTART + 1, RLENGTH - 2) "\\rangle " substr(text, RSTART + RLENGTH)
  gsub(/<=/, "\\le ", text)
  gsub(/>=/, "\\ge ", text)
  gsub(/<-/, "\\leftarrow ", text)
  gsub(/->/, "\\to ", text)
  gsub(/ ~ /, " \\sim ", text)
  gsub(/\.\.\./, "\\ldots ", text)
  gsub(/ \* /, " \\cdot ", text)
  gsub(/\*/, "^*", text)
  gsub(/   +/, " \\qquad ", text)
  return text
}

# A comment line with its backquoted formulas typeset. A backquoted text that runs on to the next line is left alone.
function typeset_line(line,    parts, count, k, result, formula) {
  count = split(line, parts, "`")
  if (is_open || count % 2 == 0) {
    if (count % 2 == 0) is_open = !is_open
    return line
  }
  result = parts[1]
  for (k = 2; k <= count; k += 2) {
    formula = tex(parts[k])
    result = result (formula == "" ? "`" parts[k] "`" : "\\f$" formula "\\f$") parts[k + 1]
  }
  return result
}

# The indented block that has been read: typeset when every line of it is a formula.
function finish_block(    k, formulas, is_formula, begin, end) {
  if (block_size == 0) return
  is_formula = 1
  for (k = 1; k <= block_size; ++k) {
    formulas[k] = tex(substr(block[k], index(block[k], "///") + 8))
    if (formulas[k] == "") is_formula = 0
  }
  for (k = 1; k <= block_size; ++k) {
    begin = k == 1 ? "\\f[\\begin{gathered} " : ""
    end = k == block_size ? " \\end{gathered}\\f]" : " \\\\"
    print is_formula ? substr(block[k], 1, index(block[k], "///") + 3) begin formulas[k] end : block[k]
  }
  block_size = 0
}

plain {
  print
  next
}
/^ *\/\/\/     / {
  block[++block_size] = $0
  next
}
{ finish_block() }
/\/\/\// {
  at = index($0, "///")
  text = typeset_line(substr($0, at))
  gsub(/et al\.( |$)/, "et al.\\ ", text)  # no end of a sentence
  print substr($0, 1, at - 1) text
  next
}
{
  is_open = 0
  print
}
END { finish_block() }
