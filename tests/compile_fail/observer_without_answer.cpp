// must not compile: an observer must be callable as `Action (const StepView<Scalar>& view)`
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"

using namespace richflow;

struct Decay {
  using Scalar = double;
  Index dimension() const { return 1; }
  void operator()(double, ConstVectorRef<double> y, VectorRef<double> dy) const { dy = -y; }
};

int main() {
#ifdef MUST_COMPILE
  auto observer = [](const StepView<double>&) { return Action::proceed; };
#else
  auto observer = [](const StepView<double>&) {};
#endif
  return integrate(Decay{}, Vector<double>::Ones(1), TimeSpan{0, 1}, Euler{}, ConstantStep<>{.step = 0.1},
                   {.observers = {observer}})
                 .ok()
             ? 0
             : 1;
}
