// must not compile: richflow: the model and the data of a sharpness must be of one number type
#include "richflow/kernel/sharpness.hpp"
#include "richflow/models/diagonal.hpp"

using namespace richflow;

#ifdef MUST_COMPILE
using Net = SquaredDiagonalNet<double>;
#else
using Net = SquaredDiagonalNet<float>;
#endif

void use(const Net& net, const Dataset<>& data) { Sharpness sharpness(net, data); }
