#include "richflow/core/status.hpp"

#include <set>
#include <sstream>
#include <string>

#include "support/catch.hpp"

using richflow::describe;
using richflow::is_success;
using richflow::Status;
using richflow::to_string;

namespace {

constexpr Status all_statuses[] = {Status::reached_end,       Status::event,      Status::stopped_by_observer,
                                   Status::tolerance_reached, Status::max_steps,  Status::step_too_small,
                                   Status::stalled,           Status::non_finite, Status::diverged};

}  // namespace

TEST_CASE("every status has its own name and sentence, and prints as its name") {
  std::set<std::string> names;
  std::set<std::string> sentences;
  for (const Status status : all_statuses) {
    names.insert(to_string(status));
    sentences.insert(describe(status));
    std::ostringstream text;
    text << status;
    CHECK(text.str() == to_string(status));
    CHECK(describe(status).size() > 15);
  }
  CHECK(names.size() == 9);
  CHECK(sentences.size() == 9);
}

TEST_CASE("a run succeeded when it ended as it was asked to") {
  const std::set<Status> good = {Status::reached_end, Status::event, Status::stopped_by_observer,
                                 Status::tolerance_reached};
  for (const Status status : all_statuses) CHECK(is_success(status) == (good.count(status) == 1));
}
