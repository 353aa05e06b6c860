// Built against one target richflow::richflow, whoever brought it.
#include "richflow/core/scale.hpp"

int main() { return richflow::Scale<>::from_value(1).log() == 0 ? 0 : 1; }
