#pragma once

#include "richflow/core/error.hpp"
#include "richflow/core/types.hpp"

namespace richflow {

/// A run of so many steps, from t = 0, in place of a time span.
struct Steps {
  Index count = 0;  ///< > 0
};

/// A run of so many passes through the data, from t = 0: of a problem whose steps see a part of it (HasSource).
struct Epochs {
  Index count = 0;  ///< > 0
};

}  // namespace richflow
