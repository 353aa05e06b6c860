#include "richflow/limits/early_alignment.hpp"

#include <Eigen/LU>
#include <Eigen/QR>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "richflow/core/random.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/models/fully_connected.hpp"
#include "support/catch.hpp"
#include "support/numbers.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// `sum_n y_n [<w, x_n> > 0] x_n`.
Vector<double> pull_at(const Dataset<>& data, const Vector<double>& w) {
  const Vector<double> z = data.X() * w;
  return data.X().transpose() * (z.array() > 0.0).select(data.y(), 0.0).matrix();
}

double kink_sum(const Dataset<>& data, const Vector<double>& w) { return data.y().dot((data.X() * w).cwiseMax(0.0)); }

double weight_of(const Dataset<>& data) { return data.y().cwiseAbs().dot(data.X().rowwise().norm()); }

/// (w, a) at time t by the midpoint rule. Where the neuron crosses or slides it is of first order in the step.
Vector<double> stepped_neuron(const Dataset<>& data, const Vector<double>& w0, double a0, double t, int steps) {
  Vector<double> w = w0;
  double a = a0;
  const double h = t / steps;
  for (int k = 0; k < steps; ++k) {
    const Vector<double> D = pull_at(data, w), half = w + h * a * D;
    const double half_a = a + h * w.dot(D);
    const Vector<double> D_half = pull_at(data, half);
    w += 2.0 * h * half_a * D_half;
    a += 2.0 * h * half.dot(D_half);
  }
  Vector<double> state(w.size() + 1);
  state << w, a;
  return state;
}

double angle_between(const Vector<double>& u, const Vector<double>& v) {
  return 2.0 * std::asin(std::min(1.0, (u.normalized() - v.normalized()).norm() / 2.0));
}

/// How far the subdifferential of G at a direction is from its multiples, relative to `sum |y_n| |x_n|`: by coordinate
/// descent on the coefficients of the samples that the direction is orthogonal to.
double distance_from_critical(const Dataset<>& data, const Vector<double>& direction) {
  const auto across = [&](const Vector<double>& v) -> Vector<double> { return v - v.dot(direction) * direction; };
  Vector<double> sum = Vector<double>::Zero(data.num_inputs());
  std::vector<Vector<double>> kinks;
  for (Index n = 0; n < data.num_samples(); ++n) {
    const Vector<double> x = data.X().row(n);
    if (std::abs(x.dot(direction)) <= 1e-12 * x.norm())
      kinks.push_back(across(data.y()[n] * x));
    else if (x.dot(direction) > 0.0)
      sum += data.y()[n] * x;
  }
  sum = across(sum);
  std::vector<double> lambda(kinks.size(), 0.0);
  for (int sweep = 0; sweep < 2000; ++sweep)
    for (std::size_t i = 0; i < kinks.size(); ++i) {
      const double square = kinks[i].squaredNorm();
      if (square == 0.0) continue;
      const double next = std::clamp(lambda[i] - sum.dot(kinks[i]) / square, 0.0, 1.0);
      sum += (next - lambda[i]) * kinks[i];
      lambda[i] = next;
    }
  return sum.norm() / weight_of(data);
}

struct NeuronStart {
  Matrix<double> W = {};
  Vector<double> a = {};
};

/// Random neurons with `|a| = ratio |w|`.
NeuronStart random_neurons(RandomStream& random, Index d, Index h, double ratio) {
  NeuronStart start{random_matrix(random, d, h), Vector<double>(h)};
  for (Index j = 0; j < h; ++j)
    start.a[j] = (random.uniform_integer(2) == 0 ? 1.0 : -1.0) * ratio * start.W.col(j).norm();
  return start;
}

Vector<double> packed(const NeuronStart& start) {
  Vector<double> w(start.W.size() + start.a.size());
  w << start.W.reshaped(), start.a;
  return w;
}

/// All isolated critical points of G on the sphere, by trying every pattern of signs of `<u, x_n>`: in a face the only
/// candidates are plus and minus the projection of D.
std::vector<Vector<double>> directions_of_all_faces(const Dataset<>& data) {
  const Index n = data.num_samples(), d = data.num_inputs();
  std::vector<Vector<double>> found;
  std::vector<int> pattern(static_cast<std::size_t>(n), -1);
  const auto next = [&] {
    for (int& sign : pattern) {
      if (++sign <= 1) return true;
      sign = -1;
    }
    return false;
  };
  do {
    std::vector<Index> zeros;
    Vector<double> D = Vector<double>::Zero(d);
    for (Index k = 0; k < n; ++k) {
      const int sign = pattern[static_cast<std::size_t>(k)];
      if (sign == 0) zeros.push_back(k);
      if (sign > 0) D += data.y()[k] * data.X().row(k).transpose();
    }
    if (static_cast<Index>(zeros.size()) >= d) continue;
    // In general position the face on d - 1 hyperplanes is a ray, where D may vanish.
    Matrix<double> basis = Matrix<double>::Identity(d, d);
    if (!zeros.empty()) {
      const Matrix<double> rows = data.X()(zeros, Eigen::all);
      const Eigen::FullPivLU<Matrix<double>> factor(rows);
      basis = factor.kernel().householderQr().householderQ() *
              Matrix<double>::Identity(d, d - static_cast<Index>(zeros.size()));
    }
    const Vector<double> inside = basis.cols() == 1 ? basis.col(0).eval() : (basis * (basis.transpose() * D)).eval();
    if (inside.norm() <= 1e-12 * weight_of(data)) continue;
    for (const double side : {1.0, -1.0}) {
      const Vector<double> u = side * inside.normalized();
      bool fits = true;
      for (Index k = 0; k < n; ++k)
        if (const int sign = pattern[static_cast<std::size_t>(k)]; sign != 0)
          fits = fits && sign * data.X().row(k).dot(u) > 0.0;
      if (fits && distance_from_critical(data, u) <= 1e-12) found.push_back(u);
    }
  } while (next());
  return found;
}

