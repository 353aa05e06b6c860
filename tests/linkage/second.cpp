// Macros that other headers define, such as <windows.h> and <complex.h>. (`min` and `max` are removed by the standard
// library; once that has been included, it does not survive them itself.)
#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))
#define near
#define far
#define small char
#define I (__extension__ 1.0iF)

#include "all_headers.hpp"

double value_from_second();
double value_from_second() { return richflow::Scale<>::from_value(1).value(); }
