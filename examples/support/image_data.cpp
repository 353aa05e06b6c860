#include "image_data.hpp"

#include <cstddef>
#include <utility>

#include "richflow/core/error.hpp"

namespace richflow::examples {

LabelledDataset<float> image_dataset(const LabelledImages& images, Index padded_side) {
  const Index height = padded_side == 0 ? images.height : padded_side;
  const Index width = padded_side == 0 ? images.width : padded_side;
  require(height >= images.height && width >= images.width, "padded_side must be at least the images' ", images.height,
          " x ", images.width, ", got ", padded_side);
  const Index top = (height - images.height) / 2;
  const Index left = (width - images.width) / 2;
  Matrix<float> features = Matrix<float>::Zero(images.channels * height * width, images.num_images);
  Vector<int> labels(images.num_images);
  std::size_t next = 0;
  for (Index n = 0; n < images.num_images; ++n) {
    labels[n] = images.labels[static_cast<std::size_t>(n)];
    for (Index c = 0; c < images.channels; ++c)
      for (Index i = 0; i < images.height; ++i)
        for (Index j = 0; j < images.width; ++j)
          features((c * height + top + i) * width + left + j, n) = static_cast<float>(images.pixels[next++]) / 255.0F;
  }
  return LabelledDataset<float>::from_columns(std::move(features), std::move(labels), 10);
}

}  // namespace richflow::examples
