// must not compile: richflow: an evaluation refers to w and X until the next forward
#include "richflow/models/diagonal.hpp"
#include "richflow/models/evaluation.hpp"

using namespace richflow;

void use(const Matrix<double>& X, Vector<double>& f) {
  const SquaredDiagonalNet<double> net(3);
  auto at = make_evaluation(net, X.rows());
#ifdef MUST_COMPILE
  const Vector<double> w = net.initial_parameters(Scale<>::from_value(1.0));
  at.forward(w, X, f);
#else
  at.forward(net.initial_parameters(Scale<>::from_value(1.0)), X, f);
#endif
}
