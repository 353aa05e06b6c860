# Of the indented blocks in the comments of headers, one source that must compile: a namespace for each header, in which
# its blocks stand in their order. Definitions are as they are; statements are in a function, and lines that are one
# without its semicolon get it. Formulas are left out: what has a power, a sum, a derivative or a factor without a sign.
# Names that a block only uses are declared in header_programs.hpp.
#
#   awk -f header_programs.awk HEADER... > programs.cpp
#
# The last line counts the programs and the formulas.

function is_formula(text) {
  return text ~ /\^|sum_[a-z]|phi_[0-9]|[A-Za-z]' = |lambda_max\(|[0-9] \(| = -grad |A_\{|log A_/
}

# Brackets open at the end of the line, without what is in quotation marks.
function opened(line, count) {
  gsub(/"[^"]*"|'\\?.'/, "", line)
  count = gsub(/[([{]/, "", line)
  return count - gsub(/[])}]/, "", line)
}

BEGIN { print "#include \"header_programs.hpp\"" }

function leave_function() {
  if (in_function) print "}"
  in_function = 0
}

function emit_block(i, line, bare, depth, in_definition, is_program, first) {
  if (count == 0) return
  if (is_formula(block)) {
    ++formulas
    count = 0
    return
  }
  ++programs
  if (!in_namespace) print "namespace names::header_" ++headers " {"
  in_namespace = 1
  is_program = block ~ /int main\(/
  for (i = 1; i <= count; ++i) {
    line = lines[i]
    if (is_program && line ~ /^#include/) continue
    sub(/int main\(/, "template <class> int program(", line)
    bare = line
    sub(/ *\/\/ .*$/, "", bare)
    first = depth == 0 && bare != ""
    if (first && !in_definition && (is_program || bare ~ /^(struct|class|template)/)) {
      leave_function()
      in_definition = 1
    }
    if (first && !in_definition && !in_function) {
      print "template <class> void block_" programs "() {"
      in_function = 1
    }
    depth += opened(bare)
    if (depth == 0 && !in_definition && bare ~ /[])}A-Za-z0-9_]$/ && bare !~ /^(#|for \()/) bare = bare ";"
    print "#line " numbers[i] " \"" file "\""
    print bare
    if (depth == 0 && bare ~ /[;}]$/ && !is_program) in_definition = 0
  }
  leave_function()
  count = 0
}

function leave_file() {
  emit_block()
  if (in_namespace) print "}"
  in_namespace = 0
}

FNR == 1 {
  leave_file()
  file = FILENAME
}

/^ *\/\/\/     +[^ ]/ {
  if (count == 0) block = ""
  text = $0
  sub(/^ *\/\/\/     /, "", text)
  # What a comment of the program says is no formula of it.
  bare = text
  sub(/ *\/\/ .*$/, "", bare)
  block = block bare "\n"
  lines[++count] = text
  numbers[count] = FNR
  next
}

# An empty line of the comment may be one of the block.
/^ *\/\/\/ *$/ { next }

{ emit_block() }

END {
  leave_file()
  print "// " programs " programs, " formulas " formulas"
}
