// Every header in two translation units of one program: a function that is not inline would be defined twice.
#include "all_headers.hpp"

double value_from_second();

int main() { return richflow::Scale<>::from_log(0).value() == value_from_second() ? 0 : 1; }