/// By how much s G is above its value at u, 1e-5 away: the most over random directions, among them such that keep to
/// some of the hyperplanes that u is on, and an ascent from each.
double rise_around(const Dataset<>& data, const Vector<double>& u, int sign, RandomStream& random) {
  const Index d = u.size();
  const double here = sign * kink_sum(data, u), radius = 1e-5;
  const auto rise = [&](const Vector<double>& v) {
    return sign * kink_sum(data, Vector<double>((u + radius * v).normalized())) - here;
  };
  std::vector<Index> on;
  for (Index k = 0; k < data.num_samples(); ++k)
    if (std::abs(data.X().row(k).dot(u)) <= 1e-12) on.push_back(k);
  double most = -infinity;
  for (unsigned part = 0; part < 1U << on.size(); ++part) {
    Matrix<double> kept(d, d);
    Index count = 1;
    kept.col(0) = u;
    for (std::size_t i = 0; i < on.size(); ++i)
      if ((part >> i & 1U) != 0) kept.col(count++) = data.X().row(on[i]).transpose();
    if (count == d) continue;
    const Matrix<double> basis =
        kept.leftCols(count).householderQr().householderQ() * Matrix<double>::Identity(d, d).rightCols(d - count);
    for (int start = 0; start < 6; ++start) {
      Vector<double> best = (basis * random_vector(random, d - count)).normalized();
      double size = 1.0;
      for (int step = 0; step < 40; ++step) {
        const Vector<double> other = (best + size * (basis * random_vector(random, d - count))).normalized();
        if (rise(other) > rise(best))
          best = other;
        else
          size *= 0.85;
      }
      most = std::max(most, rise(best));
    }
  }
  return most;
}

Dataset<> unit_data(Index n, double y0) {
  Vector<double> y = Vector<double>::Zero(n);
  y[0] = y0;
  return {Matrix<double>::Identity(n, n), y};
}

}  // namespace

TEST_CASE("early alignment: one sample, in closed form") {
  // With x = (1, 0), y = 1: w_1' = 2 a, a' = 2 w_1 as long as w_1 > 0.
  Matrix<double> X(1, 2);
  X << 1, 0;
  const Dataset<> data(X, Vector<double>{{1.0}});
  Matrix<double> W(2, 4);
  W << 1, 1, 1, -1,  //
      0.5, 0.5, 0.5, 2;
  const Vector<double> a{{0.7, -0.5, -3.0, 1.0}};
  const EarlyAlignment<> early = early_alignment(data, W, a);
  for (const double t : {0.0, 0.1, 0.3, 1.0, 3.0}) {
    const Vector<double> w = early.parameters_at(t);
    for (const Index j : {0, 1}) {
      CAPTURE(t, j);
      const double c = std::cosh(2.0 * t), s = std::sinh(2.0 * t);
      CHECK_THAT(w[2 * j], near(c + a[j] * s, 1e-14, 1e-14));
      CHECK_THAT(w[2 * j + 1], near(0.5, 1e-15, 0));
      CHECK_THAT(w[8 + j], near(a[j] * c + s, 1e-14, 1e-14));
    }
    CHECK(w[6] == -1.0);
  }
  CHECK(early.ok());
  const auto& [plain, turning, dying, dead] =
      std::tie(early.neurons[0], early.neurons[1], early.neurons[2], early.neurons[3]);
  CHECK_THAT(plain.direction[0], near(1.0, 1e-15, 0));
  CHECK(plain.rate == 1.0);
  CHECK(plain.crossings == 0);
  CHECK_FALSE(plain.has_slid);
  // a passes 0 at tanh(2 t) = 1/2.
  CHECK(turning.sign_changes == 1);
  CHECK(turning.sign == 1);
  CHECK_THAT(turning.time, near(std::atanh(0.5) / 2.0, 1e-14, 0));
  // w_1 = 0 at tanh(2 t) = 1/3, and there it stays.
  CHECK(dying.is_dead);
  CHECK_THAT(dying.time, near(std::atanh(1.0 / 3.0) / 2.0, 1e-14, 0));
  CHECK(dying.crossings == 1);
  CHECK_FALSE(dying.has_slid);
  CHECK(dying.sign == -1);
  CHECK(dying.rate == 0.0);
  CHECK(dead.is_dead);
  CHECK(dead.crossings == 0);
  CHECK(early.fastest_rate() == 1.0);
  CHECK_THAT(early.growth_time(Scale<>::from_log(-10.0)), near(5.0, 1e-15, 0));
  CHECK(early.groups().size() == 1);
  CHECK(early.groups()[0].members == std::vector<Index>{0, 1});
  // The direction is known when the weights themselves have left the range of numbers.
  CHECK_THAT(early.directions_at(1e4)(0, 0), near(1.0, 1e-15, 0));
  CHECK(std::isinf(early.parameters_at(1e4)[0]));
  CHECK(early.directions_at(0.0).col(3).isApprox(Vector<double>{{-1.0, 2.0}}.normalized(), 1e-15));
}

