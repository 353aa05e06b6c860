#include <algorithm>
#include <string>

#include "richflow/core/random.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/testing/model_battery.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// A user's model with the required members only: f(w, x) = w_0 tanh(<w_1.., x>).
struct Neuron {
  using Scalar = double;
  Index d;

  [[nodiscard]] Index num_parameters() const { return d + 1; }
  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, VectorRef<double> out) const {
    out = w[0] * (X * w.tail(d)).array().tanh();
  }
  void vjp(ConstVectorRef<double> w, ConstMatrixRef<double> X, ConstVectorRef<double> r, VectorRef<double> out) const {
    const Vector<double> t = (X * w.tail(d)).array().tanh();
    out[0] = t.dot(r);
    out.tail(d) = X.transpose() * (w[0] * (1 - t.array().square()) * r.array()).matrix();
  }
};

enum class Fault { accumulates, mixes_samples, vjp_accumulates, wrong_vjp, wrong_jvp, wrong_beta, wrong_invariant };

/// The squared net with one fault.
struct Faulty : SquaredDiagonalNet<double> {
  using Base = SquaredDiagonalNet<double>;
  Fault fault;
  Faulty(Index d, Fault f) : Base(d), fault(f) {}

  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, VectorRef<double> out) const {
    const Vector<double> before = out;
    Base::predict(w, X, out);
    if (fault == Fault::accumulates) out += before;
    if (fault == Fault::mixes_samples) out.array() += 1e-3 * out.sum();
  }
  void vjp(ConstVectorRef<double> w, ConstMatrixRef<double> X, ConstVectorRef<double> r, VectorRef<double> out) const {
    const Vector<double> before = out;
    Base::vjp(w, X, r, out);
    if (fault == Fault::vjp_accumulates) out += before;
    if (fault == Fault::wrong_vjp) out[0] *= 1.0 + 1e-4;
  }
  void jvp(ConstVectorRef<double> w, ConstMatrixRef<double> X, ConstVectorRef<double> v, VectorRef<double> out) const {
    Base::jvp(w, X, v, out);
    if (fault == Fault::wrong_jvp) out *= 1.0 + 1e-4;
  }
  void beta(ConstVectorRef<double> w, VectorRef<double> out) const {
    Base::beta(w, out);
    if (fault == Fault::wrong_beta) out *= 1.0 + 1e-8;
  }
  [[nodiscard]] Vector<double> invariant(ConstVectorRef<double> w) const {
    return fault == Fault::wrong_invariant ? Vector<double>(w.head(input_dimension()) + w.tail(input_dimension()))
                                           : Base::invariant(w);
  }
};

template <class M>
testing::BatteryReport run_battery(const M& model, std::uint64_t seed) {
  RandomStream random(seed);
  const Dataset data(random_matrix(random, 3, 4), random_vector(random, 3));
  return testing::model_battery(model, random_vector(random, model.num_parameters()), data,
                                random_vector(random, model.num_parameters()), random_vector(random, 3), 1e-4);
}

bool failed(const testing::BatteryReport& report, const std::string& name) {
  return std::any_of(report.checks.begin(), report.checks.end(),
                     [&](const auto& check) { return !check.passed && check.name == name; });
}

}  // namespace

TEST_CASE("a user's model with the required members only passes the battery") {
  for (std::uint64_t seed = 111; seed < 121; ++seed) {
    const auto report = run_battery(Neuron{4}, seed);
    CAPTURE(report);
    CHECK(report.ok());
    CHECK(report.checks.size() == 4);
  }
}

TEST_CASE("each fault fails the check that is about it") {
  CHECK(failed(run_battery(Faulty(4, Fault::accumulates), 121), "predict overwrites its output"));
  CHECK(failed(run_battery(Faulty(4, Fault::mixes_samples), 122), "predict treats samples independently"));
  CHECK(failed(run_battery(Faulty(4, Fault::vjp_accumulates), 123), "vjp overwrites its output"));
  CHECK(failed(run_battery(Faulty(4, Fault::wrong_vjp), 124), "vjp is the transposed derivative of predict"));
  CHECK(failed(run_battery(Faulty(4, Fault::wrong_jvp), 125), "jvp is the derivative of predict"));
  CHECK(failed(run_battery(Faulty(4, Fault::wrong_jvp), 126), "jvp is the transpose of vjp"));
  CHECK(failed(run_battery(Faulty(4, Fault::wrong_beta), 127), "predict is X beta"));
  CHECK(failed(run_battery(Faulty(4, Fault::wrong_invariant), 128), "invariant is constant along the flow"));
}

TEST_CASE("an empty report is not a success, and a report prints one line per check") {
  CHECK_FALSE(testing::BatteryReport{}.ok());
  std::ostringstream text;
  text << run_battery(Faulty(4, Fault::wrong_beta), 129);
  CHECK(text.str().find("FAILED  predict is X beta") != std::string::npos);
  CHECK(text.str().find("passed  jvp is the transpose of vjp") != std::string::npos);
}

TEST_CASE("the battery refuses points and directions of the wrong size") {
  RandomStream random(130);
  const Dataset data(random_matrix(random, 3, 4), random_vector(random, 3));
  const Vector<double> w = random_vector(random, 5);
  const Vector<double> r = random_vector(random, 3);
  CHECK_THROWS_AS(testing::model_battery(Neuron{4}, Vector<double>(w.head(4)), data, w, r, 1e-4), DimensionError);
  CHECK_THROWS_AS(testing::model_battery(Neuron{4}, w, data, w, w, 1e-4), DimensionError);
}
