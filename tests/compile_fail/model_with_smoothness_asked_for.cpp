// must not compile: richflow: the model's is_smooth does not fit
#include "richflow/flow/gradient_flow.hpp"

using namespace richflow;

struct Linear {
  using Scalar = double;
  Index num_parameters() const { return 2; }
  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, VectorRef<double> out) const { out = X * w; }
  void vjp(ConstVectorRef<double>, ConstMatrixRef<double> X, ConstVectorRef<double> r, VectorRef<double> out) const {
    out = X.transpose() * r;
  }
#ifdef MUST_COMPILE
  static constexpr bool is_smooth = true;
#else
  bool is_smooth() const { return true; }
#endif
};

void use(const Dataset<>& dataset) { GradientFlow flow(Linear{}, dataset); }