TEST_CASE("early alignment: random neurons go where small steps lead, at every ratio of the layers") {
  RandomStream random(2630);
  Index crossings = 0, sliding = 0, sign_changes = 0, falling = 0, lost = 0;
  for (int trial = 0; trial < 45; ++trial) {
    const Index d = 1 + static_cast<Index>(random.uniform_integer(4)),
                n = 1 + static_cast<Index>(random.uniform_integer(8));
    const Dataset<> data = gaussian_data(random, n, d);
    const double ratio = trial % 3 == 0 ? 1.0 : random.uniform(0.2, 3.0);
    const NeuronStart start = random_neurons(random, d, 3, ratio);
    const EarlyAlignment<> early = early_alignment(data, start.W, start.a);
    const double t = 2.0 / weight_of(data);
    const Vector<double> exact = early.parameters_at(t);
    for (Index j = 0; j < 3; ++j) {
      const auto& neuron = early.neurons[static_cast<std::size_t>(j)];
      CAPTURE(trial, j, d, n, ratio, neuron.message);
      crossings += neuron.crossings;
      sliding += neuron.slides > 0 ? 1 : 0;
      sign_changes += neuron.sign_changes;
      falling += neuron.rate < 0.0 ? 1 : 0;
      if (!neuron.ok()) {
        ++lost;
        CHECK(ratio != 1.0);
        continue;
      }
      const Vector<double> seen = stepped_neuron(data, start.W.col(j), start.a[j], t, 2000);
      Vector<double> ours(d + 1);
      ours << exact.segment(j * d, d), exact[3 * d + j];
      // A step turns by 2 / 2000 at most, and each of a few crossings and slides is off by that.
      CHECK((ours - seen).norm() <= 5e-3 * seen.norm());
      CHECK(neuron.residual <= 1e-13);
      CHECK(distance_from_critical(data, neuron.direction) <= 1e-12);
      CHECK_THAT(neuron.rate, near(neuron.sign * kink_sum(data, neuron.direction), 0, 1e-12 * weight_of(data)));
      CHECK_THAT(neuron.direction.norm(), near(1.0, 1e-14, 0));
      // For good: what is shown much later is the limit, unless it turns slowly.
      if (std::abs(neuron.rate) > 0.05 * weight_of(data))
        CHECK(angle_between(early.directions_at(neuron.time + 400.0 / weight_of(data)).col(j), neuron.direction) <=
              1e-7);
    }
  }
  CHECK(crossings > 100);
  CHECK(sliding > 15);
  CHECK(sign_changes > 3);
  CHECK(falling > 3);
  CHECK(lost > 0);
}

TEST_CASE("early alignment: the flow of a network from a tiny start differs by the square of its scale") {
  RandomStream random(2631);
  int seen = 0;
  for (int trial = 0; trial < 6; ++trial) {
    const Index d = 2 + trial % 3, h = 8;
    // Labels and products of samples of one sign: no neuron slides, which would keep the steps of an integrator small.
    const Dataset<> data(random_matrix(random, 5, d).cwiseAbs(), random_vector(random, 5).cwiseAbs());
    const ReluNetwork<double> net(d, {h});
    const NeuronStart start = random_neurons(random, d, h, trial < 3 ? 1.0 : 1.5);
    const EarlyAlignment<> early = early_alignment(net, data, packed(start));
    if (!early.ok()) continue;
    const double t = 1.5 / early.fastest_rate();
    const GradientFlow<ReluNetwork<double>> flow(net, data);
    std::array<double, 2> errors = {0.0, 0.0}, weights = {0.0, 0.0};
    for (const int k : {0, 1}) {
      const double alpha = k == 0 ? 1e-3 : 1e-4;
      PiController<> controller;
      controller.tolerance = {1e-11, 1e-14 * alpha};
      const Vector<double> w =
          integrate(flow, Vector<double>(alpha * packed(start)), TimeSpan<>{0.0, t}, DormandPrince{}, controller)
              .require_ok()
              .w;
      const Matrix<double> directions = early.directions_at(t);
      for (Index j = 0; j < h; ++j)
        errors[static_cast<std::size_t>(k)] =
            std::max(errors[static_cast<std::size_t>(k)], angle_between(w.segment(j * d, d), directions.col(j)));
      weights[static_cast<std::size_t>(k)] =
          (w / alpha - early.parameters_at(t)).norm() / early.parameters_at(t).norm();
    }
    CAPTURE(trial, errors[0], errors[1], weights[0], weights[1]);
    // Of order alpha^2 exp(4 rate t), here some 1e-3 at most, and the next order is its square.
    CHECK(errors[0] < 0.02);
    CHECK_THAT(errors[0] / errors[1], near(100.0, 0.05 * 100.0, 0));
    CHECK_THAT(weights[0] / weights[1], near(100.0, 0.05 * 100.0, 0));
    ++seen;
  }
  CHECK(seen >= 4);
}

