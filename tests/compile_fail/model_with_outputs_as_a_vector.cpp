// must not compile: richflow: the model's outputs do not fit
#include "richflow/train/sgd.hpp"

using namespace richflow;

struct TwoOutputs {
  using Scalar = double;
#ifdef MUST_COMPILE
  using Outputs = MatrixRef<double>;
#else
  using Outputs = VectorRef<double>;
#endif
  Index num_parameters() const { return 4; }
  Index num_outputs() const { return 2; }
  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, Outputs F) const {
    for (Index k = 0; k < F.cols(); ++k) F.col(k) = X * w.segment(2 * k, 2);
  }
  void vjp(ConstVectorRef<double>, ConstMatrixRef<double> X, ConstMatrixRef<double> G, VectorRef<double> out) const {
    for (Index k = 0; k < G.cols(); ++k) out.segment(2 * k, 2) = X.transpose() * G.col(k);
  }
};

double use(const LabelledDataset<double>& data, const Vector<double>& w) {
  return evaluate(TwoOutputs{}, w, data).loss;
}
