#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "richflow/core/error.hpp"

/// @file
/// Output files: checked before the work starts, replaced in one move.

namespace richflow::examples {

/// A file or folder that cannot be read or written, or whose content is not what it should be. The
/// message names it and, in a file, the place.
class FileError : public Error {
 public:
  using Error::Error;
};

/// Makes `folder` and proves that files can be written into it; call it before a long computation.
/// Throws FileError naming the folder and the reason.
void prepare_output_folder(const std::filesystem::path& folder);

/// Writes a whole file under a temporary name beside it, then moves it into place, so that a reader, or
/// a run that is killed, never leaves half a file. Throws FileError naming the path and the reason.
void write_file(const std::filesystem::path& path, std::string_view content);

}  // namespace richflow::examples
