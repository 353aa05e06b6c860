#pragma once

#include <filesystem>
#include <iosfwd>
#include <limits>
#include <set>
#include <string>
#include <vector>

/// @file
/// Claims of the paper beside the numbers measured here: printed, and written to `claims.json`.

namespace richflow::examples {

/// One statement of the paper, checked. `measured` may be NaN when there is nothing to measure (a
/// claim about a quantity that does not exist in this run does not hold); JSON then has `null`.
struct Claim {
  std::string figure = {};    ///< panel, as in `fig1a`
  std::string claim = {};     ///< what is claimed, in words
  std::string expected = {};  ///< the range that counts as holding, in words
  double measured = 0.0;
  bool holds = false;
};

/// The worst of some measured numbers. NaN, of which no claim holds, before the first and from the first NaN on.
class Worst {
 public:
  enum class Is { largest, smallest, farthest_from_one };
  /// What is worst.
  explicit Worst(Is is) : is_(is) {}
  /// One more.
  void add(double measured);
  /// The worst so far.
  [[nodiscard]] double value() const { return value_; }

 private:
  [[nodiscard]] double badness(double measured) const;

  Is is_;
  bool is_empty_ = true;
  double value_ = std::numeric_limits<double>::quiet_NaN();
};

/// A claim that holds when `low <= measured <= high`.
[[nodiscard]] Claim claim_between(std::string figure, std::string claim, double measured, double low, double high);

/// A claim that holds when `measured <= bound`.
[[nodiscard]] Claim claim_at_most(std::string figure, std::string claim, double measured, double bound);

/// A claim that holds when `measured >= bound`.
[[nodiscard]] Claim claim_at_least(std::string figure, std::string claim, double measured, double bound);

/// True when every claim holds.
[[nodiscard]] bool all_hold(const std::vector<Claim>& claims);

/// One line per claim: whether it holds, the claim, the measured number, what was expected.
void print_claims(std::ostream& out, const std::vector<Claim>& claims);

/// The claims as a JSON list of `{figure, claim, expected, measured, holds}`.
[[nodiscard]] std::string claims_json(const std::vector<Claim>& claims);

/// Claims in `path`, a file written by `write_claims`; empty when there is no such file. Throws
/// FileError when the file cannot be read or is something else.
[[nodiscard]] std::vector<Claim> read_claims(const std::filesystem::path& path);

/// Writes `claims` into the file `path`, a JSON list of `{figure, claim, expected, measured, holds}`.
/// Programs share one folder: entries of other figures stay, those of `figures` are replaced. The file
/// is replaced in one move, so that a reader never sees half of it. Throws FileError.
void write_claims(const std::filesystem::path& path, const std::vector<Claim>& claims,
                  const std::set<std::string>& figures);

}  // namespace richflow::examples
