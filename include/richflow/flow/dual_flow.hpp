#pragma once

#include <memory>
#include <utility>

#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/flow/dual_flow_engine.hpp"
#include "richflow/regularizers/any_mirror_map.hpp"
#include "richflow/regularizers/mirror_map.hpp"

namespace richflow {

/// The gradient flow of a diagonal net in its N dual variables (docs/theory.md, section 1.3).
///
///     const DualFlow flow(regularizer(net, start), data);
///     PiController<> controller{.tolerance = {.relative = 1e-6, .absolute = 1e-9}};
///     controller.first_step = flow.first_step();
///     const auto run = integrate(flow, flow.initial_state(), TimeSpan{0, 10}, Ros34Pw2{}, controller).require_ok();
///     flow.beta(run.w, beta);
///
/// Along the flow `grad Q(beta(t)) = X^T nu(t)` for the mirror map Q of the net and its initialization, hence
///
///     nu' = -c (X beta(X^T nu) - y),     nu(0) = 0,     beta(z) = (grad Q)^{-1}(z)
///
/// with `c = mirror.dual_rate()` (8 for the squared net, 2 D (D-2) alpha^(D-2) at depth D >= 3), X of shape N x d and
/// the plain-sum loss `L = |X beta - y|^2`. It is the same trajectory as that of the 2d weights, in N unknowns. Its
/// Jacobian `-S`, `S = c X diag(d beta / d z) X^T`, is symmetric, since it is the gradient flow of the convex dual of
/// "minimize Q subject to X beta = y". For a map without bounds any `log alpha` works (-500 included). With bounds
/// (depth >= 3) beta is determined by the distance of X^T nu from them, about alpha^(D-2), so that its relative error
/// is the rounding of nu over that distance; the limit at smaller scales is MirrorPath's.
///
/// Where the sizes of the columns of X differ by a factor of more than 1e3, the state is not nu but `U^T nu`, with the
/// orthogonal U of the column-pivoted QR `X P = U R`: the same flow of the data `U^T X, U^T y`, whose loss is the same,
/// and in which the large columns, whose terms would cancel in X^T nu, have few entries. `multipliers` gives nu.
///
/// A SymmetricStiffField with a loss. Refers to the dataset, which must outlive it. Calls allocate nothing;
/// they share buffers, so give each thread its own copy. The evaluation at the latest nu is remembered: the
/// field, the loss, the predictor and the Jacobian at one point cost one evaluation (two products with X).
template <class Mirror>
requires(explain_mirror_map<Mirror>()) class DualFlow {
 public:
  using Scalar = typename Mirror::Scalar;

  /// The flow of `mirror` (a regularizer on d coordinates with its scale) on `dataset`. Throws
  /// DimensionError unless the mirror map has d coordinates and the data one label per sample, ArgumentError for
  /// measurements. Cost: a few products with X.
  DualFlow(Mirror mirror, const Dataset<Scalar>& dataset)
      : engine_(detail::owned_mirror_map(std::move(mirror)), dataset) {}
  DualFlow(Mirror, const Dataset<Scalar>&&) = delete;

  /// What the message of a run that stalls suggests.
  [[nodiscard]] static const char* advice() {
    return "on the dual flow a Rosenbrock method, or jump to the limit with an exact minimizer (minimize_hypentropy, "
           "MirrorPath)";
  }
  /// N.
  [[nodiscard]] Index dimension() const { return engine_.dimension(); }
  /// The mirror map.
  [[nodiscard]] const Mirror& mirror() const {
    return static_cast<const detail::MirrorMapOf<Mirror>&>(engine_.map()).map();
  }
  /// The data.
  [[nodiscard]] const Dataset<Scalar>& dataset() const { return engine_.dataset(); }
  /// nu, N entries: the state itself, unless the columns of X differ much in size. Cost O(N^2) then.
  [[nodiscard]] Vector<Scalar> multipliers(ConstVectorRef<Scalar> state) const { return engine_.multipliers(state); }
  /// Whether the state is `U^T nu`: then rows of the Jacobian differ much in size.
  [[nodiscard]] bool is_graded() const { return engine_.is_graded(); }
  /// The largest size of a column of X over the smallest, without columns that are 0, where `is_graded()`; else 1.
  [[nodiscard]] Scalar column_ratio() const { return engine_.column_ratio(); }
  /// `nu(0) = 0`, N entries.
  [[nodiscard]] Vector<Scalar> initial_state() const { return Vector<Scalar>::Zero(dimension()); }

  /// A first step for adaptive integration from `initial_state()`: the time in which the fastest coordinate
  /// of X^T nu moves by one (or half the way to its bound), or the stiffest mode by an e-fold, whichever is shorter.
  /// Error estimates cannot choose it, because for tiny alpha the predictor hardly moves long before it moves
  /// exponentially. Cost: three products with X.
  [[nodiscard]] Scalar first_step() const { return engine_.first_step(); }

  /// `dnu = -c (X beta(X^T nu) - y)`. Cost: two products with X and d exponentials.
  void operator()(Scalar /*t*/, ConstVectorRef<Scalar> nu, VectorRef<Scalar> dnu) const { engine_.field(nu, dnu); }

  /// `L = |X beta(X^T nu) - y|^2`. Free at the latest evaluated point.
  [[nodiscard]] Scalar loss(ConstVectorRef<Scalar> nu) const { return engine_.loss(nu); }

  /// `out = beta(X^T nu)`, d values. Free at the latest evaluated point.
  void beta(ConstVectorRef<Scalar> nu, VectorRef<Scalar> out) const { engine_.beta(nu, out); }

  /// The lower triangle of `S = c X diag(d beta / d z) X^T`, N x N, to rounding: columns of X whose
  /// curvature is below the rounding error of the largest are skipped. Cost: N^2 d multiply-adds at most.
  void negative_jacobian(Scalar /*t*/, ConstVectorRef<Scalar> nu, MatrixRef<Scalar> S) const {
    engine_.negative_jacobian(nu, Scalar(0), Scalar(0), S);
  }

  /// As above, up to a perturbation E with `-B <= E <= B`, `B = relative S + absolute I` (as quadratic forms;
  /// `absolute` by an estimate of |X|), for steppers that need no exact Jacobian. Columns of X whose curvature
  /// is too small to matter are skipped; near the start of the flow, where most curvatures have hardly
  /// changed, only the columns that did change are added to the Jacobian at nu = 0, which is kept.
  void negative_jacobian(Scalar /*t*/, ConstVectorRef<Scalar> nu, Scalar relative, Scalar absolute,
                         MatrixRef<Scalar> S) const {
    engine_.negative_jacobian(nu, relative, absolute, S);
  }

  /// The error of a step in what the user sees, the predictor: `|d beta / d z * X^T error|_2 over
  /// absolute + relative * |beta|_2`, both at `nu_new`; where the columns of X differ much in size, entries of beta
  /// count by that size over the median, where it is above. At most 1 means the step meets the tolerance (any type with
  /// members `absolute` and `relative`). Cost: one product with X, and one evaluation that the next step reuses.
  template <class Tolerance>
  [[nodiscard]] Scalar error_ratio(ConstVectorRef<Scalar> /*nu*/, ConstVectorRef<Scalar> nu_new,
                                   ConstVectorRef<Scalar> error, const Tolerance& tolerance) const {
    return engine_.error_ratio(nu_new, error, Scalar(tolerance.relative), Scalar(tolerance.absolute));
  }

 private:
  detail::DualFlowEngine<Scalar> engine_;
};

}  // namespace richflow
