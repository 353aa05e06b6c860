// must not compile: richflow: the model must have a const member `void vjp
#include "richflow/models/linear_classifier.hpp"
#include "richflow/train/sgd.hpp"

using namespace richflow;

struct WithoutVjp {
  using Scalar = double;
  Index num_parameters() const { return 4; }
  Index num_outputs() const { return 2; }
  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, MatrixRef<double> F) const {
    for (Index k = 0; k < 2; ++k) F.col(k) = X * w.segment(2 * k, 2);
  }
};

#ifdef MUST_COMPILE
using ModelUnderTest = LinearClassifier<double>;
const ModelUnderTest tested(2, 2);
#else
using ModelUnderTest = WithoutVjp;
const ModelUnderTest tested;
#endif

bool use(const LabelledDataset<double>& data, const Vector<double>& w) {
  return Sgd(tested, data, w, SgdOptions<double>{}).run().ok();
}
