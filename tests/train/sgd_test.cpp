#include "richflow/train/sgd.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "richflow/models/autodiff.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/models/linear_classifier.hpp"
#include "richflow/models/linearized.hpp"
#include "richflow/models/matrix_factorization.hpp"
#include "richflow/models/unbiased.hpp"
#include "richflow/train/step_search.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// Three classes around three directions; with a small spread they are linearly separable.
LabelledDataset<double> clusters(Index n, double spread, std::uint64_t seed = 601) {
  RandomStream random(seed);
  Matrix<double> features = spread * random_matrix(random, 3, n);
  Vector<int> labels(n);
  for (Index i = 0; i < n; ++i) {
    labels[i] = static_cast<int>(random.uniform_integer(3));
    features(labels[i], i) += 1.0;
  }
  return LabelledDataset<double>::from_columns(std::move(features), std::move(labels), 3);
}

/// The mean gradient of softmax regression by its definition.
Matrix<double> softmax_gradient(const Matrix<double>& W, const LabelledDataset<double>& data) {
  Matrix<double> gradient = Matrix<double>::Zero(W.rows(), W.cols());
  for (Index n = 0; n < data.num_samples(); ++n) {
    Vector<double> p = (W.transpose() * data.columns().col(n)).array().exp();
    p /= p.sum();
    p[data.labels()[n]] -= 1.0;
    gradient += data.columns().col(n) * p.transpose() / static_cast<double>(data.num_samples());
  }
  return gradient;
}

/// What a user may write around a linear classifier: `predict` and `vjp`, and no evaluation of its own.
struct Wrapped {
  using Scalar = double;
  LinearClassifier<double> inner;

  Wrapped(Index d, Index num_outputs) : inner(d, num_outputs) {}
  Index num_parameters() const { return inner.num_parameters(); }
  Index num_inputs() const { return inner.num_inputs(); }
  Index num_outputs() const { return inner.num_outputs(); }
  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, MatrixRef<double> F) const {
    inner.predict(w, X, F);
  }
  void vjp(ConstVectorRef<double> w, ConstMatrixRef<double> X, ConstMatrixRef<double> G, VectorRef<double> out) const {
    inner.vjp(w, X, G, out);
  }
};

/// A linear classifier that dies, for ever, where its parameters leave the ball of radius 10: as a network does whose
/// units are all thrown to where they are zero.
struct Fragile : Wrapped {
  using Wrapped::Wrapped;

  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, MatrixRef<double> F) const {
    Wrapped::predict(w, X, F);
    if (w.norm() > 10.0) F.setZero();
  }
  void vjp(ConstVectorRef<double> w, ConstMatrixRef<double> X, ConstMatrixRef<double> G, VectorRef<double> out) const {
    Wrapped::vjp(w, X, G, out);
    if (w.norm() > 10.0) out.setZero();
  }
};

/// A linear classifier whose outputs jump to finite but nonsensical values where its parameters leave the ball of
/// radius 10.
struct Cliff : Wrapped {
  using Wrapped::Wrapped;

  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, MatrixRef<double> F) const {
    Wrapped::predict(w, X, F);
    if (w.norm() > 10.0) F *= 1e9;
  }
};

struct TwiceAsLarge : Wrapped {
  using Wrapped::Wrapped;

  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, MatrixRef<double> F) const {
    Wrapped::predict(w, X, F);
    F *= 2.0;
  }
};

struct HalvedCrossEntropy : CrossEntropy<double> {
  double value(ConstMatrixRef<double> F, ConstVectorRef<int> labels) const {
    return 0.5 * CrossEntropy<double>::value(F, labels);
  }
};

/// A linear classifier that counts how often it is asked, and throws after so many times.
struct Counted : Wrapped {
  Counted(Index& count, Index limit) : Wrapped(3, 3), count_(&count), limit_(limit) {}

  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, MatrixRef<double> F) const {
    if (++*count_ > limit_) throw ConvergenceError("interrupted");
    Wrapped::predict(w, X, F);
  }

  Index* count_;
  Index limit_;
};

/// The evaluation of a model, less the steps of descent that continue to the next batch.
class PlainEvaluation final : public AnyEvaluation<double> {
 public:
  explicit PlainEvaluation(Evaluation<double> inner)
      : AnyEvaluation<double>({inner.num_parameters(), inner.num_outputs(), inner.max_batch(), inner.num_inputs()}),
        inner_(std::move(inner)) {}

  std::unique_ptr<AnyEvaluation<double>> clone() const override { return std::make_unique<PlainEvaluation>(*this); }
  void forward(ConstVectorRef<double> w, Samples<double> X, MatrixRef<double> F) override { inner_.forward(w, X, F); }
  void add_pullback(ConstVectorRef<double>, Samples<double>, ConstMatrixRef<double> G, double scale,
                    VectorRef<double> target) override {
    inner_.add_pullback(G, scale, target);
  }
  void jvp(ConstVectorRef<double>, Samples<double>, ConstVectorRef<double> v, MatrixRef<double> dF) override {
    inner_.jvp(v, dF);
  }

 private:
  Evaluation<double> inner_;
};

/// A ReLU network with this evaluation.
struct PlainReluNetwork : ReluNetwork<double> {
  Evaluation<double> make_evaluation(Index max_batch, ParallelOptions parallel) const {
    return Evaluation<double>(
        std::make_unique<PlainEvaluation>(ReluNetwork<double>::make_evaluation(max_batch, parallel)));
  }
};

/// Four tanh units in the plane.
struct TanhUnits {
  static Index num_parameters() { return 12; }
  template <class T>
  static T predict(ConstVectorRef<T> w, ConstVectorRef<T> x) {
    return (Eigen::Map<const Matrix<T>>(w.data(), 4, 2) * x).array().tanh().matrix().dot(w.tail(4));
  }
};

