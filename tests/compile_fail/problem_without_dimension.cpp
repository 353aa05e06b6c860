// must not compile: the problem must have a const member `Index dimension() const`
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"

struct Decay {
  using Scalar = double;
#ifdef MUST_COMPILE
  richflow::Index dimension() const { return 1; }
#endif
  void operator()(double, richflow::ConstVectorRef<double> y, richflow::VectorRef<double> dy) const { dy = -y; }
};

int main() {
  using namespace richflow;
  return integrate(Decay{}, Vector<double>::Ones(1), TimeSpan{0, 1}, Euler{}, ConstantStep<>{.step = 0.1}).ok() ? 0 : 1;
}
