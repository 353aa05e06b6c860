// must not compile: richflow: a stochastic gradient flow makes the steps of Euler and Maruyama, the rule Descent
#include "richflow/flow/stochastic_gradient_flow.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/weight_decay.hpp"
#include "richflow/models/diagonal.hpp"

using namespace richflow;

bool use(const SquaredDiagonalNet<double>& net, const Dataset<>& data, const Vector<double>& w) {
  const WithWeightDecay flow(StochasticGradientFlow(net, data, {.step = 0.1}), 0.01);
#ifdef MUST_COMPILE
  const Descent rule;
#else
  const HeavyBall rule;
#endif
  return integrate(flow, w, Steps{10}, rule, ConstantStep{1e-3}).ok();
}