bool same_run(const SgdResult<double>& a, const SgdResult<double>& b) {
  if (a.w != b.w || a.status != b.status || a.records.size() != b.records.size()) return false;
  for (std::size_t k = 0; k < a.records.size(); ++k)
    if (a.records[k].loss != b.records[k].loss || a.records[k].accuracy != b.records[k].accuracy) return false;
  return true;
}

}  // namespace

TEST_CASE("SGD with the whole data as batch is gradient descent, with and without momentum") {
  const auto data = clusters(20, 0.5);
  RandomStream random(602);
  const Vector<double> w0 = random_vector(random, 9);
  for (const double momentum : {0.0, 0.8}) {
    SgdOptions<double> options;
    options.step = 0.4;
    options.momentum = momentum;
    options.batch_size = 20;
    options.max_epochs = 25;
    const auto result = Sgd(LinearClassifier<double>(3, 3), data, w0, options).run();
    CHECK(result.status == Status::max_steps);
    Matrix<double> W = Eigen::Map<const Matrix<double>>(w0.data(), 3, 3);
    Matrix<double> V = Matrix<double>::Zero(3, 3);
    for (int k = 0; k < 25; ++k) {
      V = momentum * V - 0.4 * softmax_gradient(W, data);
      W += V;
    }
    // Sums of 20 terms in another order, 25 steps of a contraction.
    CHECK((Eigen::Map<const Matrix<double>>(result.w.data(), 3, 3) - W).norm() <= 1e-13 * W.norm());
  }
}

TEST_CASE("steps grow as one over the loss of the epoch before, on the whole data as their definition says") {
  const auto data = clusters(20, 0.1);
  SgdOptions<double> options;
  options.step = 0.4;
  options.batch_size = 20;
  options.max_epochs = 60;
  options.growth_loss = 0.3;
  options.most_growth = 5;
  const auto result = Sgd(LinearClassifier<double>(3, 3), data, Vector<double>::Zero(9), options).run();
  Matrix<double> W = Matrix<double>::Zero(3, 3);
  double last = std::numeric_limits<double>::infinity();
  double growth = 1;
  for (int k = 0; k < 60; ++k) {
    const double loss =
        evaluate(LinearClassifier<double>(3, 3), Eigen::Map<const Vector<double>>(W.data(), 9), data).loss;
    growth = std::clamp(0.3 / std::max(last, loss), 1.0, 5.0);
    W -= 0.4 * growth * softmax_gradient(W, data);
    last = loss;
  }
  CHECK(growth == 5.0);
  // Sums of 20 terms in another order, 60 steps, each of which a change of the loss before also scales.
  CHECK((Eigen::Map<const Matrix<double>>(result.w.data(), 3, 3) - W).norm() <= 1e-12 * W.norm());
}

TEST_CASE("a batch with an odd sample takes a smaller step than the mean loss would have it") {
  // Inputs that are orthogonal, a batch each: the row of W that moves tells which it was. All but one are well fitted.
  constexpr Index count = 8;
  const auto data =
      LabelledDataset<double>::from_columns(Matrix<double>::Identity(count, count), Vector<int>::Zero(count), 2);
  Matrix<double> W(count, 2);
  W.col(0).setConstant(4);
  W.col(1).setConstant(-4);
  W.row(3).setZero();
  SgdOptions<double> options;
  options.step = 0.01;
  options.batch_size = 1;
  options.growth_loss = 1.2;
  const auto weights = [&](const auto& trainer) -> Matrix<double> {
    return Eigen::Map<const Matrix<double>>(trainer.w().data(), count, 2);
  };
  Sgd trainer(LinearClassifier<double>(count, 2), data, Eigen::Map<const Vector<double>>(W.data(), 2 * count), options);
  for (Index k = 0; k < count; ++k) REQUIRE(trainer.step());
  const double mean = trainer.records().back().loss;
  Vector<double> growth(count);
  for (Index k = 0; k < count; ++k) {
    const Matrix<double> before = weights(trainer);
    REQUIRE(trainer.step());
    const Matrix<double> moved = weights(trainer) - before;
    Index n = 0;
    moved.col(0).maxCoeff(&n);
    const double loss = std::log1p(std::exp(before(n, 1) - before(n, 0)));
    growth[n] = 1.2 / std::max(mean, loss);
    // 1 - p of the right class, times the step; differences of weights of size 4
    CHECK_THAT(moved(n, 0), near(0.01 * growth[n] * -std::expm1(-loss), 0, 1e-14));
  }
  CHECK(growth[0] > 6.0);
  CHECK(growth[3] > 1.5);
  CHECK(growth[3] < 2.0);
}

