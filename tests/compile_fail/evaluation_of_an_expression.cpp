// must not compile: richflow: an evaluation refers to w and X until the next forward
#include "richflow/models/diagonal.hpp"
#include "richflow/models/evaluation.hpp"

using namespace richflow;

void use(const Vector<double>& w, const Matrix<double>& X, Vector<double>& f) {
  auto at = make_evaluation(SquaredDiagonalNet<double>(3), X.rows());
#ifdef MUST_COMPILE
  const Vector<double> half = 0.5 * w;
  at.forward(half, X, f);
#else
  at.forward(0.5 * w, X, f);
#endif
}
