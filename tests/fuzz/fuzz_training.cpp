#include "fuzz.hpp"
#include "richflow/data/labelled_dataset.hpp"
#include "richflow/models/linear_classifier.hpp"
#include "richflow/train/sgd.hpp"
#include "richflow/train/step_search.hpp"

using namespace richflow;

namespace {

/// The title of a file of `Sgd`.
constexpr const char* title = "richflow sgd checkpoint 2";

struct Problem {
  LabelledDataset<double> data = LabelledDataset<double>::from_columns(
      Matrix<double>{{1.0, 0.0, -1.0, 0.5}, {0.0, 1.0, 0.25, -1.0}}, Vector<int>{{0, 1, 1, 0}}, 2);
  LinearClassifier<double> model{2, 2};
  Vector<double> w0 = Vector<double>::LinSpaced(model.num_parameters(), -0.1, 0.1);
  SgdOptions<double> options = {.step = 0.1, .batch_size = 2, .max_epochs = 3, .momentum = 0.5};
  StepSearchOptions<double> ladder = {.largest = 0.1, .trial_epochs = 1};

  [[nodiscard]] Sgd<double> trainer() const { return Sgd(model, data, w0, options); }
};

const Problem& problem() {
  static const Problem problem;
  return problem;
}

void read_training(const std::string& content) {
  static Sgd<double> first = problem().trainer();
  static Sgd<double> second = problem().trainer();
  first.load(fuzz::file("training", content));
  const std::filesystem::path written = fuzz::folder() / "written";
  first.save(written);
  fuzz::accepted([&] { return second.load(written), true; });
  fuzz::expect(fuzz::same(first.w(), second.w()) && first.epoch() == second.epoch(), "the trainer reads back");
}

void expect_trials(const std::vector<StepTrial<double>>& back, const std::vector<StepTrial<double>>& trials) {
  fuzz::expect(back.size() == trials.size(), "as many trials read back");
  for (std::size_t k = 0; k < trials.size(); ++k)
    fuzz::expect(fuzz::same(back[k].step, trials[k].step) && back[k].status == trials[k].status &&
                     fuzz::same(back[k].loss, trials[k].loss) && fuzz::same(back[k].accuracy, trials[k].accuracy),
                 "the trials read back");
}

std::vector<StepTrial<double>> read_search(const std::string& content) {
  static const Sgd<double> trainer = problem().trainer();
  StepSearchOptions<double> ladder = problem().ladder;
  ladder.checkpoint = fuzz::file("search", content);
  const auto trials = detail::load_trials(trainer, ladder);
  ladder.checkpoint = fuzz::folder() / "written";
  detail::save_trials(trainer, ladder, trials);
  expect_trials(fuzz::accepted([&] { return detail::load_trials(trainer, ladder); }), trials);
  return trials;
}

/// The file of a trainer, from which another one goes on where this one is.
std::string seed(const Sgd<double>& trainer) {
  const std::filesystem::path path = fuzz::folder() / "seed";
  trainer.save(path);
  Sgd<double> other = problem().trainer();
  fuzz::accepted([&] { return other.load(path), true; });
  fuzz::expect(fuzz::same(other.w(), trainer.w()) && other.epoch() == trainer.epoch(), "the trainer is the same");
  fuzz::expect(!fuzz::same(other.w(), problem().w0), "the trainer has begun");
  return fuzz::content_of(path);
}

}  // namespace

std::vector<std::string> fuzz::seeds() {
  Sgd<double> trainer = problem().trainer();
  static_cast<void>(trainer.step());
  const std::string begun = seed(trainer);
  // To the second epoch.
  while (trainer.epoch() == 0) static_cast<void>(trainer.step());
  const std::string later = seed(trainer);
  StepSearchOptions<double> ladder = problem().ladder;
  ladder.checkpoint = folder() / "seed";
  const std::vector<StepTrial<double>> trials = {{0.1, Status::max_steps, 0.25, 0.75}, {0.025, Status::diverged}};
  detail::save_trials<double>(problem().trainer(), ladder, trials);
  const std::string searched = content_of(ladder.checkpoint);
  expect_trials(accepted([&] { return read_search(searched); }), trials);
  return {begun, lines_of(title, begun), lines_of(title, later), searched,
          lines_of(detail::step_search_title, searched)};
}

void fuzz::try_input(const std::string& content) {
  for (const std::string& text :
       {content, sealed_lines(title, content), sealed_lines(detail::step_search_title, content)}) {
    try {
      read_training(text);
    } catch (const Error&) {
    }
    try {
      static_cast<void>(read_search(text));
    } catch (const Error&) {
    }
  }
}