TEST_CASE("a run that makes no more progress ends as stalled, at the same epoch when it is resumed") {
  // A sample with both labels: the smallest loss is log 2, which Newton's steps would reach at once.
  const auto data = LabelledDataset<double>::from_columns(Matrix<double>::Ones(1, 2), Vector<int>{{0, 1}}, 2);
  const LinearClassifier<double> model(1, 2);
  const Vector<double> w0{{2.0, -2.0}};
  SgdOptions<double> options;
  options.batch_size = 2;
  options.max_epochs = 200;
  const TemporaryFolder folder;
  for (const double step : {0.5, 0.1, 0.03})
    for (const Index window : {1, 4, 7, 20}) {
      INFO("step " << step << ", window " << window);
      options.step = step;
      // The rule by its definition, on the losses that a run without it has.
      options.stall_epochs = 0;
      const auto all = Sgd(model, data, w0, options).run();
      REQUIRE(all.records.size() == 200);
      std::vector<double> smallest = {std::numeric_limits<double>::infinity()};  // of the first k epochs
      for (const EpochRecord& record : all.records) smallest.push_back(std::min(smallest.back(), record.loss));
      Index end = window + 1;
      const auto at = [&](Index epoch) { return smallest[static_cast<std::size_t>(epoch)]; };
      while (at(end) <= 0.75 * at(end - window)) ++end;
      options.stall_epochs = window;
      const auto stalled = Sgd(model, data, w0, options).run();
      CHECK(stalled.status == Status::stalled);
      CHECK_FALSE(stalled.ok());
      CHECK(stalled.epochs == end);
      const std::string said = " before the last " + std::to_string(window) + " epochs and ";
      CHECK_THAT(stalled.message, text_contains(said));

      auto saved = options;
      saved.checkpoint = folder.path() / "half";
      saved.checkpoint_epochs = 1;
      for (const Index last : {Index(1), std::max<Index>(1, end - 2), end - 1}) {
        saved.on_epoch = [&](const EpochRecord& record) { return record.epoch < last; };
        static_cast<void>(Sgd(model, data, w0, saved).run());
        Sgd resumed(model, data, w0, options);
        resumed.load(saved.checkpoint);
        CHECK(resumed.run().epochs == end);
      }
      // As many right as asked for, every second one: it has not stalled, whatever the loss.
      auto content = options;
      content.stop_accuracy = 0.5;
      CHECK(Sgd(model, data, w0, content).run().status == Status::max_steps);
      // One that has stalled does so again.
      saved.on_epoch = {};
      static_cast<void>(Sgd(model, data, w0, saved).run());
      Sgd again(model, data, w0, options);
      again.load(saved.checkpoint);
      const auto same = again.run();
      CHECK(same.status == Status::stalled);
      CHECK(same.epochs == end);
    }
}

TEST_CASE("a run that has been right within the epochs looked at has not stalled yet") {
  // Two samples of two classes, far apart in size: large steps on the large one make the small one wrong at times.
  const LabelledDataset<double> data(Matrix<double>{{1.0, 0.4}, {0.9, 0.5}, {-0.2, 1.0}, {-1.0, -0.6}},
                                     Vector<int>{{0, 1, 1, 0}}, 2);
  const LinearClassifier<double> model(2, 2);
  SgdOptions<double> options;
  options.step = 6.0;
  options.batch_size = 1;
  options.max_epochs = 300;
  const Vector<double> w0 = Vector<double>::Zero(4);
  const double most = 0.75;  // of which three of the four are right at times
  options.stop_accuracy = most;
  const auto all = Sgd(model, data, w0, options).run();
  REQUIRE(all.records.size() == 300);
  std::set<Index> ends;
  for (const Index window : {2, 3, 5, 8}) {
    Index end = 0;
    const auto smallest = [&](Index first, Index last) {
      double loss = std::numeric_limits<double>::infinity();
      for (Index k = first; k < last; ++k) loss = std::min(loss, all.records[static_cast<std::size_t>(k)].loss);
      return loss;
    };
    for (Index epoch = window + 1; epoch <= 300 && end == 0; ++epoch) {
      bool was_right = false;
      for (Index k = epoch - window; k < epoch; ++k)
        was_right = was_right || all.records[static_cast<std::size_t>(k)].accuracy >= most;
      if (!was_right && smallest(epoch - window, epoch) > 0.75 * smallest(0, epoch - window)) end = epoch;
    }
    options.stall_epochs = window;
    const auto run = Sgd(model, data, w0, options).run();
    INFO("window " << window << ", expected end " << end);
    CHECK(run.epochs == (end == 0 ? 300 : end));
    CHECK((run.status == Status::stalled) == (end != 0));
    ends.insert(run.epochs);
  }
  CHECK(ends.size() > 1);
}

TEST_CASE("numbers have no accuracy by which a run could not stall") {
  // One input, two labels: the loss stays at the variance of the labels.
  const Dataset<double> data(Matrix<double>::Ones(2, 1), Vector<double>{{1.0, -1.0}});
  SgdOptions<double> options;
  options.step = 0.01;
  options.batch_size = 2;
  options.max_epochs = 300;
  options.stall_epochs = 10;
  const auto run = Sgd(SquaredDiagonalNet<double>(1), data, Vector<double>::Constant(2, 0.5), options).run();
  CHECK(run.status == Status::stalled);
  CHECK(run.epochs == 11);
}

TEST_CASE("with growing steps a loss that would fall like one over the epochs falls exponentially") {
  const auto data = clusters(50, 0.1);
  SgdOptions<double> options;
  options.step = 0.3;
  options.batch_size = 16;
  options.max_epochs = 400;
  options.stop_loss = 1e-4;
  const LinearClassifier<double> model(3, 3);
  // So slowly that the loss falls by less than a quarter in 20 epochs. With all samples right the run has not stalled.
  options.stall_epochs = 20;
  const auto equal = Sgd(model, data, Vector<double>::Zero(9), options).run();
  CHECK(equal.status == Status::max_steps);
  CHECK(equal.records.back().loss > 0.75 * equal.records[379].loss);
  CHECK(equal.final.loss > 1e-3);
  options.growth_loss = 0.05;
  const auto growing = Sgd(model, data, Vector<double>::Zero(9), options).run();
  CHECK(growing.status == Status::tolerance_reached);
  CHECK(growing.final.loss < 1e-4);
  // As long as no epoch ends below growth_loss, nothing is different.
  for (std::size_t k = 0; k + 1 < growing.records.size() && growing.records[k].loss >= 0.05; ++k)
    CHECK(growing.records[k + 1].loss == equal.records[k + 1].loss);
}

TEST_CASE("an epoch takes every sample once, in an order that depends on seed and epoch") {
  // One step per sample on outputs that hardly move: the sum of the steps is that of all samples, in any order.
  const auto data = clusters(30, 0.3);
  const auto run = [&](std::uint64_t seed, Index epochs) {
    SgdOptions<double> options;
    options.step = 1e-9;
    options.batch_size = 1;
    options.max_epochs = epochs;
    options.seed = seed;
    return Sgd(LinearClassifier<double>(3, 3), data, Vector<double>::Zero(9), options).run().w;
  };
  const Matrix<double> expected = -30e-9 * softmax_gradient(Matrix<double>::Zero(3, 3), data);
  const Vector<double> w = run(1, 1);
  // second order in the step, relative to the first
  CHECK((Eigen::Map<const Matrix<double>>(w.data(), 3, 3) - expected).norm() <= 1e-7 * expected.norm());
  CHECK(run(1, 1) == w);
  CHECK(run(2, 1) != w);
  CHECK(run(1, 2) != 2 * w);
}

