#include "training.hpp"

#include <filesystem>
#include <utility>

#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "richflow/models/linear_classifier.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow;
using namespace richflow::examples;
using test_support::TemporaryFolder;

namespace {

/// A linear classifier that counts its batches, and is interrupted after so many.
class Interrupted {
 public:
  using Scalar = float;
  Interrupted(Index& count, Index limit) : count_(&count), limit_(limit) {}

  Index num_parameters() const { return inner_.num_parameters(); }
  Index num_outputs() const { return inner_.num_outputs(); }
  void predict(ConstVectorRef<float> w, ConstMatrixRef<float> X, MatrixRef<float> F) const {
    if (++*count_ > limit_) throw ConvergenceError("interrupted");
    inner_.predict(w, X, F);
  }
  void vjp(ConstVectorRef<float> w, ConstMatrixRef<float> X, ConstMatrixRef<float> G, VectorRef<float> out) const {
    inner_.vjp(w, X, G, out);
  }

 private:
  LinearClassifier<float> inner_ = LinearClassifier<float>(3, 3);
  Index* count_;
  Index limit_;
};

LabelledDataset<float> noise() {
  RandomStream random(11);
  Matrix<float> features = test_support::random_matrix(random, 3, 60).cast<float>();
  Vector<int> labels(60);
  for (Index n = 0; n < 60; ++n) labels[n] = static_cast<int>(random.uniform_integer(3));
  return LabelledDataset<float>::from_columns(std::move(features), std::move(labels), 3);
}

constexpr Index never = 1'000'000;

}  // namespace

TEST_CASE("searched steps and trained models are taken up where an interruption left them") {
  const TemporaryFolder outer;
  const auto data = noise();
  const Vector<float> w0 = Vector<float>::Zero(9);
  SgdOptions<float> sgd;
  sgd.batch_size = 20;
  sgd.max_epochs = 30;
  Index count = 0;
  const auto run = [&](Index limit, const TrainingFolder& folder) {
    count = 0;
    const Interrupted model(count, limit);
    sgd.step = 0.1F;
    sgd.step = search_step_resumably(model, data, w0, sgd, {.largest = 1.0F, .count = 4}, folder).step;
    const auto first = train_resumably(model, data, w0, sgd, folder);
    sgd.step /= 2;  // a retry
    const auto second = train_resumably(model, data, w0, sgd, folder);
    return std::pair{first.w, second.w};
  };
  const auto undisturbed = run(never, TrainingFolder());
  const Index all = count;
  const TrainingFolder folder(outer.path() / "net", 0.0);
  CHECK(run(never, folder) == undisturbed);
  CHECK(run(never, folder) == undisturbed);
  // Everything was there: what is left are the probes of three trainers and two evaluations of three batches each.
  CHECK(count < 20);
  CHECK(count < all / 10);
  folder.remove();
  CHECK_FALSE(std::filesystem::exists(outer.path() / "net"));

  const TrainingFolder again(outer.path() / "again", 0.0);
  // In the search, and in the second training.
  CHECK_THROWS_AS(run(20, again), ConvergenceError);
  CHECK_THROWS_AS(run(2 * all / 3, again), ConvergenceError);
  CHECK(run(never, again) == undisturbed);
  CHECK(count < 2 * all / 3);

  // Files of another run are reported and replaced.
  sgd.seed = 5;
  const auto other = run(never, again);
  CHECK(other.first != undisturbed.first);
  CHECK(run(never, TrainingFolder()) == other);
}

TEST_CASE("a folder that cannot be made is an error") {
  const TemporaryFolder outer;
  CHECK_THROWS_AS(TrainingFolder(outer.file("plain", "text") / "net", 60.0), FileError);
}
