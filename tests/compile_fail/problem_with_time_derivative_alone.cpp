// must not compile: richflow: the problem's time_derivative does not fit
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"

using namespace richflow;

struct Drift {
  using Scalar = double;
  Index dimension() const { return 1; }
  void operator()(double t, ConstVectorRef<double>, VectorRef<double> dy) const { dy.setConstant(t); }
#ifdef MUST_COMPILE
  bool is_autonomous() const { return false; }
#endif
  void time_derivative(double, double, ConstVectorRef<double>, VectorRef<double> out) const { out.setOnes(); }
};

bool use() {
  return integrate(Drift{}, Vector<double>::Ones(1), TimeSpan{0, 1}, Euler{}, ConstantStep<>{.step = 0.1}).ok();
}
