#include <limits>

#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/exponential_tangent.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/linearized.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// Half the sum of squares: the flow of the plain sum at half the speed.
struct HalvedLoss {
  [[nodiscard]] double value(ConstVectorRef<double> f, ConstVectorRef<double> y) const {
    return (f - y).squaredNorm() / 2;
  }
  void gradient(ConstVectorRef<double> f, ConstVectorRef<double> y, VectorRef<double> out) const { out = f - y; }
  [[nodiscard]] static constexpr double curvature() { return 1; }
};

static_assert(Loss<HalvedLoss, double>);

/// The end of the run to t with the squared loss, and to 2t with the halved one.
template <class M, class Stepper>
void check_half_speed(const M& model, const Dataset<>& data, const Vector<double>& w0, const Stepper& stepper,
                      double tolerance, double agreement) {
  constexpr double t = 0.3;
  const PiController<> control{.tolerance = {tolerance, tolerance * 1e-3}};
  const auto plain = integrate(GradientFlow<M>(model, data), w0, TimeSpan{0.0, t}, stepper, control);
  const auto halved =
      integrate(GradientFlow<M, HalvedLoss>(model, data, HalvedLoss{}), w0, TimeSpan{0.0, 2 * t}, stepper, control);
  REQUIRE(plain.ok());
  REQUIRE(halved.ok());
  CHECK((plain.w - w0).norm() > 0.01 * w0.norm());  // something happened
  CHECK((plain.w - halved.w).norm() <= agreement * plain.w.norm());
}

}  // namespace

TEST_CASE("another loss: half the sum of squares runs at half the speed, by every stepper", "[losses]") {
  RandomStream random(81);
  const Index d = 6;
  const Dataset data(random_matrix(random, 4, d), random_vector(random, 4));
  const SquaredDiagonalNet<double> net(d);
  const Vector<double> w0 = net.initial_parameters(Scale<>::from_value(0.4));
  // Both runs keep their tolerance per step; some hundred steps of the order-2 method.
  check_half_speed(net, data, w0, DormandPrince{}, 1e-10, 1e-8);
  check_half_speed(net, data, w0, Ros34Pw2{}, 1e-7, 1e-4);
  check_half_speed(net, data, w0, Ros2{}, 1e-6, 1e-3);
  // Exact for a constant kernel, whatever the step: rounding only.
  check_half_speed(Linearized(net, w0), data, w0, ExponentialTangent{}, 1e-6, 1e-11);
  const GradientFlow<SquaredDiagonalNet<double>, HalvedLoss> halved(net, data, HalvedLoss{});
  CHECK_THAT(halved.loss(w0), near(data.y().squaredNorm() / 2, 1e-14, 0));
}
