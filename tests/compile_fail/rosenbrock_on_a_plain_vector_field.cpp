// must not compile: richflow: a Rosenbrock stepper needs a field with a symmetric Jacobian
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"

using namespace richflow;

struct Decay {
  using Scalar = double;
  Index dimension() const { return 1; }
  void operator()(double, ConstVectorRef<double> y, VectorRef<double> dy) const { dy = -y; }
#ifdef MUST_COMPILE
  void negative_jacobian(double, ConstVectorRef<double>, MatrixRef<double> S) const { S(0, 0) = 1; }
#endif
};

bool use(const Vector<double>& y) {
  const PiController<> controller{.tolerance = {.relative = 1e-6, .absolute = 1e-6}};
  return integrate(Decay{}, y, TimeSpan{0, 1}, Rodas4{}, controller).ok();
}
