// must not compile: richflow: the model's forward_jvp does not fit
#include "richflow/models/linear_classifier.hpp"
#include "richflow/train/sgd.hpp"

using namespace richflow;

struct Tested : LinearClassifier<double> {
  using LinearClassifier<double>::LinearClassifier;
#ifndef MUST_COMPILE
  Matrix<double> forward_jvp(ConstMatrixRef<double> X) const { return X; }
#endif
};

double use(const LabelledDataset<double>& data, const Vector<double>& w) {
  return evaluate(Tested(2, 2), w, data).loss;
}
