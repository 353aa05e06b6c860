// must not compile: richflow: the rule's memory_size does not fit
#include "richflow/integrate/integrate.hpp"

using namespace richflow;

struct Decay {
  using Scalar = double;
  Index dimension() const { return 1; }
  void operator()(double, ConstVectorRef<double> y, VectorRef<double> dy) const { dy = -y; }
};

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

bool use() {
  return integrate(Decay{}, Vector<double>::Ones(1), TimeSpan{0, 1}, SignDescent{}, ConstantStep<>{.step = 0.1}).ok();
}
