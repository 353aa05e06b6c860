// must not compile: richflow: y0 must be of the problem's number type
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/models/diagonal.hpp"

using namespace richflow;

#ifdef MUST_COMPILE
using Weights = Vector<float>;
#else
using Weights = Vector<double>;
#endif

bool use(const Dataset<float>& data, const Weights& w) {
  const GradientFlow flow(SquaredDiagonalNet<float>(3), data);
  return integrate(flow, w, TimeSpan{0, 1}, DormandPrince{},
                   PiController<>{.tolerance = {.relative = 1e-3, .absolute = 1e-6}}, {.events = {loss_below(1e-4)}})
      .ok();
}
