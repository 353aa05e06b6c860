// must not compile: richflow: the model must have a const member `void predict(
#include "richflow/flow/gradient_flow.hpp"

using namespace richflow;

#ifdef MUST_COMPILE
#define CONSTNESS const
#else
#define CONSTNESS
#endif

struct Linear {
  using Scalar = double;
  Index num_parameters() const { return 2; }
  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, VectorRef<double> out) CONSTNESS { out = X * w; }
  void vjp(ConstVectorRef<double>, ConstMatrixRef<double> X, ConstVectorRef<double> r, VectorRef<double> out) const {
    out = X.transpose() * r;
  }
};

void use(const Dataset<>& dataset) { GradientFlow flow(Linear{}, dataset); }
