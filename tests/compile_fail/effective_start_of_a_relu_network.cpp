// must not compile: richflow: no theorem gives the effective start of this model. One is known for DiagonalNet
#include "richflow/bias/effective_start.hpp"
#include "richflow/models/fully_connected.hpp"

using namespace richflow;

#ifdef MUST_COMPILE
using Net = DiagonalNet<double>;
#else
using Net = ReluNetwork<double>;
#endif

void use(const Net& net, const Dataset<>& data, const Vector<double>& w0) { EffectiveStart effective(net, data, w0); }
