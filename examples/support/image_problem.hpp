#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "cifar.hpp"
#include "idx.hpp"
#include "richflow/data/labelled_dataset.hpp"
#include "richflow/models/conv_network.hpp"

/// @file
/// Image files as data to train on.

namespace richflow::examples {

/// The images of a folder.
struct ImageFiles {
  std::string name = {};  ///< of the format: "MNIST's format" or "CIFAR-10"
  LabelledImages train = {};
  LabelledImages test = {};
};

/// Reads the images in `folder`, in the binary format of CIFAR-10 where that is what is there (then with
/// `images_per_file` in each file), otherwise in MNIST's.
/// Throws FileError as the readers do, ArgumentError where training and test images differ in size.
[[nodiscard]] ImageFiles read_image_files(const std::filesystem::path& folder,
                                          Index images_per_file = cifar_images_per_file);

/// A hash of pixels and labels, by which saved results know their data.
[[nodiscard]] std::uint64_t fingerprint(const ImageFiles& files);

/// Training and test images, each feature (pixel - mean) / standard deviation over all pixels of the training images.
struct ImageProblem {
  ImageShape shape = {};
  LabelledDataset<float> train;
  LabelledDataset<float> test;
};

/// How much of the images is used.
struct ImageChoices {
  Index num_train = 0;  ///< drawn without replacement; 0, or more than there are: all
  Index num_test = 0;
  Index size = 0;  ///< height and width, reached by a border of background (zero pixels); 0: as they are
  std::uint64_t seed = 1;
  std::uint64_t stream = 0;  ///< of the draw
};

/// Draws the images of a problem. Throws ArgumentError for a size below that of the images or images of one colour.
[[nodiscard]] ImageProblem image_problem(const ImageFiles& files, const ImageChoices& choices);

}  // namespace richflow::examples
