// must not compile: richflow: y0, the time span and the controller must be of the problem's number type
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/models/diagonal.hpp"

using namespace richflow;

#ifdef MUST_COMPILE
using Time = BasicTimeSpan<float>;
using Controller = BasicPiController<float>;
#else
using Time = TimeSpan;
using Controller = PiController;
#endif

bool use(const BasicDataset<float>& data, const Vector<float>& w) {
  const GradientFlow flow(SquaredDiagonalNet<float>(3), data);
  return integrate(flow, w, Time{0, 1}, DormandPrince{},
                   Controller{.tolerance = {.relative = 1e-3F, .absolute = 1e-6F}}, {.events = {loss_below(1e-4)}})
      .ok();
}
