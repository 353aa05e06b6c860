#include "image_problem.hpp"

#include <cmath>
#include <cstddef>
#include <vector>

#include "image_data.hpp"
#include "richflow/core/hash.hpp"
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
  return LabelledDataset<float>::from_columns(
      (data.columns().array() - static_cast<float>(mean)).matrix() / static_cast<float>(deviation), data.labels(),
      data.num_classes());
}

}  // namespace

ImageFiles read_image_files(const std::filesystem::path& folder, Index images_per_file) {
  const std::filesystem::path cifar = cifar10_folder(folder);
  const auto read = [&](Part part) {
    return !cifar.empty() ? read_cifar10(cifar, part, images_per_file) : read_labelled_images(folder, part);
  };
  ImageFiles files{!cifar.empty() ? "CIFAR-10" : "MNIST's format", read(Part::train), read(Part::test)};
  require(files.train.height == files.test.height && files.train.width == files.test.width,
          "training and test images differ in size");
  return files;
}

std::uint64_t fingerprint(const ImageFiles& files) {
  std::uint64_t hash = 0;
  for (const LabelledImages* images : {&files.train, &files.test}) {
    for (const auto* bytes : {&images->pixels, &images->labels}) {
      std::uint64_t sum = bytes->size();
      for (std::size_t i = 0; i < bytes->size(); ++i) sum += (2 * i + 1) * (*bytes)[i];
      hash = detail::mix(hash ^ sum);
    }
  }
  return hash;
}

ImageProblem image_problem(const ImageFiles& files, const ImageChoices& choices) {
  const LabelledImages& train_images = files.train;
  const LabelledImages& test_images = files.test;
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
  for (Index n = 0; n < train.num_samples(); ++n) mean += train.columns().col(n).cast<double>().mean();
  mean /= static_cast<double>(train.num_samples());
  double variance = 0.0;
  for (Index n = 0; n < train.num_samples(); ++n)
    variance += (train.columns().col(n).cast<double>().array() - mean).square().mean();
  variance /= static_cast<double>(train.num_samples());
  require(variance > 0.0, "all training images have one colour");
  return {shape, standardized(train, mean, std::sqrt(variance)), standardized(test, mean, std::sqrt(variance))};
}

}  // namespace richflow::examples
