// must not compile: the problem must name its number type
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"

struct Decay {
#ifdef MUST_COMPILE
  using Scalar = double;
#endif
  richflow::Index dimension() const { return 1; }
  void operator()(double, richflow::ConstVectorRef<double> y, richflow::VectorRef<double> dy) const { dy = -y; }
};

int main() {
  using namespace richflow;
  return integrate(Decay{}, Vector<double>::Ones(1), TimeSpan{0, 1}, Euler{}, ConstantStep<>{.step = 0.1}).ok() ? 0 : 1;
}
