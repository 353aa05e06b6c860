#pragma once

#include "idx.hpp"
#include "richflow/data/labelled_dataset.hpp"

/// @file
/// Images as training data.

namespace richflow::examples {

/// Pixels divided by 255, channel by channel, row by row, and the labels of ten classes; images with zeros around them
/// to `padded_side` x `padded_side`, centred, where that is not 0. Throws ArgumentError for a side smaller than the
/// images.
[[nodiscard]] LabelledDataset<float> image_dataset(const LabelledImages& images, Index padded_side = 0);

}  // namespace richflow::examples
