// must not compile: richflow: the loss's curvature does not fit
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/models/diagonal.hpp"

using namespace richflow;

struct HalfSquares {
  double value(ConstVectorRef<double> f, ConstVectorRef<double> y) const { return 0.5 * (f - y).squaredNorm(); }
  void gradient(ConstVectorRef<double> f, ConstVectorRef<double> y, VectorRef<double> out) const { out = f - y; }
#ifdef MUST_COMPILE
  double curvature() const { return 1.0; }
#else
  void curvature(VectorRef<double> out) const { out.setOnes(); }
#endif
};

Index use(const Dataset<>& data) {
  const GradientFlow flow(SquaredDiagonalNet<double>(3), data, HalfSquares{});
  return flow.dimension();
}
