// Needs of the package its headers, and of what it brings Eigen's.
#include "richflow/regularizers/norms.hpp"

#ifdef RICHFLOW_COMPILED
// An engine that is declared here and defined in the library alone.
#include "richflow/minimizers/l1_certificate.hpp"

bool has_engines() {
  const richflow::Vector<double> ones = richflow::Vector<double>::Ones(1);
  const richflow::Dataset<double> data(richflow::Matrix<double>::Identity(1, 1), ones);
  return richflow::certify_l1(data, ones, ones, ones, ones).duality_gap == 0.0;
}
#else
bool has_engines() { return true; }
#endif

int main() { return has_engines() && richflow::l1_norm(richflow::Vector<double>::Constant(3, -2.0)) == 6.0 ? 0 : 1; }
