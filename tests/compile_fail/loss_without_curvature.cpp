// must not compile: richflow: the linearly implicit steppers need a loss whose second derivative is known
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/models/diagonal.hpp"

using namespace richflow;

struct HalfSquares {
  double value(ConstVectorRef<double> f, ConstVectorRef<double> y) const { return 0.5 * (f - y).squaredNorm(); }
  void gradient(ConstVectorRef<double> f, ConstVectorRef<double> y, VectorRef<double> out) const { out = f - y; }
#ifdef MUST_COMPILE
  double curvature() const { return 1.0; }
#endif
};

bool use(const Dataset<>& data, const Vector<double>& w) {
  const GradientFlow flow(SquaredDiagonalNet<double>(3), data, HalfSquares{});
  return integrate(flow, w, TimeSpan{0, 1}, Ros2{}, PiController<>{.tolerance = {.relative = 1e-3, .absolute = 0}})
      .ok();
}
