#pragma once

#include <utility>

#include "richflow/core/types.hpp"
#include "richflow/models/evaluation.hpp"
#include "richflow/models/model.hpp"

namespace richflow::detail {

/// What the models that wrap another one, M, have in common.
template <class Self, class M>
class WrappedModel : public ByEvaluation<Self, typename M::Scalar, SamplesArgument<M>> {
 public:
  using Scalar = typename M::Scalar;
  /// Those of the model inside.
  using Samples = SamplesOf<M>;
  /// Its optional members are those of the model inside.
  static constexpr bool has_conditional_members = true;
  /// Smooth where the model inside is.
  static constexpr bool is_smooth = HasSmoothUnits<M>;

  /// The model inside, f.
  [[nodiscard]] const M& model() const { return model_; }
  /// K.
  [[nodiscard]] Index num_outputs() const { return detail::num_outputs(model_); }
  /// d.
  [[nodiscard]] Index num_inputs() const requires HasNumInputs<M> { return model_.num_inputs(); }

 protected:
  explicit WrappedModel(M model) : model_(std::move(model)) {}

 private:
  M model_;
};

}  // namespace richflow::detail
