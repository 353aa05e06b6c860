#include "claims.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <ostream>
#include <utility>

#include "files.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

using Json = nlohmann::ordered_json;

Json to_json(const Claim& claim) {
  Json entry;
  entry["figure"] = claim.figure;
  entry["claim"] = claim.claim;
  entry["expected"] = claim.expected;
  entry["measured"] = std::isfinite(claim.measured) ? Json(claim.measured) : Json(nullptr);
  entry["holds"] = claim.holds;
  return entry;
}

Claim from_json(const Json& entry) {
  Claim claim;
  entry.at("figure").get_to(claim.figure);
  entry.at("claim").get_to(claim.claim);
  entry.at("expected").get_to(claim.expected);
  claim.measured =
      entry.at("measured").is_null() ? std::numeric_limits<double>::quiet_NaN() : entry.at("measured").get<double>();
  entry.at("holds").get_to(claim.holds);
  return claim;
}

}  // namespace

double Worst::badness(double measured) const {
  return is_ == Is::largest ? measured : is_ == Is::smallest ? -measured : std::abs(measured - 1.0);
}

void Worst::add(double measured) {
  if (is_empty_ || !(badness(measured) <= badness(value_)))
    if (is_empty_ || !std::isnan(value_)) value_ = measured;
  is_empty_ = false;
}

Claim claim_between(std::string figure, std::string claim, double measured, double low, double high) {
  return {std::move(figure), std::move(claim), short_number(low) + " to " + short_number(high), measured,
          measured >= low && measured <= high};
}

Claim claim_at_most(std::string figure, std::string claim, double measured, double bound) {
  return {std::move(figure), std::move(claim), "at most " + short_number(bound), measured, measured <= bound};
}

Claim claim_at_least(std::string figure, std::string claim, double measured, double bound) {
  return {std::move(figure), std::move(claim), "at least " + short_number(bound), measured, measured >= bound};
}

bool all_hold(const std::vector<Claim>& claims) {
  for (const Claim& claim : claims)
    if (!claim.holds) return false;
  return true;
}

void print_claims(std::ostream& out, const std::vector<Claim>& claims) {
  for (const Claim& claim : claims)
    out << (claim.holds ? "  holds     " : "  VIOLATED  ") << claim.figure << ": " << claim.claim << ": "
        << short_number(claim.measured) << " (expected " << claim.expected << ")\n";
}

std::string claims_json(const std::vector<Claim>& claims) {
  Json list = Json::array();
  for (const Claim& claim : claims) list.push_back(to_json(claim));
  return list.dump(2);
}

std::vector<Claim> read_claims(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return {};
  std::ifstream in(path, std::ios::binary);
  if (!in) throw FileError("cannot read " + quoted(path));
  std::vector<Claim> claims;
  try {
    for (const Json& entry : Json::parse(in)) claims.push_back(from_json(entry));
  } catch (const nlohmann::json::exception& error) {
    throw FileError(quoted(path) + " is not a list of claims (" + error.what() + "); move it away and run again");
  }
  return claims;
}

namespace {

/// Held while it lives by one process (or thread) of all that ask for the same file.
class FileLock {
 public:
  explicit FileLock(const std::filesystem::path& path)
      : file_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    // A file system that knows no locks, or a folder that cannot be written, is found out by what follows.
    while (file_ >= 0 && ::flock(file_, LOCK_EX) != 0 && errno == EINTR) {
    }
  }
  ~FileLock() {
    if (file_ >= 0) ::close(file_);
  }
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int file_;
};

}  // namespace

void write_claims(const std::filesystem::path& path, const std::vector<Claim>& claims,
                  const std::set<std::string>& figures) {
  // Programs that end at the same time must not overwrite each other's claims.
  const FileLock lock(path.parent_path() / ("." + path.filename().string() + ".lock"));
  std::vector<Claim> all;
  for (const Claim& claim : read_claims(path))
    if (!figures.contains(claim.figure)) all.push_back(claim);
  all.insert(all.end(), claims.begin(), claims.end());
  write_file(path, claims_json(all) + "\n");
}

}  // namespace richflow::examples
