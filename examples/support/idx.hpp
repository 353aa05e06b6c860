#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "richflow/core/types.hpp"

/// @file
/// Images and labels in the IDX format of MNIST and Fashion-MNIST, plain or compressed (.gz).

namespace richflow::examples {

/// An array of bytes of any rank, row-major; `shape` holds its sizes.
struct IdxArray {
  std::vector<Index> shape = {};
  std::vector<std::uint8_t> values = {};
};

/// Reads an IDX file of unsigned bytes. Throws FileError when it is missing, is no IDX file, holds another
/// type or rank than asked for, or has fewer or more bytes than its header says.
[[nodiscard]] IdxArray read_idx(const std::filesystem::path& path, int rank);

/// Images beside their labels.
struct LabelledImages {
  Index num_images = 0;
  Index channels = 1;
  Index height = 0;
  Index width = 0;
  std::vector<std::uint8_t> pixels = {};  ///< num_images x (channels * height * width), row-major
  std::vector<std::uint8_t> labels = {};  ///< 0 to 9
};

/// The two parts of a data set.
enum class Part { train, test };

/// Reads `train-` or `t10k-images-idx3-ubyte` and `-labels-idx1-ubyte` from `folder`, each with or without .gz, with a
/// dot in place of the last dash (as some archives have it), or from its folder `raw`. Throws FileError, which lists
/// what the folder holds where a file is missing, also when the two do not belong together or a label is above 9.
[[nodiscard]] LabelledImages read_labelled_images(const std::filesystem::path& folder, Part part);

}  // namespace richflow::examples
