// must not compile: richflow reports bad input by exceptions: compile without -fno-exceptions
// with: -fno-exceptions
#include "richflow/core/scale.hpp"

int main() { return richflow::Scale<>::from_value(1).log() == 0 ? 0 : 1; }