TEST_CASE("SGD learns separable data to full accuracy, by network, tangent model and linear classifier") {
  const auto data = clusters(50, 0.1);
  SgdOptions<double> options;
  options.step = 0.3;
  options.batch_size = 16;  // the last batch has 2 samples
  options.max_epochs = 2000;
  options.stop_loss = 0.02;
  const auto check = [&](const auto& model, const Vector<double>& w0) {
    const auto result = Sgd(model, data, w0, options).run();
    REQUIRE(result.ok());
    CHECK(result.status == Status::tolerance_reached);
    CHECK(result.epochs == static_cast<Index>(result.records.size()));
    const Score all = evaluate(model, result.w, data);
    CHECK(all.accuracy == 1.0);
    CHECK(all.error() == 0.0);
    CHECK(all.loss < 0.02);
    // whatever the batches of the evaluation, up to the order of the sum
    CHECK_THAT(evaluate(model, result.w, data, CrossEntropy<double>{}, 7).loss, near(all.loss, 1e-12, 0));
    CHECK(evaluate(model, w0, data).loss > 0.5);
  };
  RandomStream random(603);
  const ReluNetwork<double> net(3, {20}, true, 3);
  const Vector<double> w0 = net.initial_parameters(random, Scale<>::from_value(1.0));
  check(net, w0);
  check(Linearized<ReluNetwork<double>>(net, w0), w0);
  check(LinearClassifier<double>(3, 3), Vector<double>::Zero(9));
}

TEST_CASE("a run that was interrupted anywhere ends bit for bit like one that was not") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "run.checkpoint";
  const auto data = clusters(50, 0.4);
  const ReluNetwork<double> net(3, {8}, false, 3);
  RandomStream random(604);
  const Vector<double> w0 = net.initial_parameters(random, Scale<>::from_value(1.0));
  for (const auto& [momentum, growth_loss] : {std::pair{0.0, 0.0}, {0.9, 0.0}, {0.0, 2.0}, {0.5, 2.0}}) {
    SgdOptions<double> options;
    options.step = 0.05;
    options.momentum = momentum;
    options.growth_loss = growth_loss;
    options.batch_size = 16;
    options.max_epochs = 12;
    const auto undisturbed = Sgd(net, data, w0, options).run();
    for (int repetition = 0; repetition < 8; ++repetition) {
      Sgd trainer(net, data, w0, options);
      const auto batches = static_cast<Index>(random.uniform_integer(48));
      for (Index k = 0; k < batches; ++k) REQUIRE(trainer.step());
      trainer.save(path);
      Sgd other(net, data, w0, options);
      other.load(path);
      CHECK(other.epoch() == batches / 4);
      CHECK(same_run(other.run(), undisturbed));
    }
    // A run that saves by itself, and one that ends early and continues with more epochs.
    options.checkpoint = path;
    options.checkpoint_epochs = 5;
    options.on_epoch = [](const EpochRecord& record) { return record.epoch < 7; };
    const auto stopped = Sgd(net, data, w0, options).run();
    CHECK(stopped.status == Status::stopped_by_observer);
    CHECK(stopped.epochs == 7);
    options.on_epoch = {};
    Sgd resumed(net, data, w0, options);
    resumed.load(path);
    CHECK(resumed.epoch() == 5);
    CHECK(same_run(resumed.run(), undisturbed));
  }
}

TEST_CASE("a trainer in the middle of an epoch can be copied, run on, or resumed from a file") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "run.checkpoint";
  const auto data = clusters(50, 0.4);
  const ReluNetwork<double> net(3, {8}, false, 3);
  RandomStream random(606);
  const Vector<double> w0 = net.initial_parameters(random, Scale<>::from_value(1.0));
  SgdOptions<double> options;
  options.step = 0.05;
  options.batch_size = 16;
  options.max_epochs = 6;
  const auto undisturbed = Sgd(net, data, w0, options).run();
  Sgd trainer(net, data, w0, options);
  for (int k = 0; k < 6; ++k) REQUIRE(trainer.step());
  trainer.save(path);
  auto copy = trainer;
  for (int k = 0; k < 3; ++k) REQUIRE(trainer.step());
  trainer.load(path);  // its outputs of the next batch are of another one
  CHECK(same_run(trainer.run(), undisturbed));
  CHECK(same_run(copy.run(), undisturbed));
}

TEST_CASE("SGD gives the same bit for bit on any number of threads, and where model and step take two passes") {
  const auto data = clusters(50, 0.4);
  const ReluNetwork<double> net(3, {1100}, true, 3);
  RandomStream random(607);
  const Vector<double> w0 = net.initial_parameters(random, Scale<>::from_value(1.0));
  for (const double momentum : {0.0, 0.5}) {
    SgdOptions<double> options;
    options.step = 0.01;
    options.momentum = momentum;
    options.batch_size = 16;
    options.max_epochs = 6;
    const auto plain = Sgd(PlainReluNetwork{net}, data, w0, options).run();
    CHECK(plain.records.back().loss < 0.7 * plain.records.front().loss);  // it learns, down to about a fifth
    for (const int threads : {1, 2, 5}) {
      options.parallel.threads = threads;
      CHECK(same_run(Sgd(net, data, w0, options).run(), plain));
    }
  }
}

