// Needs of the package its headers, and of what it brings Eigen's.
#include "richflow/regularizers/norms.hpp"

int main() { return richflow::l1_norm(richflow::Vector<double>::Constant(3, -2.0)) == 6.0 ? 0 : 1; }
