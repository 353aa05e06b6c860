#pragma once

#include <filesystem>

#include "richflow/core/types.hpp"

/// @file
/// Arrays of NumPy (`numpy.save`), as users have their data in.

namespace richflow::examples {

/// Whether a file that can be read begins as an NPY file does.
[[nodiscard]] bool is_npy(const std::filesystem::path& path);

/// Reads a two-dimensional array of real numbers: the NPY format in its versions 1 to 3, rows or columns first, of
/// `float32`, `float64`, integers or `bool`, in either order of bytes. Throws FileError naming the file and the cause:
/// missing or truncated, more bytes than the header says, another rank or an empty array, objects, structures, complex
/// numbers, text or half precision, an integer that a double does not hold, NaN or infinity with its row and column.
/// Memory is twice that of the array.
[[nodiscard]] Matrix<double> read_npy(const std::filesystem::path& path);

/// Reads a one-dimensional array, or one of a single column.
[[nodiscard]] Vector<double> read_npy_column(const std::filesystem::path& path);

}  // namespace richflow::examples
