// must not compile: richflow: mini-batch training and `evaluate` need a BatchModel
#include "richflow/models/linear_classifier.hpp"
#include "richflow/train/sgd.hpp"

using namespace richflow;

struct WithoutBatches {
  using Scalar = double;
  Index num_parameters() const { return 2; }
  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, VectorRef<double> out) const { out = X * w; }
  void vjp(ConstVectorRef<double>, ConstMatrixRef<double> X, ConstVectorRef<double> r, VectorRef<double> out) const {
    out = X.transpose() * r;
  }
};

#ifdef MUST_COMPILE
using ModelUnderTest = LinearClassifier<double>;
const ModelUnderTest tested(2, 2);
#else
using ModelUnderTest = WithoutBatches;
const ModelUnderTest tested{};
#endif

double use(const LabelledDataset<double>& data, const Vector<double>& w) { return evaluate(tested, w, data).loss; }
