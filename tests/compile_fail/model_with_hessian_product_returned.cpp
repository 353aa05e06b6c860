// must not compile: richflow: the model's hessian_product does not fit
#include "richflow/models/evaluation.hpp"

using namespace richflow;

struct Quadratic {
  using Scalar = double;
  Index num_parameters() const { return 2; }
  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, VectorRef<double> out) const {
    out = X * w.cwiseAbs2();
  }
  void vjp(ConstVectorRef<double> w, ConstMatrixRef<double> X, ConstVectorRef<double> r, VectorRef<double> out) const {
    out = 2 * w.cwiseProduct(X.transpose() * r);
  }
#ifdef MUST_COMPILE
  void hessian_product(ConstVectorRef<double>, ConstMatrixRef<double> X, ConstVectorRef<double> r,
                       ConstVectorRef<double> v, VectorRef<double> out) const {
    out = 2 * v.cwiseProduct(X.transpose() * r);
  }
#else
  Vector<double> hessian_product(ConstVectorRef<double>, ConstMatrixRef<double> X, ConstVectorRef<double> r,
                                 ConstVectorRef<double> v) const {
    return 2 * v.cwiseProduct(X.transpose() * r);
  }
#endif
};

Index use() { return make_evaluation(Quadratic{}, 3).num_outputs(); }
