#pragma once

#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"

namespace richflow {

/// A run of a given number of steps, from t = 0, in place of a time span.
struct Steps {
  Index count = 0;  ///< > 0
};

/// A run of a given number of passes through the data, from t = 0, for a problem whose steps see a part of it
/// (HasSource).
struct Epochs {
  Index count = 0;  ///< > 0
};

}  // namespace richflow
