#define RICHFLOW_SWEEP_INLINE inline
#include "fuzz.hpp"
#include "richflow/core/error.hpp"
#include "richflow/sweep/journal.hpp"

using namespace richflow;

namespace {

const std::vector<std::string> header = {"grid alpha 1 2 3", "outputs loss"};

/// The file of no rows.
std::string beginning() {
  const std::filesystem::path path = fuzz::folder() / "beginning";
  static_cast<void>(Journal(path, header, Journal::Open::replace));
  return fuzz::content_of(path);
}

/// The same lines with their checksums before them.
std::string sealed(std::string_view lines) {
  std::string text = beginning();
  while (!lines.empty()) {
    const std::string_view line = lines.substr(0, lines.find('\n'));
    text.append(detail::line_checksum(line)).append(" ").append(line).append("\n");
    lines.remove_prefix(std::min(line.size() + 1, lines.size()));
  }
  return text;
}

void read_back(const std::string& content) {
  const std::filesystem::path path = fuzz::file("journal", content);
  const std::filesystem::path other = fuzz::folder() / "other";
  std::filesystem::remove(other);
  std::vector<SweepRow> rows;
  try {
    rows = Journal::read(path, header);
  } catch (const Error&) {
    return;
  }
  fuzz::expect(fuzz::content_of(path) == content, "reading changes nothing");
  fuzz::expect(Journal(path, header, Journal::Open::resume).rows().size() == rows.size(), "as many rows resumed");
  {
    Journal journal(other, header, Journal::Open::resume);
    for (const SweepRow& row : rows) journal.append(row);
  }
  const std::vector<SweepRow> back = Journal::read(other, header);
  fuzz::expect(back.size() == rows.size(), "as many rows read back");
  for (std::size_t k = 0; k < rows.size(); ++k) {
    fuzz::expect(back[k].cell == rows[k].cell && back[k].error == rows[k].error &&
                     back[k].values.size() == rows[k].values.size(),
                 "the rows read back");
    for (std::size_t i = 0; i < rows[k].values.size(); ++i)
      fuzz::expect(fuzz::same(back[k].values[i], rows[k].values[i]), "the numbers of the rows read back");
  }
}

}  // namespace

std::vector<std::string> fuzz::seeds() {
  const std::string good = detail::to_line({0, {0.1, -1e-310, std::numeric_limits<double>::infinity()}, {}});
  const std::string failed = detail::to_line({2, {}, "it could not be done"});
  const std::string none = detail::to_line({1, {std::numeric_limits<double>::quiet_NaN()}, {}});
  return {beginning() + good + "\n" + failed + "\n", good.substr(9) + "\n" + none.substr(9) + "\n" + failed.substr(9)};
}

void fuzz::try_input(const std::string& content) {
  read_back(content);
  read_back(sealed(content));
}
