// must not compile: richflow: save_at.value must be callable as
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"

using namespace richflow;

struct Decay {
  using Scalar = double;
  Index dimension() const { return 1; }
  void operator()(double, ConstVectorRef<double> y, VectorRef<double> dy) const { dy = -y; }
};

bool use(const Vector<double>& y) {
  const ConstantStep<> steps{.step = 0.1};
  const auto norm = [](double, const Vector<double>& state) { return state.norm(); };
#ifdef MUST_COMPILE
  const IntegrateOptions<double, double> options{
      .save_at = {.times = {}, .every = 1, .start = false, .end = false, .value = norm}};
  return integrate(Decay{}, y, TimeSpan{0, 1}, DormandPrince{}, steps, options).ok();
#else
  return integrate(Decay{}, y, TimeSpan{0, 1}, DormandPrince{}, steps, {.save_at = {.every = 1, .value = norm}}).ok();
#endif
}
