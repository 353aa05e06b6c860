#pragma once

#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/limits/saddle_path.hpp"
#include "support/reference.hpp"

/// @file
/// The saddle-to-saddle paths of tests/reference/saddles.csv.

namespace test_support {

/// One problem of saddles.csv, and its path in exact fractions, rounded once.
struct TabulatedPath {
  struct Jump {
    double time = 0;
    double loss = 0;
    std::set<richflow::Index> entered = {}, left = {};
    std::map<richflow::Index, double> beta = {}, dual = {};
  };

  richflow::Index depth = 2;
  std::map<std::pair<richflow::Index, richflow::Index>, double> X = {};
  std::map<richflow::Index, double> y = {}, w0 = {};
  std::map<richflow::Index, Jump> jumps = {};

  [[nodiscard]] richflow::Dataset<> data() const {
    richflow::Matrix<double> samples(static_cast<richflow::Index>(y.size()), static_cast<richflow::Index>(w0.size()));
    richflow::Vector<double> labels(samples.rows());
    for (const auto& [place, value] : X) samples(place.first, place.second) = value;
    for (const auto& [n, value] : y) labels[n] = value;
    return {std::move(samples), std::move(labels)};
  }
  [[nodiscard]] richflow::Vector<double> shape() const {
    richflow::Vector<double> out(static_cast<richflow::Index>(w0.size()));
    for (const auto& [i, value] : w0) out[i] = value;
    return out;
  }
};

inline std::map<std::pair<std::string, richflow::Index>, TabulatedPath> tabulated_paths() {
  const ReferenceTable table = reference_table("saddles.csv");
  std::map<std::pair<std::string, richflow::Index>, TabulatedPath> paths;
  for (std::size_t row = 0; row < table.size(); ++row) {
    const auto depth = static_cast<richflow::Index>(table.number(row, "depth"));
    TabulatedPath& path = paths[{table.text(row, "problem"), depth}];
    path.depth = depth;
    const std::string kind = table.text(row, "kind");
    const double value = table.number(row, "decimal");
    const richflow::Index at =
        table.text(row, "row").empty() ? -1 : static_cast<richflow::Index>(table.number(row, "row"));
    const richflow::Index i = table.text(row, "i").empty() ? -1 : static_cast<richflow::Index>(table.number(row, "i"));
    if (kind == "X") path.X[{at, i}] = value;
    if (kind == "y") path.y[at] = value;
    if (kind == "w0") path.w0[i] = value;
    if (kind == "time") path.jumps[at].time = value;
    if (kind == "loss") path.jumps[at].loss = value;
    if (kind == "enter") path.jumps[at].entered.insert(i);
    if (kind == "leave") path.jumps[at].left.insert(i);
    if (kind == "beta") path.jumps[at].beta[i] = value;
    if (kind == "dual") path.jumps[at].dual[i] = value;
  }
  return paths;
}

inline const TabulatedPath& tabulated_path(std::string_view name, richflow::Index depth) {
  static const auto paths = tabulated_paths();
  return paths.at({std::string(name), depth});
}

inline richflow::SaddlePath<> path_of(const TabulatedPath& table) {
  const richflow::Dataset<> data = table.data();
  return richflow::saddle_path(richflow::DiagonalNet<double>(table.depth, data.num_inputs()), data,
                               richflow::Start<>::shaped(richflow::Scale<>::from_log(-1.0), table.shape()));
}

}  // namespace test_support
