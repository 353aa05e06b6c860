// The whole loop with 50-digit numbers: an error in a coefficient's 17th digit, or a detour through double, shows
// here. Needs Boost.Multiprecision, a test tool only.

#include "support/catch.hpp"

#if __has_include(<boost/multiprecision/cpp_bin_float.hpp>)

#include <boost/multiprecision/cpp_bin_float.hpp>
#include <sstream>

#include "richflow/integrate/checkpoint.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "support/problems.hpp"

using namespace richflow;
using Wide = boost::multiprecision::cpp_bin_float_50;

namespace {

/// y' = -y with loss y^2.
struct WideDecay {
  using Scalar = Wide;
  [[nodiscard]] static Index dimension() { return 1; }
  void operator()(Wide, ConstVectorRef<Wide> y, VectorRef<Wide> dy) const { dy = -y; }
  [[nodiscard]] Wide loss(ConstVectorRef<Wide> y) const { return y.squaredNorm(); }
};

const WideDecay wide_decay;
const Vector<Wide> wide_one = Vector<Wide>::Constant(1, Wide(1));

}  // namespace

TEST_CASE("DormandPrince keeps its order beyond the digits of double") {
  const auto error = [](int n) {
    const auto solution =
        integrate(wide_decay, wide_one, TimeSpan<Wide>{0, 1}, DormandPrince{}, ConstantStep<Wide>{.step = Wide(1) / n});
    return Wide(abs(solution.w(0) - exp(Wide(-1))));
  };
  const Wide coarse = error(2000);
  const Wide fine = error(4000);
  CHECK(coarse < Wide("1e-19"));  // below what coefficients in double could reach
  CHECK_THAT(static_cast<double>(log2(coarse / fine)), test_support::near(5, 0, 0.2));
}

TEST_CASE("adaptive steps, events and checkpoints carry all digits") {
  const PiController<Wide> controller{.tolerance = {.relative = Wide("1e-18"), .absolute = Wide("1e-22")}};
  const IntegrateOptions<Wide> options{.events = {loss_below(Wide("1e-2"))}};
  const auto whole = integrate(wide_decay, wide_one, TimeSpan<Wide>{0, 10}, DormandPrince{}, controller, options);
  REQUIRE(whole.status == Status::event);
  CHECK(abs(whole.t - log(Wide(10))) < Wide("1e-15"));  // the tolerance over some thousand steps

  IntegrateOptions<Wide> part = options;
  part.max_steps = 100;
  const auto begun = integrate(wide_decay, wide_one, TimeSpan<Wide>{0, 10}, DormandPrince{}, controller, part);
  REQUIRE(begun.status == Status::max_steps);
  std::stringstream file;
  save_checkpoint(file, begun.state);
  const auto rest = resume(wide_decay, load_checkpoint<Wide>(file), 10, DormandPrince{}, controller, options);
  CHECK(rest.t == whole.t);
  CHECK(rest.w(0) == whole.w(0));
  CHECK(rest.step == whole.step);
}

#endif
