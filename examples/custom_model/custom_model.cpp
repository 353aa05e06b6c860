#include "custom_model.hpp"

#include <string>

#include "csv.hpp"
#include "richflow/bias/simulate.hpp"
#include "richflow/core/random.hpp"
#include "richflow/kernel/kernel_predictor.hpp"
#include "richflow/kernel/tangent_kernel.hpp"
#include "richflow/models/autodiff.hpp"
#include "richflow/models/unbiased.hpp"
#include "richflow/testing/model_battery.hpp"
#include "text.hpp"

namespace richflow::examples {

CustomModel run_custom_model(std::uint64_t seed, Index units, const std::vector<double>& alphas) {
  Matrix<double> X(5, 1);
  X << -2.0, -1.0, 0.0, 1.0, 2.0;
  Vector<double> y(5);
  y << 0.0, 1.0, 0.5, -0.5, 0.0;
  const Dataset data(X, y);
  const Autodiff net(SoftplusNet{1, units});
  RandomStream random(seed);
  const Vector<double> shape = normal_vector(random, net.num_parameters()) / std::sqrt(static_cast<double>(units));

  CustomModel result;
  constexpr double difference = 1e-4;
  const auto battery = testing::model_battery(net, shape, data, normal_vector(random, net.num_parameters()),
                                              normal_vector(random, data.num_samples()), difference);
  double failed = 0.0;
  for (const auto& check : battery.checks) failed += check.passed ? 0.0 : 1.0;
  result.claims.push_back(claim_at_most("custom_model", "checks of the model battery that fail", failed, 0.0));

  constexpr double loss = 1e-8;
  const Matrix<double> grid = Vector<double>::LinSpaced(81, -2.0, 2.0);
  for (const double alpha : alphas) {
    const Vector<double> w0 = alpha * shape;
    const Unbiased model(net, w0);
    const auto run = simulate(model, data, w0, {.loss = loss});
    const KernelPredictor kernel(model, w0, data);
    result.points.push_back({alpha, run.loss, static_cast<double>(run.steps), kernel_distance(model, w0, run.w, X),
                             (run.f(grid) - kernel.predict(grid)).cwiseAbs().maxCoeff()});
  }
  for (const CustomModelPoint& point : result.points)
    result.claims.push_back(claim_at_most(
        "custom_model", "loss of the flow's limit at alpha = " + short_number(point.alpha), point.loss, loss));
  result.claims.push_back(
      claim_at_most("custom_model", "kernel distance at the largest alpha over that at the smallest",
                    result.points.back().kernel_distance / result.points.front().kernel_distance, 0.1));
  result.claims.push_back(claim_at_most("custom_model", "largest alpha: distance of the limit to the kernel predictor",
                                        result.points.back().to_kernel, 0.05));
  return result;
}

void write_custom_model(const CustomModel& result, const std::filesystem::path& folder) {
  CsvWriter table({"alpha", "loss", "steps", "kernel_distance", "distance_to_kernel_predictor"});
  for (const CustomModelPoint& point : result.points)
    table.row({point.alpha, point.loss, point.steps, point.kernel_distance, point.to_kernel});
  table.write(folder / "custom_model.csv");
}

}  // namespace richflow::examples
