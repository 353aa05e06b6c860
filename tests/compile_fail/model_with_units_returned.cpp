// must not compile: richflow: the model's units do not fit
#include "richflow/flow/gradient_flow.hpp"

using namespace richflow;

struct Linear {
  using Scalar = double;
  Index num_parameters() const { return 2; }
  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, VectorRef<double> out) const { out = X * w; }
  void vjp(ConstVectorRef<double>, ConstMatrixRef<double> X, ConstVectorRef<double> r, VectorRef<double> out) const {
    out = X.transpose() * r;
  }
  Index num_units() const { return 2; }
#ifdef MUST_COMPILE
  void unit_square_norms(ConstVectorRef<double> v, VectorRef<double> out) const { out = v.cwiseAbs2(); }
#else
  Vector<double> unit_square_norms(ConstVectorRef<double> v) const { return v.cwiseAbs2(); }
#endif
};

void use(const Dataset<>& dataset) { GradientFlow flow(Linear{}, dataset); }
