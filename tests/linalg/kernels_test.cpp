#include "richflow/linalg/kernels.hpp"

#include <cmath>
#include <limits>

#include "richflow/core/random.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

}  // namespace

TEST_CASE("what is done with whole vectors is what it says, for every length and in place") {
  RandomStream random(71);
  for (Index n = 0; n <= 21; ++n) {
    CAPTURE(n);
    const Vector<double> x = random_matrix(random, n, 1), y = random_matrix(random, n, 1);
    // Sums of n terms in any order: n roundings of terms that the norms bound.
    const double rounding = static_cast<double>(n) * std::numeric_limits<double>::epsilon() * x.norm() * y.norm();
    double sum = 0;
    for (Index i = 0; i < n; ++i) sum += x[i] * y[i];
    CHECK(std::abs(detail::inner_product(x, y) - sum) <= rounding);
    CHECK(std::abs(detail::norm(x) - std::sqrt(std::abs(detail::inner_product(x, x)))) == 0);
    CHECK(detail::largest_size(x) == (n > 0 ? x.cwiseAbs().maxCoeff() : 0.0));
    Vector<double> out = y;
    detail::add_multiple(-2.0, x, out);
    CHECK((out - (y - 2 * x)).norm() == 0);
    detail::multiple(3.0, x, out);
    CHECK((out - 3 * x).norm() == 0);
    detail::sum_with_multiple(x, 4.0, y, out);
    CHECK((out - (x + 4 * y)).norm() == 0);
    detail::multiply_entries(x, y, out);
    CHECK((out - x.cwiseProduct(y)).norm() == 0);
    // In place.
    out = x;
    detail::sum_with_multiple(y, 0.5, out, out);
    CHECK((out - (y + 0.5 * x)).norm() == 0);
    out = x;
    detail::multiply_entries(out, out, out);
    CHECK((out - x.cwiseProduct(x)).norm() == 0);
  }
}

TEST_CASE("the largest size is NaN where an entry is, wherever that stands, and infinite where one is") {
  for (const Index size : {1, 3, 16, 37})
    for (Index at = 0; at < size; ++at) {
      CAPTURE(size, at);
      Vector<double> x = Vector<double>::Constant(size, -2.0);
      x[at] = nan_value;
      CHECK(std::isnan(detail::largest_size(x)));
      x[(at + 1) % size] = infinity;
      CHECK((std::isnan(detail::largest_size(x)) || size == 1));
      x[at] = -infinity;
      CHECK(detail::largest_size(x) == infinity);
    }
}

TEST_CASE("images of blocks under a matrix and its transpose") {
  RandomStream random(72);
  const Matrix<double> A = random_matrix(random, 12, 9);
  for (const Index m : {0, 1, 5, 12})
    for (const Index n : {0, 1, 4, 9}) {
      CAPTURE(m, n);
      const Vector<double> x = random_matrix(random, n, 1), y = random_matrix(random, m, 1);
      Vector<double> image = y, back = x;
      detail::add_image(-2.0, A.data(), A.rows(), m, n, x.data(), image.data());
      detail::add_transposed_image(3.0, A.data(), A.rows(), m, n, y.data(), back.data());
      // Sums of at most 13 terms in another order.
      const double rounding =
          16 * std::numeric_limits<double>::epsilon() * (1 + A.norm()) * 3 * (1 + x.norm() + y.norm());
      for (Index i = 0; i < m; ++i) {
        double sum = y[i];
        for (Index j = 0; j < n; ++j) sum -= 2 * A(i, j) * x[j];
        CHECK(std::abs(image[i] - sum) <= rounding);
      }
      for (Index j = 0; j < n; ++j) {
        double sum = x[j];
        for (Index i = 0; i < m; ++i) sum += 3 * A(i, j) * y[i];
        CHECK(std::abs(back[j] - sum) <= rounding);
      }
    }
}

TEST_CASE("square norms of rows and columns in one pass") {
  RandomStream random(73);
  for (const Index m : {1, 2, 3, 4, 7, 30})
    for (const Index n : {0, 1, 2, 3, 6}) {
      CAPTURE(m, n);
      const Matrix<double> A = random_matrix(random, m, n);
      Vector<double> rows = Vector<double>::Constant(m, 2.0), columns = Vector<double>::Constant(n, 3.0);
      Vector<double> of_rows = rows, of_columns = columns;
      for (Index i = 0; i < m; ++i)
        for (Index j = 0; j < n; ++j) {
          rows[i] += A(i, j) * A(i, j);
          columns[j] += A(i, j) * A(i, j);
        }
      // Terms of one sign: a rounding for each product and sum, in both.
      const double rounding = 2 * static_cast<double>(m + n + 1) * std::numeric_limits<double>::epsilon();
      detail::add_square_norms(A.data(), m, n, of_rows.data(), of_columns.data());
      CHECK(((of_rows - rows).array().abs() <= rounding * rows.array()).all());
      CHECK(((of_columns - columns).array().abs() <= rounding * columns.array()).all());
      // Either alone has the same bits.
      Vector<double> only_rows = Vector<double>::Constant(m, 2.0), only_columns = Vector<double>::Constant(n, 3.0);
      detail::add_square_norms<double>(A.data(), m, n, only_rows.data(), nullptr);
      detail::add_square_norms<double>(A.data(), m, n, nullptr, only_columns.data());
      CHECK(only_rows == of_rows);
      CHECK(only_columns == of_columns);
    }
}
