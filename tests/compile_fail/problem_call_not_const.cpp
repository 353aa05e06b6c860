// must not compile: the problem must be callable as
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"

#ifdef MUST_COMPILE
#define CALL_IS const
#else
#define CALL_IS
#endif

struct Decay {
  using Scalar = double;
  richflow::Index dimension() const { return 1; }
  void operator()(double, richflow::ConstVectorRef<double> y, richflow::VectorRef<double> dy) CALL_IS { dy = -y; }
};

int main() {
  using namespace richflow;
  return integrate(Decay{}, Vector<double>::Ones(1), TimeSpan{0, 1}, Euler{}, ConstantStep<>{.step = 0.1}).ok() ? 0 : 1;
}
