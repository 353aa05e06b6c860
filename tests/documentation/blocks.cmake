# Fenced code blocks of a page.

# next_block(LANGUAGE TEXT): looks for the first block of that language in the variable TEXT. Sets `found`, and then
# `block` (the code, with its last line end) and TEXT (what follows the block). Nothing is passed as a list, so that
# brackets and semicolons stay what they are.
macro(next_block language text)
  set(found FALSE)
  string(FIND "\n${${text}}" "\n```${language}\n" begin)
  if(begin GREATER_EQUAL 0)
    string(LENGTH "```${language}\n" fence_length)
    math(EXPR begin "${begin} + ${fence_length}")
    string(SUBSTRING "${${text}}" ${begin} -1 ${text})
    string(FIND "${${text}}" "\n```\n" end)
    if(end LESS 0)
      message(FATAL_ERROR "A ```${language} block is not closed:\n${${text}}")
    endif()
    math(EXPR end "${end} + 1")
    string(SUBSTRING "${${text}}" 0 ${end} block)
    math(EXPR end "${end} + 4")
    string(SUBSTRING "${${text}}" ${end} -1 ${text})
    set(found TRUE)
  endif()
endmacro()
