#pragma once

#include <filesystem>

#include "idx.hpp"

/// @file
/// Images and labels in the binary format of CIFAR-10.

namespace richflow::examples {

/// Images in each of the files of CIFAR-10.
inline constexpr Index cifar_images_per_file = 10000;

/// Reads `data_batch_1.bin` to `data_batch_5.bin` (train) or `test_batch.bin` (test) from `folder`: records of a label
/// and 3 x 32 x 32 bytes. Throws FileError when a file is missing, does not hold `images_per_file` records to
/// the byte, or has a label above 9.
[[nodiscard]] LabelledImages read_cifar10(const std::filesystem::path& folder, Part part,
                                          Index images_per_file = cifar_images_per_file);

/// Where the binary version of CIFAR-10 lies: `folder`, or `cifar-10-batches-bin` below it as its archive unpacks;
/// empty where it is neither. Throws FileError where the version for Python lies there, which is not read.
[[nodiscard]] std::filesystem::path cifar10_folder(const std::filesystem::path& folder);

}  // namespace richflow::examples
