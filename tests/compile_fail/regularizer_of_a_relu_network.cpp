// must not compile: richflow: no theorem names the regularizer of this model. One is known for DiagonalNet
#include "richflow/bias/solve.hpp"
#include "richflow/models/fully_connected.hpp"

using namespace richflow;

#ifdef MUST_COMPILE
using Net = DiagonalNet<double>;
#else
using Net = ReluNetwork<double>;
#endif

bool use(const Net& net, const Dataset<>& data, const Start<>& start) { return solve(net, data, start).ok(); }
