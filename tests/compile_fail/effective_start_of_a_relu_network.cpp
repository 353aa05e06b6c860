// must not compile: richflow: no theorem gives the effective start of this model. One is known for DiagonalNet
#include "richflow/bias/effective_start.hpp"
#include "richflow/models/fully_connected.hpp"

using namespace richflow;

Index steps(const Dataset<>& data, const Vector<double>& w0) {
#ifdef MUST_COMPILE
  const EffectiveStart effective(SquaredDiagonalNet<double>(2), data, w0);
#else
  const EffectiveStart effective(ReluNetwork<double>(2, {3}, false), data, w0);
#endif
  return effective.steps();
}
