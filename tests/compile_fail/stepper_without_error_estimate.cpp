// must not compile: adaptive steps need a stepper with an error estimate
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"

struct Decay {
  using Scalar = double;
  richflow::Index dimension() const { return 1; }
  void operator()(double, richflow::ConstVectorRef<double> y, richflow::VectorRef<double> dy) const { dy = -y; }
};

int main() {
  using namespace richflow;
#ifdef MUST_COMPILE
  const DormandPrince stepper;
#else
  const RungeKutta4 stepper;
#endif
  const PiController<> controller{.tolerance = {.relative = 1e-6, .absolute = 1e-8}};
  return integrate(Decay{}, Vector<double>::Ones(1), TimeSpan{0, 1}, stepper, controller).ok() ? 0 : 1;
}
