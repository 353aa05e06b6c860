#include "richflow/core/result.hpp"

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "richflow/flow/dual_flow.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/minimizers/hypentropy_path.hpp"
#include "richflow/minimizers/min_norm.hpp"
#include "richflow/minimizers/min_nuclear_norm.hpp"
#include "richflow/problems/matrix_completion.hpp"
#include "richflow/problems/sparse_regression.hpp"
#include "richflow/sweep/sweep.hpp"
#include "richflow/train/sgd.hpp"
#include "richflow/train/step_search.hpp"
#include "support/catch.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// A reference for a result that stays, a value for one that is about to end.
template <class R>
constexpr bool returns_safely = std::is_same_v<decltype(std::declval<const R&>().require_ok()), const R&>&&
    std::is_same_v<decltype(std::declval<R&>().require_ok()), const R&>&&
        std::is_same_v<decltype(std::declval<R>().require_ok()), R>&&
            std::is_same_v<decltype(std::declval<const R>().require_ok()), R>;

static_assert(returns_safely<MinimizerResult<>>);
static_assert(returns_safely<MinL1Result<>>);
static_assert(returns_safely<SpectralResult<>>);
static_assert(returns_safely<Solution<double>>);
static_assert(returns_safely<SgdResult<double>>);
static_assert(returns_safely<StepSearchResult<float>>);
static_assert(returns_safely<SweepResult>);

const Dataset<>& data() {
  static const SparseRegression<> problem = sparse_regression({.num_samples = 8, .num_inputs = 20, .seed = 2});
  return problem.dataset;
}

}  // namespace

TEST_CASE("a loop over a part of a temporary result reads memory that is there") {
  HypentropyPath<> path(data(), Hypentropy<>::uniform(20, Scale<>::from_value(1)));
  const Vector<double> kept = path.solve(Scale<>::from_value(1)).require_ok().beta;
  std::vector<double> seen;
  for (const double b : path.solve(Scale<>::from_value(1)).require_ok().beta) seen.push_back(b);
  REQUIRE(seen.size() == 20);
  for (Index i = 0; i < 20; ++i) CHECK(seen[static_cast<std::size_t>(i)] == kept[i]);
}

TEST_CASE("every result has a message with its numbers, and throws it") {
  MinimizerOptions<> hurried;
  hurried.max_factorizations = 1;
  HypentropyPath<> path(data(), Hypentropy<>::uniform(20, Scale<>::from_value(1)), hurried);
  const MinimizerResult<> unfinished = path.solve(Scale<>::from_log(-300));
  REQUIRE_FALSE(unfinished.ok());
  CHECK_THAT(unfinished.message, text_contains("log_alpha = -300"));
  CHECK_THAT(unfinished.message, text_contains("max_steps"));
  CHECK_THROWS_MATCHES(unfinished.require_ok(), ConvergenceError, message_contains("log_alpha = -300"));
  HypentropyPath<> patient(data(), Hypentropy<>::uniform(20, Scale<>::from_value(1)));
  CHECK_THAT(patient.solve(Scale<>::from_log(-3)).message, text_contains("tolerance_reached"));

  CHECK_THAT(min_l1_interpolator(data()).message, text_contains("tolerance_reached"));
  CHECK_THAT(min_l1_interpolator(Dataset(data().X(), Vector<double>::Zero(8))).message, text_contains("0 pivots"));
  CHECK_THAT(min_l1_interpolator(data(), Vector<double>(Vector<double>::Constant(20, 2.0))).message,
             text_contains("tolerance_reached"));

  const auto completion = matrix_completion({.rows = 3, .cols = 3, .num_observed = 6, .seed = 1});
  const auto matrix = min_nuclear_norm_interpolator(completion.observations.dataset);
  CHECK_THAT(matrix.message, text_contains(to_string(matrix.status)));

  StepSearchResult<double> none;
  for (const double step : {2.0, 1.0}) none.trials.emplace_back().step = step;
  CHECK_THAT(none.message(), text_contains("each of 2 steps, from 2 to 1"));
  CHECK_THROWS_MATCHES(none.require_ok(), ConvergenceError, message_contains("diverged"));
  CHECK_THAT(StepSearchResult<double>().message(), text_contains("no step"));
}
