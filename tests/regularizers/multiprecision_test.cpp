// The scalar functions with 50 digits, against the tables' 24: what remains after rounding to double cannot hide
// a wrong formula here. Needs Boost.Multiprecision, a test tool only.

#include "support/catch.hpp"

#if __has_include(<boost/multiprecision/cpp_bin_float.hpp>)

#include <boost/multiprecision/cpp_bin_float.hpp>
#include <string>

#include "richflow/regularizers/distance_to_initialization.hpp"
#include "richflow/regularizers/hypentropy.hpp"
#include "support/reference.hpp"

using Wide = boost::multiprecision::cpp_bin_float_50;

namespace {

/// |computed - exact| <= 1e-24 |exact|: the tables have 25 significant digits.
bool agrees(const Wide& computed, const Wide& exact) {
  const Wide difference = computed - exact;
  return abs(difference) <= Wide("1e-24") * abs(exact);
}

}  // namespace

TEST_CASE("q and q' agree with the reference table to all its digits") {
  const auto table = test_support::reference_table("hypentropy.csv");
  for (std::size_t i = 0; i < table.size(); ++i) {
    const Wide z(table.text(i, "z"));
    INFO("z = " << table.text(i, "z"));
    // The table's own arithmetic (60 digits, textbook form) cancels 41 digits at 1e-20; the series does not.
    const bool series = abs(z) < Wide("1e-19");
    CHECK(agrees(richflow::hypentropy(z), series ? Wide(z * z / 4 * (1 - z * z / 48)) : Wide(table.text(i, "q"))));
    CHECK(agrees(richflow::hypentropy_gradient(z), Wide(table.text(i, "dq"))));
  }
}

TEST_CASE("r agrees with the reference table to all its digits") {
  const auto table = test_support::reference_table("distance_r.csv");
  for (std::size_t i = 0; i < table.size(); ++i) {
    const Wide z(table.text(i, "z"));
    INFO("z = " << table.text(i, "z"));
    CHECK(agrees(richflow::distance_to_initialization(z), Wide(table.text(i, "r"))));
  }
}

#endif
