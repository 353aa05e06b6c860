// must not compile: richflow: the model and the data of a sharpness must be of one number type
#include "richflow/kernel/sharpness.hpp"
#include "richflow/models/diagonal.hpp"

using namespace richflow;

double at(const Dataset<>& data, const Vector<double>& w) {
#ifdef MUST_COMPILE
  return Sharpness(SquaredDiagonalNet<double>(2), data)(w);
#else
  return Sharpness(SquaredDiagonalNet<float>(2), data)(w);
#endif
}
