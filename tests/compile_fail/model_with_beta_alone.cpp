// must not compile: richflow: the model's beta does not fit
#include "richflow/flow/gradient_flow.hpp"

using namespace richflow;

struct Linear {
  using Scalar = double;
  Index num_parameters() const { return 2; }
  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, VectorRef<double> out) const { out = X * w; }
  void vjp(ConstVectorRef<double>, ConstMatrixRef<double> X, ConstVectorRef<double> r, VectorRef<double> out) const {
    out = X.transpose() * r;
  }
  void beta(ConstVectorRef<double> w, VectorRef<double> out) const { out = w; }
#ifdef MUST_COMPILE
  Index num_inputs() const { return 2; }
#endif
};

void use(const Dataset<>& dataset) { GradientFlow flow(Linear{}, dataset); }
