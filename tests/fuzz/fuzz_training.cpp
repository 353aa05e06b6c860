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
  second.load(written);
  fuzz::expect(fuzz::same(first.w(), second.w()) && first.epoch() == second.epoch(), "the trainer reads back");
}

void read_search(const std::string& content) {
  static const Sgd<double> trainer = problem().trainer();
  StepSearchOptions<double> ladder = problem().ladder;
  ladder.checkpoint = fuzz::file("search", content);
  const auto trials = detail::load_trials(trainer, ladder);
  ladder.checkpoint = fuzz::folder() / "written";
  detail::save_trials(trainer, ladder, trials);
  const auto back = detail::load_trials(trainer, ladder);
  fuzz::expect(back.size() == trials.size(), "as many trials read back");
  for (std::size_t k = 0; k < trials.size(); ++k)
    fuzz::expect(fuzz::same(back[k].step, trials[k].step) && back[k].status == trials[k].status &&
                     fuzz::same(back[k].loss, trials[k].loss) && fuzz::same(back[k].accuracy, trials[k].accuracy),
                 "the trials read back");
}

}  // namespace

std::vector<std::string> fuzz::seeds() {
  const std::filesystem::path path = folder() / "seed";
  Sgd<double> trainer = problem().trainer();
  static_cast<void>(trainer.step());
  trainer.save(path);
  const std::string begun = content_of(path);
  // To the second epoch.
  while (trainer.epoch() == 0) static_cast<void>(trainer.step());
  trainer.save(path);
  const std::string later = content_of(path);
  StepSearchOptions<double> ladder = problem().ladder;
  ladder.checkpoint = path;
  detail::save_trials<double>(problem().trainer(), ladder,
                              {{0.1, Status::max_steps, 0.25, 0.75}, {0.025, Status::diverged}});
  const std::string searched = content_of(path);
  return {begun, detail::opened_checkpoint(title, begun), detail::opened_checkpoint(title, later), searched,
          detail::opened_checkpoint(detail::step_search_title, searched)};
}

void fuzz::try_input(const std::string& content) {
  for (const std::string& text :
       {content, sealed_lines(title, content), sealed_lines(detail::step_search_title, content)}) {
    try {
      read_training(text);
    } catch (const Error&) {
    }
    try {
      read_search(text);
    } catch (const Error&) {
    }
  }
}
