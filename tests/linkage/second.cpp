#include "all_headers.hpp"

double value_from_second();
double value_from_second() { return richflow::Scale<>::from_value(1).value(); }
