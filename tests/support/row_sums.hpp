#pragma once

#include <utility>
#include <vector>

#include "richflow/data/measurements.hpp"

namespace test_support {

/// A user's own kind of measurement: the sum of one row of M, times a weight.
class RowSums final : public richflow::MeasurementKind<RowSums, double> {
 public:
  RowSums(richflow::Index rows, richflow::Index cols, std::vector<richflow::Index> summed, double weight = 1.0)
      : MeasurementKind(rows, cols, static_cast<richflow::Index>(summed.size())),
        summed_(std::move(summed)),
        weight_(weight) {}

  void add_values(const richflow::ConstMatrixRef<double>& M, richflow::VectorRef<double> out) const override {
    richflow::Index n = 0;
    for (const richflow::Index i : summed_) out[n++] += weight_ * M.row(i).sum();
  }
  void add_adjoint(const richflow::ConstVectorRef<double>& r, richflow::MatrixRef<double> A) const override {
    richflow::Index n = 0;
    for (const richflow::Index i : summed_) A.row(i).array() += weight_ * r[n++];
  }
  void take(const RowSums& from, const richflow::Index* indices, richflow::Index count) {
    weight_ = from.weight_;
    summed_.resize(static_cast<std::size_t>(count));
    for (std::size_t n = 0; n < summed_.size(); ++n) summed_[n] = from.summed_[static_cast<std::size_t>(indices[n])];
  }

 private:
  std::vector<richflow::Index> summed_;
  double weight_;
};

}  // namespace test_support
