#include "claims.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "files.hpp"
#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow::examples;
using test_support::content_of;
using test_support::message_contains;
using test_support::TemporaryFolder;

TEST_CASE("claims are written as a list of five named fields") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "claims.json";
  const std::vector<Claim> claims = {claim_at_most("fig1a", "error \"left\"", 0.1, 0.25),
                                     claim_between("fig1a", "plateau", 2.0, 0.5, 1.5),
                                     {"fig1c", "a cliff", "at least 1000", std::nan(""), false}};
  write_claims(path, claims, {"fig1a", "fig1b", "fig1c"});
  const auto list = nlohmann::json::parse(content_of(path));
  REQUIRE(list.size() == 3);
  CHECK(list[0].size() == 5);
  CHECK(list[0]["figure"] == "fig1a");
  CHECK(list[0]["claim"] == "error \"left\"");
  CHECK(list[0]["expected"] == "at most 0.25");
  CHECK(list[0]["measured"] == 0.1);
  CHECK(list[0]["holds"] == true);
  CHECK(list[1]["holds"] == false);
  CHECK(list[2]["measured"].is_null());
}

TEST_CASE("a program replaces its own claims and keeps those of others") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "claims.json";
  write_claims(path, {claim_at_most("fig2", "old", 2.0, 1.0)}, {"fig2"});
  write_claims(path, {claim_at_least("fig1a", "one", 1.0, 0.0)}, {"fig1a", "fig1b"});
  write_claims(path, {claim_at_most("fig2", "new", 0.125, 1.0)}, {"fig2"});
  const auto claims = read_claims(path);
  REQUIRE(claims.size() == 2);
  CHECK(claims[0].figure == "fig1a");
  CHECK(claims[1].claim == "new");
  CHECK(claims[1].measured == 0.125);
  CHECK(claims[1].holds);
}

TEST_CASE("no file has no claims; a file of something else is refused, not overwritten") {
  const TemporaryFolder folder;
  CHECK(read_claims(folder.path() / "claims.json").empty());
  for (const char* text : {"", "[{\"figure\": 1}]", "[1, 2", "{\"a\": 1}", "not json"}) {
    INFO(text);
    const auto path = folder.file("claims.json", text);
    CHECK_THROWS_MATCHES(write_claims(path, {}, {}), FileError, message_contains("is not a list of claims"));
    CHECK(content_of(path) == text);
  }
}

TEST_CASE("claims hold within their bounds, never for NaN") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(claim_at_most("f", "c", 1.0, 1.0).holds);
  CHECK_FALSE(claim_at_most("f", "c", 1.0000001, 1.0).holds);
  CHECK_FALSE(claim_at_most("f", "c", nan, 1.0).holds);
  CHECK(claim_at_least("f", "c", 1.0, 1.0).holds);
  CHECK_FALSE(claim_at_least("f", "c", nan, 1.0).holds);
  CHECK(claim_between("f", "c", 1.5, 1.0, 2.0).holds);
  CHECK_FALSE(claim_between("f", "c", 2.5, 1.0, 2.0).holds);
  CHECK_FALSE(claim_between("f", "c", nan, 1.0, 2.0).holds);
  CHECK(all_hold({claim_at_most("f", "c", 0.0, 1.0)}));
  CHECK_FALSE(all_hold({claim_at_most("f", "c", 0.0, 1.0), claim_at_most("f", "c", 2.0, 1.0)}));
}

TEST_CASE("programs that end at the same time keep each other's claims") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "claims.json";
  constexpr int programs = 6;
  std::vector<::pid_t> children;
  for (int k = 0; k < programs; ++k) {
    const ::pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      const std::string figure = "fig" + std::to_string(k);
      try {
        for (int turn = 0; turn < 10; ++turn)
          write_claims(path, {claim_at_most(figure, "turn", turn, 100.0)}, {figure});
      } catch (const std::exception&) {
        ::_exit(1);
      }
      ::_exit(0);
    }
    children.push_back(child);
  }
  for (const ::pid_t child : children) {
    int state = 0;
    REQUIRE(::waitpid(child, &state, 0) == child);
    CHECK(WIFEXITED(state));
    CHECK(WEXITSTATUS(state) == 0);
  }
  const std::vector<Claim> claims = read_claims(path);
  CHECK(claims.size() == programs);
  for (const Claim& claim : claims) CHECK(claim.measured == 9.0);
}

TEST_CASE("each claim is printed with its number and what was expected") {
  std::ostringstream out;
  print_claims(out, {claim_at_most("fig1a", "left end", 1.43, 1.6), claim_at_least("fig1c", "cliff", 10.0, 1000.0)});
  CHECK(out.str() ==
        "  holds     fig1a: left end: 1.43 (expected at most 1.6)\n"
        "  VIOLATED  fig1c: cliff: 10 (expected at least 1000)\n");
}

TEST_CASE("the worst of numbers is NaN before the first, and from the first NaN on") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const Worst::Is is : {Worst::Is::largest, Worst::Is::smallest, Worst::Is::farthest_from_one}) {
    Worst worst(is);
    CHECK(std::isnan(worst.value()));
    for (const double number : {1.5, 0.25, 1.1}) worst.add(number);
    CHECK(worst.value() == (is == Worst::Is::largest ? 1.5 : 0.25));
    worst.add(nan);
    worst.add(2.0);
    CHECK(std::isnan(worst.value()));
  }
}
