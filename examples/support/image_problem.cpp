#include "image_problem.hpp"

#include <cmath>
#include <cstddef>
#include <vector>

#include "cifar.hpp"
#include "image_data.hpp"
#include "richflow/core/random.hpp"

namespace richflow::examples {

namespace {

LabelledImages images_of(const LabelledImages& images, const std::vector<Index>& chosen) {
  LabelledImages result;
  result.num_images = static_cast<Index>(chosen.size());
  result.channels = images.channels;
  result.height = images.height;
  result.width = images.width;
  const Index size = images.channels * images.height * images.width;
  for (const Index n : chosen) {
    const auto begin = images.pixels.begin() + n * size;
    result.pixels.insert(result.pixels.end(), begin, begin + size);
    result.labels.push_back(images.labels[static_cast<std::size_t>(n)]);
  }
  return result;
}

LabelledDataset<float> standardized(const LabelledDataset<float>& data, double mean, double deviation) {
  return {(data.features().array() - static_cast<float>(mean)).matrix() / static_cast<float>(deviation), data.labels(),
          data.num_classes()};
}

}  // namespace

ImageProblem read_image_problem(const std::filesystem::path& folder, const ImageChoices& choices) {
  const bool is_cifar = std::filesystem::exists(folder / "data_batch_1.bin");
  const auto read = [&](Part part) {
    return is_cifar ? read_cifar10(folder, part) : read_labelled_images(folder, part);
  };
  const LabelledImages train_images = read(Part::train);
  const LabelledImages test_images = read(Part::test);
  require(train_images.height == test_images.height && train_images.width == test_images.width,
          "training and test images differ in size");
  const Index size = choices.size;
  const ImageShape shape{train_images.channels, size > 0 ? size : train_images.height,
                         size > 0 ? size : train_images.width};
  RandomStream random(choices.seed, choices.stream);
  const auto drawn = [&](const LabelledImages& images, Index count) {
    return image_dataset(images_of(images, sample_without_replacement(
                                               random, images.num_images,
                                               count <= 0 || count > images.num_images ? images.num_images : count)),
                         size);
  };
  const LabelledDataset<float> train = drawn(train_images, choices.num_train);
  const LabelledDataset<float> test = drawn(test_images, choices.num_test);
  double mean = 0.0;
  for (Index n = 0; n < train.num_samples(); ++n) mean += train.features().col(n).cast<double>().mean();
  mean /= static_cast<double>(train.num_samples());
  double variance = 0.0;
  for (Index n = 0; n < train.num_samples(); ++n)
    variance += (train.features().col(n).cast<double>().array() - mean).square().mean();
  variance /= static_cast<double>(train.num_samples());
  require(variance > 0.0, "all training images have one colour");
  return {is_cifar ? "CIFAR-10" : "MNIST's format", shape, standardized(train, mean, std::sqrt(variance)),
          standardized(test, mean, std::sqrt(variance))};
}

}  // namespace richflow::examples
