#include "image_problem.hpp"

#include <cmath>

#include "cifar.hpp"
#include "image_data.hpp"
#include "richflow/core/random.hpp"

namespace richflow::examples {

namespace {

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
    const auto all = image_dataset(images, size);
    return all.random_subset(random, count <= 0 || count > all.num_samples() ? all.num_samples() : count);
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
