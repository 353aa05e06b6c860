// must not compile: richflow: on the gradient flow of a model the stepper must be a W-method
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/models/fully_connected.hpp"

using namespace richflow;

#ifdef MUST_COMPILE
using StepperUnderTest = Ros34Pw2;
#else
using StepperUnderTest = Rodas4;
#endif

bool use(const GradientFlow<ReluNetwork<double>>& flow, const Vector<double>& y) {
  const PiController<> controller{.tolerance = {.relative = 1e-6, .absolute = 1e-6}};
  return integrate(flow, y, TimeSpan{0, 1}, StepperUnderTest{}, controller).ok();
}
