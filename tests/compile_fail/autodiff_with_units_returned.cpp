// must not compile: richflow: the function's units do not fit
#include <span>

#include "richflow/models/autodiff.hpp"

using namespace richflow;

struct Product {
  Index num_parameters() const { return 2; }
  template <class T>
  T predict(std::span<const T> w, std::span<const double> x) const {
    return w[0] * w[1] * x[0];
  }
  Index num_units() const { return 2; }
#ifdef MUST_COMPILE
  void unit_square_norms(ConstVectorRef<double> v, VectorRef<double> out) const { out = v.cwiseAbs2(); }
#else
  Vector<double> unit_square_norms(ConstVectorRef<double> v) const { return v.cwiseAbs2(); }
#endif
};

Index use() { return Autodiff(Product{}).num_parameters(); }
