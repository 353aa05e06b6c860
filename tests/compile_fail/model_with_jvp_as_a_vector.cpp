// must not compile: richflow: the model's jvp does not fit
#include "richflow/models/evaluation.hpp"

using namespace richflow;

struct TwoOutputs {
  using Scalar = double;
#ifdef MUST_COMPILE
  using Tangents = MatrixRef<double>;
#else
  using Tangents = VectorRef<double>;
#endif
  Index num_parameters() const { return 4; }
  Index num_outputs() const { return 2; }
  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, MatrixRef<double> F) const {
    for (Index k = 0; k < 2; ++k) F.col(k) = X * w.segment(2 * k, 2);
  }
  void vjp(ConstVectorRef<double>, ConstMatrixRef<double> X, ConstMatrixRef<double> G, VectorRef<double> out) const {
    for (Index k = 0; k < 2; ++k) out.segment(2 * k, 2) = X.transpose() * G.col(k);
  }
  void jvp(ConstVectorRef<double>, ConstMatrixRef<double> X, ConstVectorRef<double> v, Tangents dF) const {
    for (Index k = 0; k < dF.cols(); ++k) dF.col(k) = X * v.segment(2 * k, 2);
  }
};

Index use() { return make_evaluation(TwoOutputs{}, 3).num_outputs(); }