TEST_CASE("early alignment: neurons that slide are where descent with small steps keeps them") {
  // x_1 pulls with y = 2 towards the half-plane in which x_2 pushes back with y = -3.
  Matrix<double> X(2, 2);
  X << 1, 0,  //
      1, 1;
  const Dataset<> data(X, Vector<double>{{2.0, -3.0}});
  const NeuronStart start{Matrix<double>{{1.0, 1.0, 0.3}, {-2.0, 2.0, -0.9}}, Vector<double>{{1.0, 1.0, 1.0}}};
  const EarlyAlignment<> early = early_alignment(data, start.W, Vector<double>(start.W.colwise().norm())).require_ok();
  const Vector<double> ray = Vector<double>{{1.0, -1.0}}.normalized();
  for (const auto& neuron : early.neurons) {
    CHECK(neuron.slides == 1);
    CHECK(neuron.has_slid);
    CHECK((neuron.direction - ray).norm() <= 1e-14);
    // D is the projection of (2, 0) on the ray.
    CHECK_THAT(neuron.rate, near(std::sqrt(2.0), 1e-14, 0));
  }
  for (Index j = 0; j < 3; ++j) {
    const Vector<double> seen = stepped_neuron(data, start.W.col(j), start.W.col(j).norm(), 2.0, 20'000);
    // First order: h sum |y| |x| is 6e-4.
    CHECK(angle_between(seen.head(2), early.directions_at(2.0).col(j)) <= 1.5e-3);
  }
}

TEST_CASE("early alignment: on orthogonal data each neuron turns to the sum of the labels that it sees") {
  RandomStream random(2632);
  const Index n = 6, h = 200;
  Vector<double> y = random_vector(random, n);
  const Vector<double> lengths = random_positive_vector(random, n, 0.5, 2.0);
  const Matrix<double> X = lengths.asDiagonal();
  const Dataset<> data(X, y);
  const NeuronStart start = random_neurons(random, n, h, 1.0);
  const EarlyAlignment<> early = early_alignment(data, start.W, start.a).require_ok();
  // Boursier et al. 2022: a neuron with a > 0 loses what it sees of y < 0 and keeps the rest, the other sign likewise.
  for (Index j = 0; j < h; ++j) {
    Vector<double> expected = Vector<double>::Zero(n);
    for (Index k = 0; k < n; ++k)
      if (start.W(k, j) > 0.0 && y[k] * start.a[j] > 0.0) expected[k] = y[k] * lengths[k];
    const auto& neuron = early.neurons[static_cast<std::size_t>(j)];
    CAPTURE(j, neuron.message);
    CHECK(neuron.is_dead == (expected.norm() == 0.0));
    if (neuron.is_dead) continue;
    CHECK(angle_between(neuron.direction, neuron.sign * expected) <= 1e-13);
    CHECK_THAT(neuron.rate, near(expected.norm(), 1e-13, 0));
    CHECK(neuron.sign == (start.a[j] > 0.0 ? 1 : -1));
  }
  // Those that see everything of one sign grow fastest.
  double most = 0.0;
  for (const double side : {1.0, -1.0})
    most = std::max(most, (side * y.array() * lengths.array()).cwiseMax(0.0).matrix().norm());
  CHECK_THAT(early.fastest_rate(), near(most, 1e-13, 0));
}

TEST_CASE("early alignment: all extremal directions of the plane, and no other end") {
  RandomStream random(2633);
  int kinks = 0, inside = 0;
  for (int trial = 0; trial < 30; ++trial) {
    const Dataset<> data = gaussian_data(random, 1 + static_cast<Index>(random.uniform_integer(7)), 2);
    const auto extremal = extremal_directions(data);
    CAPTURE(trial);
    // Against the local maxima and minima of G on a fine circle.
    const int points = 5'000;
    std::vector<double> values;
    for (int k = 0; k < points; ++k) {
      const double angle = 2.0 * M_PI * (k + 0.123) / points - M_PI;
      values.push_back(kink_sum(data, Vector<double>{{std::cos(angle), std::sin(angle)}}));
    }
    std::size_t found = 0;
    for (int k = 0; k < points; ++k) {
      const double before = values[static_cast<std::size_t>((k + points - 1) % points)],
                   here = values[static_cast<std::size_t>(k)],
                   behind = values[static_cast<std::size_t>((k + 1) % points)];
      const int attracts = here > before && here > behind ? 1 : (here < before && here < behind ? -1 : 0);
      if (attracts == 0) continue;
      ++found;
      const double angle = 2.0 * M_PI * (k + 0.123) / points - M_PI;
      CHECK(std::any_of(extremal.begin(), extremal.end(), [&](const auto& one) {
        return one.attracts == attracts &&
               std::abs(std::remainder(one.angle - angle, 2.0 * M_PI)) < 2.0 * M_PI / points;
      }));
    }
    CHECK(found == extremal.size());
    for (const auto& one : extremal) {
      (one.is_kink ? kinks : inside) += 1;
      CHECK_THAT(one.value, near(kink_sum(data, one.direction), 0, 1e-13 * weight_of(data)));
      CHECK(distance_from_critical(data, one.direction) <= 1e-13);
      CHECK_THAT(one.direction[1], near(std::sin(one.angle), 0, 1e-15));
    }
    const NeuronStart start = random_neurons(random, 2, 20, 1.0);
    for (const auto& neuron : early_alignment(data, start.W, start.a).require_ok().neurons) {
      if (neuron.rate == 0.0) continue;
      CHECK(std::any_of(extremal.begin(), extremal.end(), [&](const auto& one) {
        return one.attracts == neuron.sign && angle_between(one.direction, neuron.direction) <= 1e-12;
      }));
    }
  }
  CHECK(kinks > 20);
  CHECK(inside > 20);
}

TEST_CASE("early alignment: in three and four dimensions neurons end in the extremal directions of all faces") {
  RandomStream random(2638);
  Index attracting = 0, repelling = 0, kinks = 0, falling = 0, ends = 0;
  for (int trial = 0; trial < 12; ++trial) {
    const Index d = 3 + trial % 2;
    const Dataset<> data = gaussian_data(random, 5 + trial % 3, d);
    const auto all = directions_of_all_faces(data);
    std::array<std::vector<Vector<double>>, 2> extremal;
    for (const Vector<double>& u : all) {
      const CriticalDirection<> judged = critical_direction(data, 3.0 * u);
      CAPTURE(trial, d, u.transpose(), judged.kinks);
      CHECK(judged.is_critical);
      CHECK_THAT(judged.value, near(kink_sum(data, u), 1e-13, 1e-14 * weight_of(data)));
      for (const int sign : {1, -1}) {
        const double rise = rise_around(data, u, sign, random);
        CAPTURE(sign, rise, to_string(judged.end(sign)));
        const bool attracts = judged.end(sign) == AlignmentEnd::attracting;
        // A rise or fall is of first or second order in the radius of 1e-5.
        if (std::abs(rise) > 1e-13 * weight_of(data)) CHECK(attracts == (rise < 0.0));
        (attracts ? attracting : repelling) += 1;
        if (!attracts) continue;
        extremal[sign > 0 ? 0 : 1].push_back(u);
        kinks += judged.kinks > 0 ? 1 : 0;
        falling += sign * judged.value < 0.0 ? 1 : 0;
      }
    }
    const NeuronStart start = random_neurons(random, d, 300, 1.0);
    const EarlyAlignment<> early = early_alignment(data, start.W, start.a).require_ok();
    std::array<std::size_t, 2> reached = {0, 0};
    for (const AlignedGroup<>& group : early.groups()) {
      CAPTURE(trial, d, group.sign, group.rate, group.slides, to_string(group.end));
      CHECK(group.end == AlignmentEnd::attracting);
      CHECK(group.end == critical_direction(data, group.direction).end(group.sign));
      const std::size_t side = group.sign > 0 ? 0 : 1;
      CHECK(std::count_if(extremal[side].begin(), extremal[side].end(),
                          [&](const Vector<double>& u) { return angle_between(u, group.direction) <= 1e-12; }) == 1);
      ++reached[side];
      ++ends;
    }
    // None is missed by so many neurons.
    CHECK(reached[0] == extremal[0].size());
    CHECK(reached[1] == extremal[1].size());
    for (const auto& neuron : early.neurons)
      if (neuron.is_dead) CHECK(neuron.end == AlignmentEnd::resting);
  }
  CAPTURE(attracting, repelling, kinks, falling, ends);
  CHECK(attracting > 40);
  CHECK(repelling > 40);
  CHECK(kinks > 20);
  CHECK(falling > 0);
}

TEST_CASE("early alignment: what a direction is, by hand") {
  // G = relu(u_1) + relu(u_2) in space: its maximum, a saddle on the way, and the rest.
  Matrix<double> X(2, 3);
  X << 1, 0, 0,  //
      0, 1, 0;
  const Dataset<> data(X, Vector<double>{{1.0, 1.0}});
  const auto end = [&](double x, double y, double z, int sign) {
    return critical_direction(data, Vector<double>{{x, y, z}}).end(sign);
  };
  CHECK(end(1, 1, 0, 1) == AlignmentEnd::attracting);
  CHECK(end(1, 1, 0, -1) == AlignmentEnd::repelling);
  // Units that see one sample alone; on its border the other sample turns those on one side away.
  CHECK(end(1, -0.3, 0, 1) == AlignmentEnd::repelling);
  CHECK_FALSE(critical_direction(data, Vector<double>{{1, -0.3, 0}}).is_critical);
  CHECK(end(1, 0, 0, 1) == AlignmentEnd::repelling);
  // For a < 0 the border of the dead holds them, and those beside it rest, too.
  CHECK(end(-1, 0, 0, -1) == AlignmentEnd::resting);
  CHECK(end(-1, -1, 1, -1) == AlignmentEnd::resting);
  CHECK(end(-1, -1, 1, 1) == AlignmentEnd::resting);
  CHECK(end(0, 0, 1, 1) == AlignmentEnd::repelling);
  CHECK(end(0, 0, 1, -1) == AlignmentEnd::resting);
  const CriticalDirection<> pole = critical_direction(data, Vector<double>{{0, 0, 5}});
  CHECK(pole.kinks == 2);
  CHECK(pole.is_critical);
  CHECK(pole.value == 0.0);
  // With labels of both signs and a sample along the pole neurons with a > 0 that see it slide to it on two
  // hyperplanes, of both of which they are pushed back.
  Matrix<double> more(3, 3);
  more << 1, 0, 0,  //
      0, 1, 0,      //
      -0.2, -0.3, 1;
  const CriticalDirection<> held =
      critical_direction(Dataset<>(more, Vector<double>{{-1.0, -1.0, 1.0}}), Vector<double>{{0, 0, 1}});
  CHECK(held.kinks == 2);
  CHECK_FALSE(held.is_critical);
  more(2, 0) = 0.2;
  more(2, 1) = 0.3;
  const Dataset<> pushed(more, Vector<double>{{-1.0, -1.0, 1.0}});
  CHECK(critical_direction(pushed, Vector<double>{{0, 0, 1}}).end(1) == AlignmentEnd::attracting);
  CHECK(critical_direction(pushed, Vector<double>{{0, 0, 1}}).end(-1) == AlignmentEnd::repelling);
  // With all labels negative nothing holds it.
  const CriticalDirection<> against =
      critical_direction(Dataset<>(more, Vector<double>{{-1.0, -1.0, -1.0}}), Vector<double>{{0, 0, 1}});
  CHECK_FALSE(against.is_critical);
  CHECK(against.end(1) == AlignmentEnd::repelling);
  CHECK(against.end(-1) == AlignmentEnd::repelling);
  CHECK_THROWS_MATCHES(critical_direction(data, Vector<double>{{1.0, 0.0}}), DimensionError,
                       message_contains("direction has 2"));
  CHECK_THROWS_MATCHES(critical_direction(data, Vector<double>::Zero(3)), ArgumentError, message_contains("is 0"));
  CHECK_THROWS_AS(critical_direction(data, Vector<double>{{1.0, NAN, 0.0}}), NonFiniteError);
  CHECK(std::string(to_string(AlignmentEnd::unknown)) == "unknown");
}

TEST_CASE("early alignment: samples on one hyperplane are one kink") {
  const Vector<double> pole{{0.0, 1.0}};
  Matrix<double> X(3, 2);
  X << 1, 0,  //
      1, 0,   //
      0.6, 0.8;
  // The labels of the first two cancel: G is smooth, with the slope 0.6 across.
  const CriticalDirection<> twice = critical_direction(Dataset<>(X, Vector<double>{{1.0, -1.0, 1.0}}), pole);
  CHECK_FALSE(twice.is_critical);
  CHECK(twice.kinks == 0);
  CHECK_THAT(twice.residual, near(0.6 / 3.0, 1e-15, 0));
  CHECK_THAT(twice.value, near(0.8, 1e-15, 0));
  // relu(z) - relu(-z) = z, too: the slope is 1 - 0.3.
  X(1, 0) = -1.0;
  const CriticalDirection<> smooth = critical_direction(Dataset<>(X, Vector<double>{{1.0, -1.0, -0.5}}), pole);
  CHECK_FALSE(smooth.is_critical);
  CHECK(smooth.kinks == 0);
  CHECK_THAT(smooth.residual, near(0.7 / 2.5, 1e-15, 0));
  // |z| - 0.3 z has a minimum at 0.
  const CriticalDirection<> sharp = critical_direction(Dataset<>(X, Vector<double>{{1.0, 1.0, -0.5}}), pole);
  CHECK(sharp.is_critical);
  CHECK(sharp.kinks == 1);
  CHECK(sharp.end(1) == AlignmentEnd::repelling);
  CHECK(sharp.end(-1) == AlignmentEnd::attracting);
}

TEST_CASE("early alignment: a direction may have any length") {
  // The gradient at (1, 1) is (1, 1); at (1, -1) it is (1, 0).
  const Dataset<> data(Matrix<double>::Identity(2, 2), Vector<double>{{1.0, 1.0}});
  for (const double size : {1.7e308, 1.0, std::numeric_limits<double>::denorm_min()}) {
    CAPTURE(size);
    const CriticalDirection<> diagonal = critical_direction(data, Vector<double>{{size, size}});
    CHECK((diagonal.direction - Vector<double>::Constant(2, std::sqrt(0.5))).norm() <= 1e-15);
    CHECK(diagonal.is_critical);
    CHECK(diagonal.end(1) == AlignmentEnd::attracting);
    const CriticalDirection<> other = critical_direction(data, Vector<double>{{size, -size}});
    CHECK_THAT(other.direction.norm(), near(1.0, 1e-15, 0));
    CHECK_FALSE(other.is_critical);
    CHECK_THAT(other.residual, near(std::sqrt(0.5) / 2.0, 1e-15, 0));
  }
}

TEST_CASE("early alignment: descent of a network from a tiny start is there in three and five dimensions") {
  RandomStream random(2639);
  Index slid = 0;
  for (const Index d : {3, 5}) {
    const Index h = 10;
    const Dataset<> data = gaussian_data(random, 2 * d, d);
    const ReluNetwork<double> net(d, {h});
    const NeuronStart start = random_neurons(random, d, h, 1.0);
    const EarlyAlignment<> early = early_alignment(net, data, packed(start)).require_ok();
    const double alpha = 1e-8, t = 0.6 * early.growth_time(Scale<>::from_value(alpha));
    const int steps = 12'000;
    const GradientFlow<ReluNetwork<double>> flow(net, data);
    const Vector<double> w = integrate(flow, Vector<double>(alpha * packed(start)), TimeSpan<>{0.0, t}, Euler{},
                                       ConstantStep<>{.step = t / steps})
                                 .require_ok()
                                 .w;
    const Matrix<double> now = early.directions_at(t);
    for (Index j = 0; j < h; ++j) {
      const auto& neuron = early.neurons[static_cast<std::size_t>(j)];
      CAPTURE(d, j, neuron.slides, neuron.rate, to_string(neuron.end));
      slid += neuron.has_slid ? 1 : 0;
      // The network adds alpha^(2 - 2 tau) = 4e-7, and a step of descent turns by its length times weight_of.
      CHECK(angle_between(w.segment(j * d, d), now.col(j)) <= 10.0 * weight_of(data) * t / steps);
      if (!neuron.is_dead) CHECK(neuron.end == AlignmentEnd::attracting);
    }
  }
  CHECK(slid > 5);
}

TEST_CASE("early alignment: parallel samples, zero labels, zero samples and the scale of the start change nothing") {
  RandomStream random(2634);
  for (int trial = 0; trial < 10; ++trial) {
    const Index d = 2 + trial % 3;
    const Dataset<> data = gaussian_data(random, 5, d);
    const NeuronStart start = random_neurons(random, d, 10, 1.0);
    const EarlyAlignment<> early = early_alignment(data, start.W, start.a);
    // Each sample as two of parts of its label, the first with half its length; a sample with label 0; a sample that
    // is 0.
    Matrix<double> X(12, d);
    X << 0.5 * data.X(), data.X(), random_vector(random, d).transpose(), Vector<double>::Zero(d).transpose();
    Vector<double> y(12);
    y << 0.6 * data.y(), 0.7 * data.y(), 0.0, 3.0;
    const EarlyAlignment<> again = early_alignment(Dataset<>(X, y), 1e-200 * start.W, 1e-200 * start.a);
    CAPTURE(trial);
    const double t = 1.0 / weight_of(data);
    CHECK((early.directions_at(t) - again.directions_at(t)).norm() <= 1e-12);
    for (std::size_t j = 0; j < 10; ++j) {
      CHECK((early.neurons[j].direction - again.neurons[j].direction).norm() <= 1e-12);
      CHECK_THAT(again.neurons[j].rate, near(early.neurons[j].rate, 1e-12, 0));
      CHECK(again.neurons[j].crossings == early.neurons[j].crossings);
    }
  }
  // A pair x, -x with one label: G is |<w, x>| y, and its negative for a < 0.
  Matrix<double> X(2, 2);
  X << 1, 0, -1, 0;
  const Matrix<double> W{{0.5, -0.5, 0.5}, {1.0, 1.0, 1.0}};
  const EarlyAlignment<> pair =
      early_alignment(Dataset<>(X, Vector<double>{{2.0, 2.0}}), W, Vector<double>{{2.0, 2.0, -2.0}}).require_ok();
  CHECK_THAT(pair.neurons[0].direction[0], near(1.0, 1e-15, 0));
  CHECK_THAT(pair.neurons[1].direction[0], near(-1.0, 1e-15, 0));
  CHECK_THAT(pair.neurons[2].direction[1], near(1.0, 1e-15, 0));
  CHECK(pair.neurons[2].rate == 0.0);
  // With opposite labels it is linear.
  const EarlyAlignment<> linear =
      early_alignment(Dataset<>(X, Vector<double>{{2.0, -2.0}}), W, Vector<double>{{2.0, 2.0, -2.0}}).require_ok();
  for (std::size_t j = 0; j < 3; ++j) {
    CHECK_THAT(linear.neurons[j].direction[0], near(j == 2 ? -1.0 : 1.0, 1e-15, 0));
    CHECK(linear.neurons[j].crossings == 0);
  }
  // No labels at all: nothing moves.
  const EarlyAlignment<> still =
      early_alignment(Dataset<>(X, Vector<double>{{0.0, 0.0}}), W, Vector<double>{{2.0, 2.0, -2.0}}).require_ok();
  CHECK((still.directions_at(5.0) - W.colwise().normalized()).norm() <= 1e-15);
  CHECK(std::isinf(still.growth_time(Scale<>::from_log(-1.0))));
}

TEST_CASE("early alignment: neurons that nothing lets grow fall along the least bad direction") {
  // Three samples around the circle, all labels negative: G < 0 everywhere.
  Matrix<double> X(3, 2);
  for (Index k = 0; k < 3; ++k)
    X.row(k) << std::cos(2.1 * static_cast<double>(k)), std::sin(2.1 * static_cast<double>(k));
  const Dataset<> data(X, Vector<double>{{-1.0, -1.2, -0.9}});
  RandomStream random(2635);
  NeuronStart start = random_neurons(random, 2, 12, 1.0);
  start.a = start.a.cwiseAbs();
  const EarlyAlignment<> early = early_alignment(data, start.W, start.a).require_ok();
  const auto extremal = extremal_directions(data);
  for (Index j = 0; j < 12; ++j) {
    const auto& neuron = early.neurons[static_cast<std::size_t>(j)];
    CHECK(neuron.rate < 0.0);
    CHECK(neuron.slides == 1);
    CHECK_FALSE(neuron.is_dead);
    CHECK(std::any_of(extremal.begin(), extremal.end(), [&](const auto& one) {
      return one.attracts == 1 && one.is_kink && angle_between(one.direction, neuron.direction) <= 1e-13;
    }));
    // Norms fall as exp(2 rate t) from when it slides, for ever.
    const double later = neuron.time + 30.0;
    const double ratio =
        early.parameters_at(later + 1.0).segment(2 * j, 2).norm() / early.parameters_at(later).segment(2 * j, 2).norm();
    CHECK_THAT(ratio, near(std::exp(2.0 * neuron.rate), 1e-12, 0));
  }
  CHECK(early.fastest_rate() == 0.0);

  // With a larger than w, w comes to 0 instead, and with a smaller one, a does: neither way is unique.
  const EarlyAlignment<> large = early_alignment(data, start.W, 2.0 * start.a);
  CHECK_FALSE(large.ok());
  CHECK_THAT(large.message, text_contains("12 of 12 neurons have no direction: neuron 0 is lost"));
  CHECK_THAT(large.neurons[3].message, text_contains("pass 0"));
  CHECK_THROWS_AS(large.require_ok(), ConvergenceError);
  const EarlyAlignment<> small = early_alignment(data, start.W, 0.9 * start.a);
  int on_plane = 0;
  for (const auto& neuron : small.neurons) on_plane += neuron.ok() ? 0 : 1;
  CHECK(on_plane > 0);
  CHECK_THAT(small.message, text_contains("changes its sign while the neuron is on a hyperplane"));
}

TEST_CASE("early alignment: starts on hyperplanes, and with an outgoing weight of 0") {
  // On <w, x> = 0 the unit is off; it stays so unless it is pushed away from that side.
  const Dataset<> one(Matrix<double>{{1.0, 0.0}}, Vector<double>{{1.0}});
  const EarlyAlignment<> off = early_alignment(one, Vector<double>{{0.0, 1.0}}, Vector<double>{{1.0}}).require_ok();
  CHECK(off.neurons[0].is_dead);
  CHECK(off.neurons[0].rate == 0.0);
  Matrix<double> X(2, 2);
  X << 1, 0, 1, 1;
  const Dataset<> two(X, Vector<double>{{1.0, 1.0}});
  const EarlyAlignment<> pushed = early_alignment(two, Vector<double>{{0.0, 1.0}}, Vector<double>{{1.0}}).require_ok();
  CHECK(angle_between(pushed.neurons[0].direction, Vector<double>{{2.0, 1.0}}) <= 1e-15);
  // a = 0: its sign is that of <w, D>.
  const Matrix<double> W{{1.0, -1.0}, {-0.2, 0.5}};
  const EarlyAlignment<> zero =
      early_alignment(Dataset<>(X, Vector<double>{{-1.0, 1.5}}), W, Vector<double>{{0.0, 0.0}}).require_ok();
  CHECK(zero.neurons[0].sign == 1);
  CHECK(zero.neurons[1].sign == 0);
  CHECK(zero.neurons[1].is_dead);
  const Vector<double> seen = stepped_neuron(Dataset<>(X, Vector<double>{{-1.0, 1.5}}), W.col(0), 0.0, 1.0, 10'000);
  CHECK((zero.parameters_at(1.0).head(2) - seen.head(2)).norm() <= 1e-3);
}

TEST_CASE("early alignment: many samples, and neurons that slide on many hyperplanes at once") {
  RandomStream random(2637);
  const Dataset<> data = gaussian_data(random, 60, 15);
  const NeuronStart start = random_neurons(random, 15, 30, 1.0);
  Index most = 0;
  for (const auto& neuron : early_alignment(data, start.W, start.a).require_ok().neurons) {
    most = std::max(most, neuron.slides);
    CHECK(distance_from_critical(data, neuron.direction) <= 1e-12);
    CHECK_THAT(neuron.rate, near(neuron.sign * kink_sum(data, neuron.direction), 1e-12, 0));
  }
  CHECK(most >= 6);
  // In float too none is stopped by rounding.
  CHECK(early_alignment(Dataset<float>(data.X().cast<float>(), data.y().cast<float>()), start.W.cast<float>(),
                        start.a.cast<float>())
            .ok());
}

TEST_CASE("early alignment in float") {
  RandomStream random(2636);
  const Dataset<> data = gaussian_data(random, 6, 3);
  const NeuronStart start = random_neurons(random, 3, 20, 1.0);
  const EarlyAlignment<float> rough = early_alignment(Dataset<float>(data.X().cast<float>(), data.y().cast<float>()),
                                                      start.W.cast<float>(), start.a.cast<float>())
                                          .require_ok();
  const EarlyAlignment<> fine = early_alignment(data, start.W, start.a).require_ok();
  for (std::size_t j = 0; j < 20; ++j)
    CHECK((rough.neurons[j].direction.cast<double>() - fine.neurons[j].direction).norm() <= 1e-5);
}

TEST_CASE("early alignment refuses what it does not cover") {
  const Dataset<> data = unit_data(2, 1.0);
  const Matrix<double> W = Matrix<double>::Identity(2, 2);
  const Vector<double> a{{1.0, -1.0}};
  CHECK_THROWS_MATCHES(early_alignment(data, Matrix<double>::Ones(3, 2), a), DimensionError,
                       message_contains("W has 3 rows where X has d = 2"));
  CHECK_THROWS_MATCHES(early_alignment(data, Matrix<double>(2, 0), Vector<double>()), DimensionError,
                       message_contains("no neuron"));
  CHECK_THROWS_MATCHES(early_alignment(data, W, Vector<double>::Ones(3)), DimensionError, message_contains("a has 3"));
  CHECK_THROWS_AS(early_alignment(data, W, Vector<double>{{1.0, NAN}}), NonFiniteError);
  CHECK_THROWS_AS(early_alignment(data, Matrix<double>(infinity * W), a), NonFiniteError);
  Matrix<double> without = W;
  without.col(1).setZero();
  CHECK_THROWS_MATCHES(early_alignment(data, without, a), ArgumentError, message_contains("column 1 of W is 0"));

  const auto refused = [&](const ReluNetwork<double>& net, const char* reason) {
    CHECK_THROWS_MATCHES(early_alignment(net, data, Vector<double>::Ones(net.num_parameters())), ArgumentError,
                         message_contains(reason));
  };
  refused(ReluNetwork<double>(2, {3, 3}), "depth 2, got 3");
  refused(ReluNetwork<double>(2, {3}, true), "biases");
  refused(ReluNetwork<double>(2, {3}, false, 2), "one output, got 2");
  FullyConnectedOptions<double> scaled;
  scaled.parametrization = Parametrization::ntk;
  refused(ReluNetwork<double>(2, {3}, scaled), "standard parametrization");
  CHECK_THROWS_MATCHES(early_alignment(ReluNetwork<double>(2, {3}), data, Vector<double>::Ones(5)), DimensionError,
                       message_contains("w0 has 5"));

  const EarlyAlignment<> early = early_alignment(data, W, a);
  CHECK_THROWS_MATCHES(early.directions_at(-1.0), ArgumentError, message_contains("-1"));
  CHECK_THROWS_AS(early.parameters_at(NAN), ArgumentError);
  CHECK_THROWS_AS(early.growth_time(Scale<>::from_log(0.0)), ArgumentError);
  CHECK_THROWS_AS(early.groups(-1.0), ArgumentError);
  CHECK_THROWS_MATCHES(extremal_directions(unit_data(3, 1.0)), DimensionError,
                       message_contains("d = 2 columns, got 3"));
}
