#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "support/reference.hpp"

/// @file
/// The problems of tests/reference/margins.csv, and what a margin problem's solution must satisfy, computed from the
/// data alone.

namespace test_support {

/// A vector of margins.csv, `kind` of one problem, depth and scale (empty for Z).
inline richflow::Vector<double> margin_values(const std::string& problem, const std::string& depth,
                                              const std::string& log_alpha, const std::string& kind) {
  static const ReferenceTable table = reference_table("margins.csv");
  std::vector<double> values;
  for (std::size_t row = 0; row < table.size(); ++row)
    if (table.text(row, "problem") == problem && table.text(row, "depth") == depth &&
        table.text(row, "log_alpha") == log_alpha && table.text(row, "kind") == kind)
      values.push_back(table.number(row, "value"));
  if (values.empty()) throw std::runtime_error("margins.csv has no " + kind + " of " + problem);
  return Eigen::Map<const richflow::Vector<double>>(values.data(), static_cast<richflow::Index>(values.size()));
}

/// Its data; every second sample is turned around and labelled -1.
inline richflow::Dataset<> margin_data(const std::string& problem) {
  using richflow::Index;
  const richflow::Vector<double> Z = margin_values(problem, "", "", "Z");
  const Index d = problem == "all_support" ? 7 : 8;
  const Index N = Z.size() / d;
  richflow::Matrix<double> X(N, d);
  richflow::Vector<double> y(N);
  for (Index n = 0; n < N; ++n) {
    y[n] = n % 2 == 0 ? 1 : -1;
    for (Index i = 0; i < d; ++i) X(n, i) = y[n] * Z[d * n + i];
  }
  return {X, y};
}

/// The rows y_n x_n.
template <class S>
richflow::Matrix<S> signed_rows(const richflow::Dataset<S>& data) {
  return data.y().asDiagonal() * data.X();
}

}  // namespace test_support