TEST_CASE("a checkpoint of another run, or a damaged one, is refused and changes nothing") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "run.checkpoint";
  const auto data = clusters(20, 0.4);
  SgdOptions<double> options;
  options.batch_size = 5;
  options.max_epochs = 2;
  const LinearClassifier<double> model(3, 3);
  const Vector<double> w0 = Vector<double>::Zero(9);
  Sgd trainer(model, data, w0, options);
  REQUIRE(trainer.step());
  trainer.save(path);
  const auto refuses_trainer = [&](auto target, const std::string& part) {
    const Vector<double> before = target.w();
    CHECK_THROWS_MATCHES(target.load(path), CheckpointError, message_contains(part));
    CHECK(target.w() == before);
    CHECK(target.step());
  };
  const auto refuses = [&](const auto& other_model, const auto& other_data, SgdOptions<double> other,
                           const std::string& part) {
    refuses_trainer(Sgd(other_model, other_data, Vector<double>::Zero(other_model.num_parameters()), other), part);
  };
  SgdOptions<double> other = options;
  other.step = 0.2;
  refuses(model, data, other, "step_size is 0.1");
  other = options;
  other.seed = 9;
  refuses(model, data, other, "seed is 1 where this one has 9");
  other = options;
  other.batch_size = 6;
  refuses(model, data, other, "batch_size");
  other = options;
  other.momentum = 0.5;
  refuses(model, data, other, "momentum");
  other = options;
  other.growth_loss = 0.5;
  refuses(model, data, other, "growth_loss");
  SECTION("a growth_loss may have been measured by a machine that rounds otherwise") {
    const auto growing_path = folder.path() / "growing";
    Sgd growing(model, data, w0, other);
    growing.save(growing_path);
    for (const double factor : {1 + 1e-7, 1 - 1e-7}) {
      auto nearby = other;
      nearby.growth_loss = 0.5 * factor;
      Sgd(model, data, w0, nearby).load(growing_path);
    }
    for (const double growth_loss : {0.0, 0.5 * (1 - 2e-3), 0.5 * (1 + 2e-3)}) {
      auto further = other;
      further.growth_loss = growth_loss;
      CHECK_THROWS_MATCHES(Sgd(model, data, w0, further).load(growing_path), CheckpointError,
                           message_contains("whose growth_loss is 0.5 where this one has"));
    }
  }
  refuses(model, clusters(20, 0.4, 77), options, "data");
  refuses(ReluNetwork<double>(3, {4}, false, 3), data, options, "parameters");
  // Other models, starts and losses of the same sizes.
  const TwiceAsLarge twice(3, 3);
  refuses(twice, data, options, "model and loss");
  refuses_trainer(Sgd(model, data, Vector<double>::Constant(9, 1e-9), options), "start");
  refuses_trainer(Sgd(model, data, w0, options, HalvedCrossEntropy{}), "model and loss");

  std::ifstream in(path);
  std::string text((std::istreambuf_iterator<char>(in)), {});
  const auto refuses_text = [&](const std::string& content, const std::string& part) {
    write_file(path, content);
    refuses(model, data, options, part);
  };
  refuses_text(text.substr(0, text.size() / 2), "end is missing");
  std::string changed = text;
  changed[changed.find("batch 1") + 6] = '2';
  refuses_text(changed, "changed");
  refuses_text("something else", "not a checkpoint");
  // Behind the right checksum, too: an epoch whose steps cannot be counted.
  changed = detail::opened_checkpoint("richflow sgd checkpoint 2", text);
  changed.replace(changed.find("epoch 0"), 7, "epoch 9000000000000000000");
  refuses_text(detail::sealed_checkpoint("richflow sgd checkpoint 2", changed.substr(1)), "does not exist");
  CHECK_THROWS_MATCHES(trainer.load(folder.path() / "none"), CheckpointError, message_contains("cannot open"));
}

TEST_CASE("a diverging step is detected, and the search continues to one that learns") {
  const auto data = clusters(40, 0.4);
  const ReluNetwork<double> net(3, {16}, false, 3);
  RandomStream random(605);
  const Vector<double> w0 = net.initial_parameters(random, Scale<>::from_value(2.0));
  SgdOptions<double> options;
  options.batch_size = 8;
  options.max_epochs = 50;
  options.step = 1e6;
  const auto diverged = Sgd(net, data, w0, options).run();
  CHECK(!diverged.ok());
  CHECK((diverged.status == Status::diverged || diverged.status == Status::non_finite));
  CHECK(diverged.message.find("step") != std::string::npos);
  CHECK(diverged.w.allFinite());
  CHECK_THROWS_AS(diverged.require_ok(), ConvergenceError);

  StepSearchOptions<double> ladder;
  ladder.largest = 1e6;
  ladder.ratio = 0.1;
  ladder.count = 12;
  const auto search = search_step(net, data, w0, options, ladder);
  REQUIRE(search.ok());
  CHECK(search.trials.front().status != Status::max_steps);
  CHECK(std::isinf(search.trials.front().loss));
  CHECK(search.trials.size() < 12);  // and not to the end of the ladder
  double best = std::numeric_limits<double>::infinity();
  for (const auto& trial : search.trials) best = std::min(best, trial.loss);
  for (const auto& trial : search.trials)
    if (trial.step == search.step) CHECK(trial.loss == best);
  options.step = search.step;
  const auto result = Sgd(net, data, w0, options).run();
  CHECK(evaluate(net, result.w, data).loss < 0.5 * evaluate(net, w0, data).loss);

  ladder.count = 1;
  CHECK(!search_step(net, data, w0, options, ladder).ok());
}

