// must not compile: richflow: the start must be a Start of the net's number type
#include "richflow/bias/regularizer.hpp"

using namespace richflow;

#ifdef MUST_COMPILE
using Net = DiagonalNet<double>;
#else
using Net = DiagonalNet<float>;
#endif

Index use(const Net& net, const Start<>& start) { return regularizer(net, start).dimension(); }
