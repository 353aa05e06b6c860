// must not compile: richflow: the problem's loss does not fit
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"

using namespace richflow;

struct Decay {
  using Scalar = double;
  Index dimension() const { return 1; }
  void operator()(double, ConstVectorRef<double> y, VectorRef<double> dy) const { dy = -y; }
#ifdef MUST_COMPILE
  double loss(ConstVectorRef<double> y) const { return y.squaredNorm(); }
#else
  void loss(ConstVectorRef<double> y, double& out) const { out = y.squaredNorm(); }
#endif
};

bool use(const Vector<double>& y) {
  return integrate(Decay{}, y, TimeSpan{0, 1}, DormandPrince{}, ConstantStep<>{.step = 0.1}).ok();
}
