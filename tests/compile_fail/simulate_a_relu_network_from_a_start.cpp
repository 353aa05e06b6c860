// must not compile: richflow: this model has no Start: pass its weights
#include "richflow/bias/simulate.hpp"
#include "richflow/models/fully_connected.hpp"

using namespace richflow;

#ifdef MUST_COMPILE
using Beginning = Vector<double>;
#else
using Beginning = Start<>;
#endif

bool use(const ReluNetwork<double>& net, const Dataset<>& data, const Beginning& w0) {
  return simulate(net, data, w0).ok();
}