TEST_CASE("hopeless steps are given up within their first epoch, and the others are judged as without") {
  const auto data = clusters(60, 1.5);  // no hyperplanes separate them: large steps lose much for ever
  SgdOptions<double> options;
  options.batch_size = 5;
  StepSearchOptions<double> ladder;
  ladder.largest = 4096;
  ladder.ratio = 0.125;
  const Vector<double> w0 = Vector<double>::Zero(9);
  Index calls = 0;
  const auto whole = search_step(Counted(calls, 1'000'000), data, w0, options, ladder);
  const Index calls_of_whole = calls;
  ladder.hopeless_batches = 3;
  calls = 0;
  const auto early = search_step(Counted(calls, 1'000'000), data, w0, options, ladder);
  CHECK(calls < calls_of_whole);
  CHECK(early.step == whole.step);
  CHECK(early.trials.front().status == Status::diverged);
  CHECK(std::isinf(early.trials.front().loss));
  Index judged = 0;
  for (const auto& trial : early.trials)
    for (const auto& other : whole.trials)
      if (trial.step == other.step && std::isfinite(trial.loss)) {
        ++judged;
        CHECK(trial.loss == other.loss);
      }
  CHECK(judged >= 2);

  const TemporaryFolder folder;
  ladder.checkpoint = folder.path() / "search";
  CHECK(search_step(LinearClassifier<double>(3, 3), data, w0, options, ladder).step == whole.step);
  ladder.hopeless_batches = 4;
  CHECK_THROWS_MATCHES(search_step(LinearClassifier<double>(3, 3), data, w0, options, ladder), CheckpointError,
                       message_contains("hopeless_batches 3 where this one has 4"));
  ladder.hopeless_batches = 3;
  std::string lines =
      detail::opened_checkpoint(detail::step_search_title, detail::checkpoint_content(ladder.checkpoint));
  const std::size_t status = lines.find("\nstatus ") + 8;
  lines.replace(status, lines.find('\n', status) - status, "99");
  write_file(ladder.checkpoint, detail::sealed_checkpoint(detail::step_search_title, lines.substr(1)));
  CHECK_THROWS_MATCHES(search_step(LinearClassifier<double>(3, 3), data, w0, options, ladder), CheckpointError,
                       message_contains("status 99, which does not exist"));
  ladder.hopeless_batches = -1;
  CHECK_THROWS_MATCHES(search_step(LinearClassifier<double>(3, 3), data, w0, options, ladder), ArgumentError,
                       message_contains("hopeless_batches must not be negative, got -1"));
}

TEST_CASE("steps that all kill the model tie, and the search continues below them") {
  const auto data = clusters(40, 0.1);
  SgdOptions<double> options;
  options.batch_size = 8;
  StepSearchOptions<double> ladder;
  ladder.largest = 1e6;
  ladder.ratio = 0.1;
  ladder.count = 10;
  for (const bool by_accuracy : {false, true}) {
    ladder.by_accuracy = by_accuracy;
    const auto search = search_step(Fragile(3, 3), data, Vector<double>::Zero(9), options, ladder);
    // 1e6, 1e5, 1e4 and 1e3 leave a loss of log 3, as good as one another.
    REQUIRE(search.trials.size() > 4);
    CHECK(search.trials[0].loss == search.trials[3].loss);
    CHECK(search.step < 1e3);
    options.step = search.step;
    options.max_epochs = ladder.trial_epochs;
    CHECK(evaluate(Fragile(3, 3), Sgd(Fragile(3, 3), data, Vector<double>::Zero(9), options).run().w, data).error() <
          0.1);
  }
}

TEST_CASE("parameters that the last batch of a run has destroyed are not its result") {
  const auto unit = clusters(40, 0.4);
  const LabelledDataset<double> data(1e5 * unit.X(), unit.labels(), 3);
  SgdOptions<double> options;
  options.batch_size = 40;
  options.max_epochs = 1;
  options.step = 1e307;
  const Vector<double> w0 = Vector<double>::Zero(9);
  const auto result = Sgd(LinearClassifier<double>(3, 3), data, w0, options).run();
  CHECK(result.status == Status::non_finite);
  CHECK_FALSE(result.ok());
  CHECK(result.w == w0);
}

TEST_CASE("a model whose outputs are finite but nonsense after the last batch is not the result either") {
  const auto data = clusters(40, 0.4);
  SgdOptions<double> options;
  options.batch_size = 40;
  options.step = 100.0;  // the first step leaves the ball
  const Vector<double> w0 = Vector<double>::Constant(9, 0.1);
  for (const Index epochs : {Index(1), Index(5)}) {
    options.max_epochs = epochs;
    const auto result = Sgd(Cliff(3, 3), data, w0, options).run();
    CHECK(result.status == Status::diverged);
    CHECK(result.w == w0);
    CHECK(result.final.loss == evaluate(Cliff(3, 3), w0, data).loss);
  }
}

TEST_CASE("the result tells loss and accuracy over all samples at its parameters") {
  const auto data = clusters(30, 0.4);
  SgdOptions<double> options;
  options.batch_size = 7;
  options.max_epochs = 20;
  for (const double stop_loss : {0.0, 0.5}) {
    options.stop_loss = stop_loss;
    options.stop_accuracy = stop_loss > 0.0 ? 0.5 : 1.0;
    const auto result = Sgd(LinearClassifier<double>(3, 3), data, Vector<double>::Zero(9), options).run();
    CHECK((result.status == Status::tolerance_reached) == (stop_loss > 0.0));
    const Score all = evaluate(LinearClassifier<double>(3, 3), result.w, data);
    // another order of the sum
    CHECK_THAT(result.final.loss, near(all.loss, 1e-13, 0));
    CHECK(result.final.accuracy == all.accuracy);
  }
}

