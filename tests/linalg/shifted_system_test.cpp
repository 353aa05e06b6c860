#include "richflow/linalg/shifted_system.hpp"

#include <limits>

#include "richflow/core/random.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

TEST_CASE("one matrix serves many shifts, and keeps its entries") {
  RandomStream random(91);
  for (const Index n : {1, 4, 40}) {
    const Matrix<double> B = random_matrix(random, n, n);
    const Matrix<double> A = B * B.transpose();
    const Vector<double> b = random_matrix(random, n, 1);
    detail::ShiftedSystem<double> system;
    system.allocate(n);
    system.matrix() = A;
    for (const double shift : {1e3, 1.0, 1e-2})
      for (const bool is_graded : {false, true}) {
        CAPTURE(n, shift, is_graded);
        REQUIRE(system.factorize(shift, is_graded));
        CHECK(system.matrix() == A);
        Vector<double> v = b;
        system.solve_in_place(v);
        // The diagonal is lifted by 8 n roundings of A at most, by which the residual differs, and by those of
        // Cholesky.
        const double rounding = 16 * static_cast<double>(n + 1) * std::numeric_limits<double>::epsilon();
        CHECK((A * v + shift * v - b).norm() <= rounding * (A.norm() + shift) * v.norm());
      }
  }
}

TEST_CASE("a singular matrix can be factored at the smallest shift, an indefinite one cannot") {
  detail::ShiftedSystem<double> system;
  system.allocate(2);
  system.matrix() << 1, 1, 1, 1;
  CHECK(system.factorize(0.0, false));
  system.matrix() << 1, 2, 2, 1;
  CHECK(!system.factorize(0.5, false));
  CHECK(system.factorize(2.0, false));
  system.matrix()(0, 0) = std::numeric_limits<double>::quiet_NaN();
  CHECK(!system.factorize(2.0, false));
}
