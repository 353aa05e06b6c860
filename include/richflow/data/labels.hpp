#pragma once

#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"

namespace richflow::detail {

/// Throws unless there is one label for each sample, in 0 .. num_classes - 1.
inline void require_labels(ConstVectorRef<int> labels, Index num_samples, Index num_classes) {
  require_size("labels", labels.size(), num_samples);
  for (Index n = 0; n < labels.size(); ++n)
    require(labels[n] >= 0 && labels[n] < num_classes, "labels(", n, ") must be in 0 .. ", num_classes - 1, ", got ",
            labels[n]);
}

}  // namespace richflow::detail