TEST_CASE("a step search that was interrupted resumes from its file, and refuses another's") {
  const TemporaryFolder folder;
  const auto data = clusters(40, 0.4);
  const Vector<double> w0 = Vector<double>::Constant(9, 0.1);
  SgdOptions<double> options;
  options.batch_size = 10;
  StepSearchOptions<double> ladder;
  ladder.largest = 1e6;
  Index calls = 0;
  const auto undisturbed = search_step(Counted(calls, 1'000'000), data, w0, options, ladder);
  const Index all_calls = calls;
  ladder.checkpoint = folder.path() / "search";
  for (const double part : {0.3, 0.6, 0.9}) {
    std::filesystem::remove(ladder.checkpoint);
    calls = 0;
    const auto limit = static_cast<Index>(part * static_cast<double>(all_calls));
    CHECK_THROWS_AS(search_step(Counted(calls, limit), data, w0, options, ladder), ConvergenceError);
    calls = 0;
    const auto resumed = search_step(Counted(calls, 1'000'000), data, w0, options, ladder);
    // At most the trial in flight is repeated, of an even share of the whole; one call for the identity.
    CHECK(calls <= all_calls - limit + all_calls / static_cast<Index>(undisturbed.trials.size()) + 2);
    CHECK(resumed.step == undisturbed.step);
    REQUIRE(resumed.trials.size() == undisturbed.trials.size());
    for (std::size_t k = 0; k < resumed.trials.size(); ++k) {
      CHECK(resumed.trials[k].step == undisturbed.trials[k].step);
      CHECK(resumed.trials[k].loss == undisturbed.trials[k].loss);
      CHECK(resumed.trials[k].status == undisturbed.trials[k].status);
    }
  }
  ladder.trial_epochs = 4;
  CHECK_THROWS_MATCHES(search_step(Counted(calls, 1'000'000), data, w0, options, ladder), CheckpointError,
                       message_contains("trial_epochs 3"));
  ladder.trial_epochs = 3;
  options.seed = 5;
  CHECK_THROWS_MATCHES(search_step(Counted(calls, 1'000'000), data, w0, options, ladder), CheckpointError,
                       message_contains("seed"));
}

TEST_CASE("a trainer saves no more often than it is asked to, and at the end") {
  const TemporaryFolder folder;
  const auto data = clusters(20, 0.4);
  SgdOptions<double> options;
  options.batch_size = 5;
  options.max_epochs = 6;
  options.checkpoint = folder.path() / "run";
  options.checkpoint_epochs = 1;
  options.checkpoint_seconds = 1e6;
  bool early = false;
  options.on_epoch = [&](const EpochRecord& record) {
    if (record.epoch < 6) early = early || std::filesystem::exists(options.checkpoint);
    return true;
  };
  const LinearClassifier<double> model(3, 3);
  const auto result = Sgd(model, data, Vector<double>::Zero(9), options).run();
  CHECK_FALSE(early);
  Sgd resumed(model, data, Vector<double>::Zero(9), options);
  resumed.load(options.checkpoint);
  CHECK(resumed.epoch() == 6);
  CHECK(resumed.w() == result.w);
}

TEST_CASE("SGD refuses bad input, naming it") {
  const auto data = clusters(10, 0.4);
  const LinearClassifier<double> model(3, 3);
  const Vector<double> w0 = Vector<double>::Zero(9);
  const auto refuses = [&](const auto& change, const std::string& part) {
    SgdOptions<double> options;
    options.batch_size = 5;
    change(options);
    CHECK_THROWS_MATCHES(Sgd(model, data, w0, options), ArgumentError, message_contains(part));
  };
  refuses([](auto& o) { o.batch_size = 11; }, "batch_size must be in 1 .. N = 10, got 11");
  refuses([](auto& o) { o.batch_size = 0; }, "batch_size");
  refuses([](auto& o) { o.batch_size = Index(1) << 50; }, "batch_size must be in 1 .. N = 10");
  refuses([](auto& o) { o.step = 0; }, "step must be positive and finite, got 0");
  refuses([](auto& o) { o.step = std::nan(""); }, "step");
  refuses([](auto& o) { o.momentum = 1; }, "momentum");
  refuses([](auto& o) { o.growth_loss = -1; }, "growth_loss must not be negative, and finite, got -1");
  refuses([](auto& o) { o.growth_loss = std::numeric_limits<double>::infinity(); }, "growth_loss");
  refuses([](auto& o) { o.most_growth = 0.5; }, "most_growth must be at least 1, and finite, got 0.5");
  refuses([](auto& o) { o.most_growth = std::nan(""); }, "most_growth");
  refuses([](auto& o) { o.max_epochs = 0; }, "max_epochs");
  refuses([](auto& o) { o.stop_accuracy = 1.5; }, "stop_accuracy");
  refuses([](auto& o) { o.stop_loss = -1; }, "stop_loss");
  refuses([](auto& o) { o.stall_epochs = -1; }, "stall_epochs must not be negative, got -1");
  refuses([](auto& o) { o.divergence_factor = 1; }, "divergence_factor");
  refuses([](auto& o) { o.checkpoint_epochs = 0; }, "checkpoint_epochs");
  refuses([](auto& o) { o.checkpoint_seconds = -1; }, "checkpoint_seconds");
  refuses([](auto& o) { o.parallel.threads = -1; }, "threads must not be negative, got -1");
  SgdOptions<double> options;
  options.batch_size = 5;
  CHECK_THROWS_AS(Sgd(LinearClassifier<double>(4, 3), data, Vector<double>::Zero(12), options), DimensionError);
  CHECK_THROWS_AS(Sgd(LinearClassifier<double>(3, 2), data, Vector<double>::Zero(6), options), DimensionError);
  CHECK_THROWS_AS(Sgd(model, data, Vector<double>::Zero(8), options), DimensionError);
  CHECK_THROWS_AS(Sgd(model, data, Vector<double>::Constant(9, std::nan("")), options), NonFiniteError);
  CHECK_THROWS_AS(evaluate(model, Vector<double>::Zero(8), data), DimensionError);
  const Dataset<double> numbers(Matrix<double>::Ones(5, 3), Vector<double>::Ones(5));
  options.growth_loss = 0.1;
  CHECK_THROWS_MATCHES(Sgd(SquaredDiagonalNet<double>(3), numbers, Vector<double>::Ones(6), options), ArgumentError,
                       message_contains("growth_loss is for losses whose curvature falls as they do"));
  options.growth_loss = 0;
  StepSearchOptions<double> ladder;
  ladder.ratio = 1;
  CHECK_THROWS_MATCHES(search_step(model, data, w0, options, ladder), ArgumentError, message_contains("ratio"));
  ladder = {};
  ladder.count = 0;
  CHECK_THROWS_AS(search_step(model, data, w0, options, ladder), ArgumentError);
}

