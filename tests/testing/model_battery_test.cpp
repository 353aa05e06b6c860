#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>

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

enum class Fault {
  accumulates,
  mixes_samples,
  vjp_accumulates,
  wrong_vjp,
  wrong_jvp,
  wrong_hessian,
  wrong_beta,
  wrong_invariant
};

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
  void hessian_product(ConstVectorRef<double> w, ConstMatrixRef<double> X, ConstVectorRef<double> r,
                       ConstVectorRef<double> v, VectorRef<double> out) const {
    Base::hessian_product(w, X, r, v, out);
    if (fault == Fault::wrong_hessian) out *= 1.0 + 1e-4;
  }
  void beta(ConstVectorRef<double> w, VectorRef<double> out) const {
    Base::beta(w, out);
    if (fault == Fault::wrong_beta) out *= 1.0 + 1e-8;
  }
  [[nodiscard]] Vector<double> invariant(ConstVectorRef<double> w) const {
    return fault == Fault::wrong_invariant ? Vector<double>(w.head(num_inputs()) + w.tail(num_inputs()))
                                           : Base::invariant(w);
  }
};

enum class EvaluationFault {
  wrong_outputs,
  wrong_jvp,
  wrong_kernel,
  wrong_trace,
  overwrites,
  reads_what_it_writes,
  keeps_descent,
  depends_on_rest,
  shares_state,
};

/// The evaluation of a model with one fault.
class FaultyEvaluation final : public AnyEvaluation<double> {
 public:
  FaultyEvaluation(Evaluation<double> inner, EvaluationFault fault)
      : AnyEvaluation<double>({inner.num_parameters(), inner.num_outputs(), inner.max_batch(), inner.num_inputs()}),
        inner_(std::move(inner)),
        fault_(fault) {}

  std::unique_ptr<AnyEvaluation<double>> clone() const override { return std::make_unique<FaultyEvaluation>(*this); }
  void forward(ConstVectorRef<double> w, Samples<double> X, MatrixRef<double> F) override {
    inner_.forward(w, X, F);
    ++*calls_;
    if (fault_ == EvaluationFault::wrong_outputs) F *= 1.0 + 1e-9;
    if (fault_ == EvaluationFault::depends_on_rest) F *= 1.0 + 1e-9 * static_cast<double>(3 - X.size());
  }
  void add_pullback(ConstVectorRef<double> w, Samples<double>, ConstMatrixRef<double> G, double scale,
                    VectorRef<double> target) override {
    if (fault_ == EvaluationFault::overwrites) target.setZero();
    if (fault_ == EvaluationFault::shares_state) scale *= static_cast<double>(*calls_);
    if (fault_ == EvaluationFault::reads_what_it_writes && target.data() == w.data()) target[0] = 0.0;
    inner_.add_pullback(G, scale, target);
  }
  void jvp(ConstVectorRef<double>, Samples<double>, ConstVectorRef<double> v, MatrixRef<double> dF) override {
    inner_.jvp(v, dF);
    if (fault_ == EvaluationFault::wrong_jvp) dF *= 1.0 + 1e-9;
  }
  void kernel(ConstVectorRef<double>, Samples<double>, KernelForm form, MatrixRef<double> K) override {
    inner_.kernel(K, form);
    if (fault_ == EvaluationFault::wrong_kernel ||
        (fault_ == EvaluationFault::wrong_trace && form == KernelForm::trace))
      K *= 1.0 + 1e-9;
  }
  void descend_and_forward(VectorRef<double> w, Samples<double> X, ConstMatrixRef<double> G, double scale,
                           Samples<double> X_next, MatrixRef<double> F_next) override {
    const Vector<double> before = w;
    AnyEvaluation<double>::descend_and_forward(w, X, G, scale, X_next, F_next);
    if (fault_ == EvaluationFault::keeps_descent) w = before;
  }

 private:
  Evaluation<double> inner_;
  EvaluationFault fault_;
  std::shared_ptr<int> calls_ = std::make_shared<int>(0);  // of all copies
};

