#pragma once

#include <memory>
#include <utility>

#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/data/labelled_dataset.hpp"
#include "richflow/losses/loss.hpp"

namespace richflow::detail {

/// What a loss says of its second derivative.
enum class CurvatureKind {
  unknown,
  constant,   ///< c I
  by_output,  ///< diagonal
  by_sample,  ///< one K x K matrix per sample
  centered,   ///< `diag(p) - q q^T`, p in the simplex, q = +-p
};

/// A loss on the labels of a dataset, as a function of the N x K outputs of a model.
template <class S>
class AnyObjective {
 public:
  virtual ~AnyObjective() = default;
  [[nodiscard]] virtual std::unique_ptr<AnyObjective> clone() const = 0;

  [[nodiscard]] virtual Index num_samples() const = 0;
  [[nodiscard]] virtual Index num_outputs() const = 0;

  /// L(F). The outputs are contiguous, here and below.
  [[nodiscard]] virtual S value(ConstMatrixRef<S> F) const = 0;
  /// `G` = dL / dF; it may be F.
  virtual void gradient(ConstMatrixRef<S> F, MatrixRef<S> G) const = 0;

  [[nodiscard]] virtual CurvatureKind curvature_kind() const = 0;
  /// c.
  [[nodiscard]] virtual S curvature() const = 0;
  /// `R` with R R^T = d^2 L / dF^2: N x K, the diagonal, or N x K^2, row n a K x K matrix column by column.
  /// Centered: N x K, +-the roots of p, of norm 1.
  virtual void curvature_root(ConstMatrixRef<S> F, MatrixRef<S> R) const = 0;
};

/// A Loss on the labels of a dataset, which it refers to.
template <class S, class L>
class ObjectiveOf final : public AnyObjective<S> {
 public:
  ObjectiveOf(L loss, const Dataset<S>& dataset) : loss_(std::move(loss)), dataset_(&dataset) {
    check_labels_of_loss<L, S>(loss_, labels());
  }
  [[nodiscard]] std::unique_ptr<AnyObjective<S>> clone() const override { return std::make_unique<ObjectiveOf>(*this); }

  [[nodiscard]] Index num_samples() const override { return dataset_->num_samples(); }
  [[nodiscard]] Index num_outputs() const override { return dataset_->num_outputs(); }
  [[nodiscard]] S value(ConstMatrixRef<S> F) const override { return loss_.value(vector(F), labels()); }
  void gradient(ConstMatrixRef<S> F, MatrixRef<S> G) const override {
    loss_.gradient(vector(F), labels(), Eigen::Map<Vector<S>>(G.data(), G.size()));
  }

  [[nodiscard]] CurvatureKind curvature_kind() const override {
    if (QuadraticLoss<L, S>) return CurvatureKind::constant;
    if constexpr (requires { L::has_centered_curvature; }) return CurvatureKind::centered;
    return ConvexLoss<L, S> ? CurvatureKind::by_output : CurvatureKind::unknown;
  }
  [[nodiscard]] S curvature() const override {
    if constexpr (QuadraticLoss<L, S>)
      return loss_.curvature();
    else
      return S(0);
  }
  void curvature_root([[maybe_unused]] ConstMatrixRef<S> F, [[maybe_unused]] MatrixRef<S> R) const override {
    if constexpr (ConvexLoss<L, S>)
      loss_.curvature_root(vector(F), labels(), Eigen::Map<Vector<S>>(R.data(), R.size()));
  }

 private:
  [[nodiscard]] static Eigen::Map<const Vector<S>> vector(const ConstMatrixRef<S>& F) { return {F.data(), F.size()}; }
  [[nodiscard]] Eigen::Map<const Vector<S>> labels() const {
    return {dataset_->Y().data(), dataset_->num_samples() * dataset_->num_outputs()};
  }

  L loss_;
  const Dataset<S>* dataset_;
};

/// A ClassLoss on the labels of a dataset, which it refers to.
template <class S, class L>
class ClassObjectiveOf final : public AnyObjective<S> {
 public:
  ClassObjectiveOf(L loss, const LabelledDataset<S>& dataset) : loss_(std::move(loss)), dataset_(&dataset) {}
  [[nodiscard]] std::unique_ptr<AnyObjective<S>> clone() const override {
    return std::make_unique<ClassObjectiveOf>(*this);
  }

  [[nodiscard]] Index num_samples() const override { return dataset_->num_samples(); }
  [[nodiscard]] Index num_outputs() const override { return dataset_->num_classes(); }
  [[nodiscard]] S value(ConstMatrixRef<S> F) const override { return loss_.value(F, dataset_->labels()); }
  void gradient(ConstMatrixRef<S> F, MatrixRef<S> G) const override {
    static_cast<void>(loss_.value_and_gradient(F, dataset_->labels(), G));
  }

  [[nodiscard]] CurvatureKind curvature_kind() const override {
    return ConvexClassLoss<L, S> ? CurvatureKind::by_sample : CurvatureKind::unknown;
  }
  [[nodiscard]] S curvature() const override { return S(0); }
  void curvature_root([[maybe_unused]] ConstMatrixRef<S> F, [[maybe_unused]] MatrixRef<S> R) const override {
    if constexpr (ConvexClassLoss<L, S>) loss_.curvature_root(F, dataset_->labels(), R);
  }

 private:
  L loss_;
  const LabelledDataset<S>* dataset_;
};

}  // namespace richflow::detail
