#include "richflow/problems/circle.hpp"

#include <cmath>
#include <limits>

#include "support/catch.hpp"

using namespace richflow;
using namespace test_support;

TEST_CASE("the circle teacher labels points on the circle with a network of norm one") {
  for (std::uint64_t stream = 0; stream < 20; ++stream) {
    CircleTeacherOptions options;
    options.seed = 5;
    options.stream = stream;
    const CircleTeacher<> problem = circle_teacher(options);
    CHECK(problem.dataset.num_samples() == 10);
    // Two roundings of cosine and sine.
    CHECK((problem.dataset.X().rowwise().norm().array() - 1.0).abs().maxCoeff() <=
          4 * std::numeric_limits<double>::epsilon());
    CHECK((problem.labels(problem.dataset.X()) - problem.dataset.y()).norm() == 0.0);
    // The mean over 360 points is that over 1000 up to the kinks of three units, 1 / 360^2 each.
    const Vector<double> y = problem.labels(CircleTeacher<>::grid(1000));
    CHECK_THAT(y.norm() / std::sqrt(1000.0), near(1.0, 1e-3, 0.0));
  }
}

TEST_CASE("a circle teacher in single precision is that in double precision, rounded") {
  const CircleTeacherOptions options{.seed = 3};
  const CircleTeacher<> wide = circle_teacher(options);
  const CircleTeacher<float> narrow = circle_teacher<float>(options);
  // Both come of the same random numbers; the network sums a few products, each rounded to 6e-8.
  CHECK((narrow.dataset.X().cast<double>() - wide.dataset.X()).cwiseAbs().maxCoeff() <= 1e-7);
  CHECK((narrow.dataset.y().cast<double>() - wide.dataset.y()).norm() <= 1e-5 * wide.dataset.y().norm());
}

TEST_CASE("circle teachers repeat by seed and stream, and refuse empty sizes") {
  CircleTeacherOptions options;
  const CircleTeacher<> a = circle_teacher(options);
  CHECK(circle_teacher(options).dataset.y() == a.dataset.y());
  options.stream = 1;
  CHECK(circle_teacher(options).dataset.y() != a.dataset.y());
  options.num_samples = 0;
  CHECK_THROWS_MATCHES(circle_teacher(options), DimensionError, message_contains("num_samples"));
  options.num_samples = 1;
  options.teacher_units = 0;
  CHECK_THROWS_AS(circle_teacher(options), DimensionError);
}
