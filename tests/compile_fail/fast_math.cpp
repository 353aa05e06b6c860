// must not compile: richflow detects NaN and infinity at run time: compile without -ffast-math / -ffinite-math-only
// with: -ffast-math
#include "richflow/core/scale.hpp"

int main() { return richflow::Scale<>::from_value(1).log() == 0 ? 0 : 1; }
