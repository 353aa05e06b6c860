// must not compile: richflow: observed entries do not commute
#include "richflow/bias/factorization.hpp"

using namespace richflow;

#ifdef MUST_COMPILE
using Net = MatrixFactorization<double>;
#else
using Net = MatrixFactorization<double, MatrixEntries>;
#endif

double use(const Net& net, const Dataset& data, const Start& start, const Matrix<double>& M) {
  return regularizer(net, start, data).value(M);
}
