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

/// Ends the program unless a good file holds these rows.
void expect_rows(const std::filesystem::path& path, const std::vector<SweepRow>& rows) {
  const std::vector<SweepRow> back = fuzz::accepted([&] { return Journal::read(path, header); });
  fuzz::expect(back.size() == rows.size(), "as many rows read back");
  for (std::size_t k = 0; k < rows.size(); ++k) {
    fuzz::expect(back[k].cell == rows[k].cell && back[k].error == rows[k].error &&
                     back[k].values.size() == rows[k].values.size(),
                 "the rows read back");
    for (std::size_t i = 0; i < rows[k].values.size(); ++i)
      fuzz::expect(fuzz::same(back[k].values[i], rows[k].values[i]), "the numbers of the rows read back");
  }
}

void read_back(const std::string& content) {
  const std::filesystem::path path = fuzz::file("journal", content);
  const std::filesystem::path other = fuzz::folder() / "other";
  std::filesystem::remove(other);
  const auto rows = fuzz::unless_refused([&] { return Journal::read(path, header); });
  if (!rows) return;
  fuzz::expect(fuzz::content_of(path) == content, "reading changes nothing");
  const auto resumed = [&] { return Journal(path, header, Journal::Open::resume).rows(); };
  fuzz::expect(fuzz::accepted(resumed).size() == rows->size(), "as many rows resumed");
  {
    Journal journal(other, header, Journal::Open::resume);
    for (const SweepRow& row : *rows) journal.append(row);
  }
  expect_rows(other, *rows);
}

}  // namespace

std::vector<std::string> fuzz::seeds() {
  const SweepRow good = {0, {0.1, -1e-310, std::numeric_limits<double>::infinity()}, {}};
  const SweepRow failed = {2, {}, "it could not be done"};
  const SweepRow none = {1, {std::numeric_limits<double>::quiet_NaN()}, {}};
  const auto unsealed = [](const SweepRow& row) { return detail::to_line(row).substr(9); };
  const std::string whole = beginning() + detail::to_line(good) + "\n" + detail::to_line(failed) + "\n";
  expect_rows(file("journal", whole), {good, failed});
  const std::string lines = unsealed(good) + "\n" + unsealed(none) + "\n" + unsealed(failed);
  expect_rows(file("journal", sealed(lines)), {good, none, failed});
  return {whole, lines};
}

void fuzz::try_input(const std::string& content) {
  read_back(content);
  read_back(sealed(content));
}
