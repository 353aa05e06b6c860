// What a project that uses richflow might do, on both roads: solve for the limit, and follow the flow to it.
// Exits 1 when the two disagree.

#include <iostream>

#include "richflow/richflow.hpp"

int main() {
  const auto problem = richflow::sparse_regression({.num_samples = 10, .num_inputs = 40, .num_nonzero = 3, .seed = 7});
  const richflow::Scale<> scale = richflow::Scale<>::from_value(0.1);

  const richflow::MinimizerResult<> limit = richflow::minimize_hypentropy(problem.dataset, scale);
  limit.require_ok();

  const richflow::DualFlow flow(richflow::Hypentropy<>::uniform(problem.dataset.num_inputs(), scale), problem.dataset);
  const auto solution =
      richflow::integrate(flow, flow.initial_state(), richflow::TimeSpan{0.0, 100.0}, richflow::DormandPrince{},
                          richflow::PiController<>{.tolerance = {.relative = 1e-9, .absolute = 1e-12}});
  solution.require_ok();
  richflow::Vector<double> beta(flow.dataset().num_inputs());
  flow.beta(solution.w, beta);

  const double distance = (beta - limit.beta).norm() / limit.beta.norm();
  std::cout << "richflow " << RICHFLOW_VERSION_MAJOR << '.' << RICHFLOW_VERSION_MINOR << '.' << RICHFLOW_VERSION_PATCH
            << ": the flow ends " << distance << " from its certified limit\n";
  // A hundred times the tolerance of a step; the time suffices for the slowest mode to vanish.
  return distance <= 1e-7 && limit.certificate.primal_residual <= 1e-12 ? 0 : 1;
}
