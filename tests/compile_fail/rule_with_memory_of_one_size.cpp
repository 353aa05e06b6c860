// must not compile: richflow: the rule's memory_size does not fit
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/models/diagonal.hpp"

using namespace richflow;

struct SignDescent {
#ifdef MUST_COMPILE
  Index memory_size(Index num_parameters) const { return num_parameters; }
#else
  Index memory_size() const { return 1; }
#endif
  void operator()(const StepGradient<double>& gradient, double step, VectorRef<double> w,
                  VectorRef<double> memory) const {
    gradient.write(memory);
    w.array() -= step * memory.array().sign();
  }
};

bool use(const GradientFlow<SquaredDiagonalNet<>>& flow, const Vector<double>& w) {
  return integrate(flow, w, Steps{10}, SignDescent{}, ConstantStep{0.1}).ok();
}
