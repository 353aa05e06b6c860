#include "claims.hpp"
#include "fuzz.hpp"

using namespace richflow::examples;

std::vector<std::string> fuzz::seeds() {
  return {claims_json(
              {claim_at_most("fig1a", "the gap", 0.25, 0.3), claim_at_least("fig2b", "\u03b1, \"quoted\"\n", 2, 3)}),
          claims_json({claim_between("fig3", "none", std::numeric_limits<double>::quiet_NaN(), 0, 1)}),
          claims_json({})};
}

void fuzz::try_input(const std::string& content) {
  const std::vector<Claim> claims = read_claims(file("claims.json", content));
  const std::vector<Claim> back = read_claims(file("again.json", claims_json(claims)));
  expect(back.size() == claims.size(), "as many claims read back");
  for (std::size_t k = 0; k < claims.size(); ++k) {
    const Claim& a = claims[k];
    const Claim& b = back[k];
    expect(a.figure == b.figure && a.claim == b.claim && a.expected == b.expected && a.holds == b.holds &&
               same(a.measured, b.measured),
           "the claims read back");
  }
}
