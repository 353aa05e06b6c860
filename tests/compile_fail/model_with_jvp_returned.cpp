// must not compile: richflow: the model's jvp does not fit
#include "richflow/models/evaluation.hpp"

using namespace richflow;

struct Linear {
  using Scalar = double;
  Index num_parameters() const { return 2; }
  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, VectorRef<double> out) const { out = X * w; }
  void vjp(ConstVectorRef<double>, ConstMatrixRef<double> X, ConstVectorRef<double> r, VectorRef<double> out) const {
    out = X.transpose() * r;
  }
#ifdef MUST_COMPILE
  void jvp(ConstVectorRef<double>, ConstMatrixRef<double> X, ConstVectorRef<double> v, VectorRef<double> out) const {
    out = X * v;
  }
#else
  Vector<double> jvp(ConstVectorRef<double>, ConstMatrixRef<double> X, ConstVectorRef<double> v) const { return X * v; }
#endif
};

Index use(const Linear& model) { return make_evaluation(model, 3).num_parameters(); }
