#include "claims.hpp"
#include "fuzz.hpp"

using namespace richflow::examples;

namespace {

/// The file of some claims, which reads as them.
std::string written(const std::vector<Claim>& claims) {
  std::string content = claims_json(claims);
  const std::vector<Claim> back = fuzz::accepted([&] { return read_claims(fuzz::file("again.json", content)); });
  fuzz::expect(back.size() == claims.size(), "as many claims read back");
  for (std::size_t k = 0; k < claims.size(); ++k) {
    const Claim& a = claims[k];
    const Claim& b = back[k];
    fuzz::expect(a.figure == b.figure && a.claim == b.claim && a.expected == b.expected && a.holds == b.holds &&
                     fuzz::same(a.measured, b.measured),
                 "the claims read back");
  }
  return content;
}

}  // namespace

std::vector<std::string> fuzz::seeds() {
  return {
      written({claim_at_most("fig1a", "the gap", 0.25, 0.3), claim_at_least("fig2b", "\u03b1, \"quoted\"\n", 2, 3)}),
      written({claim_between("fig3", "none", std::numeric_limits<double>::quiet_NaN(), 0, 1)}), written({})};
}

void fuzz::try_input(const std::string& content) {
  static_cast<void>(written(read_claims(file("claims.json", content))));
}
