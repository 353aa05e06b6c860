// must not compile: richflow: X and y must be of the dataset's number type
#include "richflow/data/dataset.hpp"

using namespace richflow;

Index use(const Matrix<float>& X, const Vector<float>& y) {
#ifdef MUST_COMPILE
  const Dataset<float> data(X, y);
#else
  const Dataset<> data(X, y);
#endif
  return data.num_samples();
}
