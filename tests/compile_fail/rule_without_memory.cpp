// must not compile: richflow: this is no stepper, with `order`
#include "richflow/integrate/integrate.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/train/stochastic_gradient.hpp"

using namespace richflow;

struct Half {
#ifdef MUST_COMPILE
  void operator()(const StepGradient<double>& gradient, double step, VectorRef<double> w, VectorRef<double>) const {
    gradient.add_to(w, -step / 2);
  }
#else
  void operator()(const StepGradient<double>& gradient, double step, VectorRef<double> w) const {
    gradient.add_to(w, -step / 2);
  }
#endif
};

bool use(const StochasticGradient<SquaredDiagonalNet<>, SquaredLoss<>, Dataset<>>& descent, const Vector<double>& w) {
  return integrate(descent, w, Steps{10}, Half{}, ConstantStep{0.1}).ok();
}
