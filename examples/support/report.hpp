#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "claims.hpp"

/// @file
/// One page with all figures of a folder: pictures, claims, and how they were made.

namespace richflow::examples {

/// What the report says of one program. Its picture's files are `name.svg` and so on, its claims are in claims.json.
struct ReportSection {
  struct PictureText {
    std::string name = {};
    std::string alt = {};
  };

  std::string name = {};  ///< of the program
  std::string title = {};
  std::string paper = {};    ///< what the paper claims
  std::string data = {};     ///< what the numbers are computed from
  std::string effort = {};   ///< how the run was reduced
  std::string command = {};  ///< that made it
  std::string build = {};    ///< for which processor it was compiled
  double seconds = 0.0;
  std::vector<std::string> figures = {};  ///< `figure` of its claims
  std::vector<PictureText> pictures = {};
  std::vector<std::string> tables = {};  ///< names of CSV files
};

/// The section as a JSON object.
[[nodiscard]] std::string section_json(const ReportSection& section);

/// Writes `folder/<name>.json`. Throws FileError.
void write_section(const std::filesystem::path& folder, const ReportSection& section);

/// The sections whose files are in `folder`, by name. Other JSON files are passed over.
[[nodiscard]] std::vector<ReportSection> read_sections(const std::filesystem::path& folder);

/// An SVG file as a part of an HTML page: without prolog and own title, labelled by `alt`, with every id prefixed, so
/// that the ids of several pictures do not meet. Throws FileError when there is no `<svg` in it.
[[nodiscard]] std::string inline_svg(std::string_view svg, const std::string& prefix, const std::string& alt);

/// The page, from the sections, claims and pictures in `folder`. It needs nothing else: no network and no script.
[[nodiscard]] std::string report_html(const std::filesystem::path& folder);

/// Writes `folder/index.html`. Throws FileError, also when there is neither a section nor a claim.
void write_report(const std::filesystem::path& folder);

}  // namespace richflow::examples
