// must not compile: richflow: the model must have a const member `Index num_parameters() const`
#include "richflow/flow/gradient_flow.hpp"

using namespace richflow;

struct Linear {
  using Scalar = double;
#ifdef MUST_COMPILE
  Index num_parameters() const { return 2; }
#endif
  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, VectorRef<double> out) const { out = X * w; }
  void vjp(ConstVectorRef<double>, ConstMatrixRef<double> X, ConstVectorRef<double> r, VectorRef<double> out) const {
    out = X.transpose() * r;
  }
};

void use(const Dataset<>& dataset) { GradientFlow flow(Linear{}, dataset); }
