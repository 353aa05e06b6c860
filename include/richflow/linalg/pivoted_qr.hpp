#pragma once

#include <Eigen/QR>

#include "richflow/core/types.hpp"

/// @file
/// Column-pivoted QR factorizations, behind functions of the number type alone: each is compiled once, wherever it is
/// used. See also core/reflections.hpp.

namespace richflow::detail {

template <class S>
using PivotedQr = Eigen::ColPivHouseholderQR<Matrix<S>>;

/// Factors A.
template <class S>
void compute_qr(const Matrix<S>& A, PivotedQr<S>& qr);

template <class S>
void compute_qr(const Matrix<S>& A, PivotedQr<S>& qr) {
  qr.compute(A);
}

}  // namespace richflow::detail