/// The squared net with a faulty evaluation.
struct FaultilyEvaluated : SquaredDiagonalNet<double> {
  EvaluationFault fault;
  explicit FaultilyEvaluated(EvaluationFault f) : SquaredDiagonalNet<double>(4), fault(f) {}
  [[nodiscard]] Evaluation<double> make_evaluation(Index max_batch, ParallelOptions) const {
    const SquaredDiagonalNet<double>& base = *this;
    return Evaluation<double>(std::make_unique<FaultyEvaluation>(richflow::make_evaluation(base, max_batch), fault));
  }
};

/// Two outputs, one of them twice the other, and a wrong degree.
struct WrongDegree {
  using Scalar = double;
  static Index num_parameters() { return 4; }
  static Index num_outputs() { return 2; }
  static Index homogeneity() { return 2; }
  static Index num_units() { return 1; }
  static void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, MatrixRef<double> F) {
    F.col(0) = X * w;
    F.col(1) = 2.0 * F.col(0);
  }
  static void vjp(ConstVectorRef<double>, ConstMatrixRef<double> X, ConstMatrixRef<double> G, VectorRef<double> out) {
    out = X.transpose() * (G.col(0) + 2.0 * G.col(1));
  }
  static void unit_square_norms(ConstVectorRef<double> v, VectorRef<double> out) { out[0] = v.norm(); }
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
    CHECK(report.checks.size() == 20);
  }
}

TEST_CASE("each fault fails the check that is about it") {
  CHECK(failed(run_battery(Faulty(4, Fault::accumulates), 121), "predict overwrites its output"));
  CHECK(failed(run_battery(Faulty(4, Fault::mixes_samples), 122), "predict treats samples independently"));
  CHECK(failed(run_battery(Faulty(4, Fault::vjp_accumulates), 123), "vjp overwrites its output"));
  CHECK(failed(run_battery(Faulty(4, Fault::wrong_vjp), 124), "vjp is the transposed derivative of predict"));
  CHECK(failed(run_battery(Faulty(4, Fault::wrong_hessian), 124), "hessian_product is the derivative of vjp"));
  CHECK(failed(run_battery(Faulty(4, Fault::wrong_jvp), 125), "jvp is the derivative of predict"));
  CHECK(failed(run_battery(Faulty(4, Fault::wrong_jvp), 126), "jvp is the transpose of vjp"));
  CHECK(failed(run_battery(Faulty(4, Fault::wrong_beta), 127), "predict is X beta"));
  CHECK(failed(run_battery(Faulty(4, Fault::wrong_invariant), 128), "invariant is constant along the flow"));
}

TEST_CASE("each fault of an evaluation fails the check that is about it") {
  const auto fails = [](EvaluationFault fault, const char* check) {
    return failed(run_battery(FaultilyEvaluated(fault), 131), check);
  };
  CHECK(fails(EvaluationFault::wrong_outputs, "an evaluation predicts as the model"));
  CHECK(fails(EvaluationFault::wrong_jvp, "jvp of an evaluation"));
  CHECK(fails(EvaluationFault::wrong_kernel, "the kernel is J J^T"));
  CHECK(fails(EvaluationFault::wrong_trace, "the trace of the kernel"));
  CHECK(fails(EvaluationFault::overwrites, "add_pullback adds"));
  CHECK(fails(EvaluationFault::reads_what_it_writes, "add_pullback onto the parameters"));
  CHECK(fails(EvaluationFault::keeps_descent, "descend_and_forward is both, bit for bit"));
  CHECK(fails(EvaluationFault::depends_on_rest, "a part of the samples predicts as the whole"));
  CHECK(fails(EvaluationFault::shares_state, "two evaluations are independent"));

  RandomStream random(132);
  const auto data = Dataset<>::with_outputs(random_matrix(random, 3, 4), random_matrix(random, 3, 2));
  const auto report = testing::model_battery(WrongDegree{}, data, 133);
  CHECK(failed(report, "homogeneity is the degree in w"));
  CHECK(failed(report, "unit_square_norms is a sum of squares"));
  CHECK(std::count_if(report.checks.begin(), report.checks.end(), [](const auto& c) { return !c.passed; }) == 2);

  testing::ModelBatteryOptions<double> counting;
  counting.count_allocations = [](const std::function<void()>& action) {
    action();
    return Index(3);
  };
  CHECK(failed(testing::model_battery(WrongDegree{}, data, 133, counting), "allocations of an evaluation"));
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
