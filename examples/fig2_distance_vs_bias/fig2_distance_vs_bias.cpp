#include "fig2_distance_vs_bias.hpp"

#include <cmath>

#include "csv.hpp"
#include "list.hpp"
#include "plot.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/regularizers/distance_to_initialization.hpp"
#include "richflow/regularizers/hypentropy.hpp"

namespace richflow::examples {

namespace {

constexpr double edge = 25.0;

/// `(F(e_1) / |e_1|_1) / (F(u) / |u|_1) - 1` for a regularizer F.
template <class R>
double excess_over_l1(const R& regularizer) {
  const Index d = regularizer.dimension();
  const double root_d = std::sqrt(static_cast<double>(d));
  const Vector<double> sparse = Vector<double>::Unit(d, 0);
  const Vector<double> dense = Vector<double>::Constant(d, 1.0 / root_d);
  return regularizer.value(sparse) / (regularizer.value(dense) / root_d) - 1.0;
}

double excess_q(Index d, Scale<> scale) { return excess_over_l1(Hypentropy<>::uniform(d, scale)); }
double excess_r(Index d, Scale<> scale) { return excess_over_l1(DistanceToInitialization<>(d, scale)); }

std::vector<Claim> check(const Fig2& figure, const Fig2Options& options) {
  std::vector<Claim> claims;

  // q and r are even with zero slope at 0: their ratio there is that of their curvatures.
  constexpr double tiny = 1e-6;
  const double at_zero = hypentropy(tiny) / distance_to_initialization(tiny);
  claims.push_back({"fig2", "q/r at z = 0 is 2", "2 within 1e-9", at_zero, std::abs(at_zero - 2.0) <= 1e-9});
  claims.push_back(claim_between("fig2", "q/r at z = 25 is 3.49", hypentropy(edge) / distance_to_initialization(edge),
                                 3.485, 3.495));
  int inside = 0, above = 0;
  for (const Fig2Point& point : figure.curve) {
    if (point.z == 0.0 || std::abs(point.z) == edge) continue;
    ++inside;
    if (point.r_rescaled > point.q_rescaled) ++above;
  }
  claims.push_back({"fig2", "rescaled to meet at the edges, r lies above q: share of the points between", "1",
                    static_cast<double>(above) / inside, above == inside});

  // Algebraic: excess_r ~ alpha^1, a slope in log-log. Logarithmic: 1 / excess_q is a straight line in
  // log(1/alpha^2), of slope 1 / log sqrt(d); measured far out, where the approach is slow.
  const Index d = options.dimension;
  const auto log_excess_r = [&](double log_alpha) { return std::log(excess_r(d, Scale<>::from_log(log_alpha))); };
  const double low = std::log(1e-6), high = std::log(1e-4);
  claims.push_back(claim_between("fig2_l1", "R nears l1 algebraically: log-log slope of its excess in alpha",
                                 (log_excess_r(high) - log_excess_r(low)) / (high - low), 0.98, 1.02));
  const auto inverse_excess_q = [&](double log_alpha) { return 1.0 / excess_q(d, Scale<>::from_log(log_alpha)); };
  const double slope = (inverse_excess_q(-200.0) - inverse_excess_q(-100.0)) / 200.0;
  claims.push_back(claim_between("fig2_l1",
                                 "Q nears l1 logarithmically: slope of 1/excess in log(1/alpha^2), times log sqrt(d)",
                                 slope * 0.5 * std::log(static_cast<double>(d)), 0.98, 1.02));
  claims.push_back(claim_at_least("fig2_l1", "at alpha = 1e-8 the excess of Q is larger than that of R by the factor",
                                  excess_q(d, Scale<>::from_value(1e-8)) / excess_r(d, Scale<>::from_value(1e-8)),
                                  1e3));
  return claims;
}

}  // namespace

Fig2 fig2_distance_vs_bias(const Fig2Options& options) {
  require(options.num_z >= 3 && options.num_z % 2 == 1, "num_z must be odd and at least 3, got ", options.num_z);
  require(options.num_alpha >= 2, "num_alpha must be at least 2, got ", options.num_alpha);
  require(options.dimension >= 2, "dimension must be at least 2, got ", options.dimension);
  Fig2 figure;
  const double q_edge = hypentropy(edge);
  const double r_edge = distance_to_initialization(edge);
  const int half = options.num_z / 2;
  for (int k = -half; k <= half; ++k) {
    const double z = edge * k / half;
    const double q = hypentropy(z);
    const double r = distance_to_initialization(z);
    figure.curve.push_back({z, q, r, q / q_edge, r / r_edge});
  }
  for (const double alpha : spaced(1e-8, 1e2, options.num_alpha, Spacing::logarithmic)) {
    const Scale scale = Scale<>::from_value(alpha);
    figure.to_l1.push_back({alpha, excess_q(options.dimension, scale), excess_r(options.dimension, scale)});
  }
  figure.claims = check(figure, options);
  return figure;
}

void write_fig2_tables(const Fig2& figure, const std::filesystem::path& folder) {
  CsvWriter curve({"z", "q", "r", "q_rescaled", "r_rescaled"});
  for (const Fig2Point& point : figure.curve)
    curve.row({point.z, point.q, point.r, point.q_rescaled, point.r_rescaled});
  curve.write(folder / "fig2.csv");
  CsvWriter to_l1({"alpha", "excess_q", "excess_r"});
  for (const Fig2L1Point& point : figure.to_l1) to_l1.row({point.alpha, point.excess_q, point.excess_r});
  to_l1.write(folder / "fig2_l1.csv");
}

Picture fig2_picture() {
  Picture picture;
  picture.name = "fig2";
  picture.alt =
      "Two panels. Left: q and r against z, rescaled to meet at the edges; r lies above q. Right: deviation from the "
      "l1 "
      "norm against alpha in logarithmic axes; that of R falls as a power of alpha, that of Q hardly falls.";
  picture.width = 1080;
  picture.height = 440;
  picture.panels = panels_in_grid(2, {"fig2", "fig2_l1"});
  picture.commands = R"gp(set multiplot layout 1,2 margins 0.075,0.975,0.16,0.89 spacing 0.115
set title "What the flow minimizes, and distance to its start"
set xlabel "{/:Italic z}"
set ylabel "rescaled to meet at the edges"
set xrange [-25:25]
set yrange [0:1]
set xtics 10
set ytics 0.25 format "%g"
set key center top Left reverse
plot "fig2.csv" using "z":"r_rescaled" with lines lw 2.8 lc rgb vermilion dt (14,6) title "{/:Italic r}({/:Italic z}), distance to start", \
     "" using "z":"q_rescaled" with lines lw 2.8 lc rgb blue title "{/:Italic q}({/:Italic z}), bias of the flow"
set title "Approach to the ℓ_1 norm as α → 0"
set xlabel "α"
set ylabel "deviation from ℓ_1 (1 entry against 100)"
set logscale xy
set xrange [1e-8:1e2]
set yrange [1e-8:30]
set xtics 1e-8,100,1e2 format "10^{%T}"
set ytics 1e-8,100,1e2 format "10^{%T}"
set key bottom right Left reverse
plot "fig2_l1.csv" using "alpha":"excess_q" with lines lw 2.8 lc rgb blue title "{/:Italic Q}_α: logarithmic", \
     "" using "alpha":"excess_r" with lines lw 2.8 lc rgb vermilion dt (14,6) title "{/:Italic R}_α: algebraic"
unset multiplot
unset logscale
)gp";
  return picture;
}

}  // namespace richflow::examples
