// must not compile: richflow: the model must have a const member `void vjp(
#include "richflow/flow/gradient_flow.hpp"

using namespace richflow;

struct Linear {
  using Scalar = double;
  Index num_parameters() const { return 2; }
  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, VectorRef<double> out) const { out = X * w; }
#ifdef MUST_COMPILE
  void vjp(ConstVectorRef<double>, ConstMatrixRef<double> X, ConstVectorRef<double> r, VectorRef<double> out) const {
    out = X.transpose() * r;
  }
#endif
};

void use(const Dataset<>& dataset) { GradientFlow flow(Linear{}, dataset); }