TEST_CASE("SGD in the regression setting is its own loop, for the squared diagonal net and K outputs") {
  RandomStream random(61);
  const auto check = [&](const auto& model, const Dataset<>& data, const Vector<double>& w0, double momentum) {
    SgdOptions<double> options;
    options.step = 2e-3;
    options.batch_size = 4;  // the last batch has 2 samples
    options.max_epochs = 6;
    options.momentum = momentum;
    options.seed = 9;
    const auto result = Sgd(model, data, w0, options).run();
    REQUIRE(result.status == Status::max_steps);
    // The loop, written out.
    Vector<double> w = w0;
    Vector<double> velocity = Vector<double>::Zero(w.size());
    double last_epoch = 0.0;
    for (std::uint64_t epoch = 0; epoch < 6; ++epoch) {
      std::vector<Index> order(10);
      std::iota(order.begin(), order.end(), Index(0));
      RandomStream of_epoch(9, epoch);
      shuffle(of_epoch, order);
      last_epoch = 0.0;
      for (Index first = 0; first < 10; first += 4) {
        const Index size = std::min<Index>(4, 10 - first);
        Vector<double> gradient = Vector<double>::Zero(w.size());
        for (Index b = 0; b < size; ++b) {
          const Index n = order[static_cast<std::size_t>(first + b)];
          const Matrix<double> x = data.X().row(n);
          Matrix<double> f(1, data.num_outputs());
          Vector<double> of_sample(w.size());
          detail::predict_of(model, w, x, f);
          const Matrix<double> slope = 2.0 * (f - data.Y().row(n));
          last_epoch += slope.squaredNorm() / 4.0;
          detail::vjp_of(model, w, x, slope, of_sample);
          gradient += of_sample / static_cast<double>(size);
        }
        velocity = momentum * velocity - 2e-3 * gradient;
        w += velocity;
      }
    }
    // The same sums in another order.
    CHECK((result.w - w).norm() <= 1e-13 * w.norm());
    CHECK((w - w0).norm() > 1e-3 * w0.norm());
    CHECK_THAT(result.records.back().loss, near(last_epoch / 10.0, 1e-12, 0.0));
    CHECK(result.records.back().accuracy == 1.0);
    const Score all = evaluate(model, result.w, data);
    CHECK_THAT(result.final.loss, near(all.loss, 1e-13, 0.0));
  };
  const Dataset<> data = gaussian_data(random, 10, 7);
  const SquaredDiagonalNet<double> net(7);
  check(net, data, net.initial_parameters(Scale<>::from_value(0.5)), 0.0);
  check(net, data, net.initial_parameters(Scale<>::from_value(0.5)), 0.8);
  const ReluNetwork<double> two(7, {5}, true, 2);
  const auto many = Dataset<>::with_outputs(data.X(), random_matrix(random, 10, 2));
  check(two, many, two.initial_parameters(random, Scale<>::from_value(1.0)), 0.0);

  // Fits, with a step that is searched, and resumes from a file.
  const test_support::TemporaryFolder folder;
  SgdOptions<double> options;
  options.batch_size = 5;
  options.max_epochs = 4000;
  options.stop_loss = 1e-6;
  const Vector<double> w0 = net.initial_parameters(Scale<>::from_value(0.5));
  const Dataset fewer(data.X().topRows(5), data.y().head(5));
  options.step = search_step(net, fewer, w0, options, StepSearchOptions<double>{}).step;
  const auto fitted = Sgd(net, fewer, w0, options).run();
  CHECK(fitted.status == Status::tolerance_reached);
  CHECK(fitted.final.loss <= 1e-6);
  Sgd first(net, fewer, w0, options);
  for (int k = 0; k < 3; ++k) REQUIRE(first.step());
  first.save(folder.path() / "regression");
  Sgd second(net, fewer, w0, options);
  second.load(folder.path() / "regression");
  CHECK(same_run(second.run(), fitted));
  const Dataset other(fewer.X(), Vector<double>(2.0 * fewer.y()));
  Sgd refusing(net, other, w0, options);
  CHECK_THROWS_MATCHES(refusing.load(folder.path() / "regression"), CheckpointError, message_contains("data"));
  CHECK_THROWS_MATCHES(Sgd(two, fewer, w0, options), DimensionError, message_contains("K = 1"));
}

TEST_CASE("automatic, unbiased and factorized models train too") {
  RandomStream random(62);
  const auto fits = [&](const auto& model, const Dataset<>& data, const Vector<double>& w0, double step) {
    SgdOptions<double> options;
    options.step = step;
    options.batch_size = 2;
    options.max_epochs = 20000;
    options.stop_loss = 1e-6;
    const auto result = Sgd(model, data, w0, options).run();
    CAPTURE(result.message);
    CHECK(result.status == Status::tolerance_reached);
  };
  const Dataset<> data = gaussian_data(random, 4, 2);
  fits(Autodiff(TanhUnits{}), data, random_vector(random, 12), 0.05);
  const ReluNetwork<double> net(2, {20}, true);
  const Vector<double> w0 = net.initial_parameters(random, Scale<>::from_value(1.0));
  fits(Unbiased(net, w0), data, w0, 0.02);
  const MatrixFactorization<double> product(3, 3, 3);
  const Dataset<> rows = gaussian_data(random, 4, 9);
  const Dataset measured(MatrixMeasurements<double>::dense(3, 3, rows.X()), rows.y());
  fits(product, measured, random_vector(random, 18), 0.005);
}
