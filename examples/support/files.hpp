#pragma once

#include <filesystem>
#include <string>

#include "richflow/core/file.hpp"

/// @file
/// Output folders, checked before the work starts, and standard output, checked after it.

namespace richflow::examples {

using richflow::FileError;
using richflow::write_file;

/// Makes `folder` and proves that files can be written into it; call it before a long computation.
/// Throws FileError naming the folder and the reason.
void prepare_output_folder(const std::filesystem::path& folder);

/// False when something that was printed on standard output cannot be written there; flushes it.
[[nodiscard]] bool is_standard_output_written();

/// All bytes of a file. Throws FileError.
[[nodiscard]] std::string file_content(const std::filesystem::path& path);

/// For a message: `which holds 'a', 'b' and 3 others`, `which is empty` or `which does not exist`.
[[nodiscard]] std::string contents_of(const std::filesystem::path& folder);

}  // namespace richflow::examples
