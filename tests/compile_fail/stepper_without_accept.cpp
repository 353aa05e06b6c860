// must not compile: the stepper must have `void accept(Workspace&) const`
#include "richflow/integrate/integrate.hpp"

using namespace richflow;

struct Decay {
  using Scalar = double;
  Index dimension() const { return 1; }
  void operator()(double, ConstVectorRef<double> y, VectorRef<double> dy) const { dy = -y; }
};

struct MyEuler {
  static constexpr int order = 1;
  struct Workspace {
    StepCounters counters = {};
  };
  Workspace make_workspace(const Decay&) const { return {}; }
  void begin(const Decay&, double, const Vector<double>&, Workspace&) const {}
  void step(const Decay& problem, double t, double h, const Vector<double>& y, Vector<double>& y_new,
            Workspace& ws) const {
    problem(t, y, y_new);
    y_new = y + h * y_new;
    ++ws.counters.evaluations;
  }
#ifdef MUST_COMPILE
  void accept(Workspace&) const {}
#endif
};

int main() {
  return integrate(Decay{}, Vector<double>::Ones(1), TimeSpan{0, 1}, MyEuler{}, ConstantStep<>{.step = 0.1}).ok() ? 0
                                                                                                                  : 1;
}
