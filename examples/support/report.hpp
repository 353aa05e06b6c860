#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "claims.hpp"
#include "plot.hpp"

/// @file
/// One page with all figures of a folder: pictures, claims, and how they were made.

namespace richflow::examples {

/// What the report says of one program. Its picture's files are `name.svg` and so on, its claims are in claims.json.
struct ReportSection {
  struct PictureText {
    std::string name = {};
    std::string alt = {};
    std::vector<PanelPlace> panels = {};
  };

  std::string name = {};  ///< of the program
  std::string title = {};
  std::string paper = {};    ///< what the paper claims
  std::string data = {};     ///< what the numbers are computed from
  std::string run = {};      ///< "quick", "default" or "full"
  std::string effort = {};   ///< how the run was reduced
  std::string size = {};     ///< of the problems that were solved, and how many
  std::string command = {};  ///< that made it
  std::string build = {};    ///< for which processor it was compiled
  int threads = 0;           ///< of the run; 0: not known
  int machine_threads = 0;   ///< that the machine has; 0: not known
  double seconds = 0.0;
  bool resumed = false;                   ///< `seconds` are those since then
  std::vector<std::string> figures = {};  ///< `figure` of its claims
  std::vector<PictureText> pictures = {};
  std::vector<std::string> tables = {};  ///< names of CSV files
};

/// The section as a JSON object.
[[nodiscard]] std::string section_json(const ReportSection& section);

/// Writes `folder/<name>.json`. Throws FileError.
void write_section(const std::filesystem::path& folder, const ReportSection& section);

/// Removes the tables of an earlier run of the program `name`, which its section in `folder` lists, from there: those
/// of `optional` that are not among `made`. What no section lists is not touched.
void remove_earlier_tables(const std::filesystem::path& folder, const std::string& name,
                           const std::vector<std::string>& optional, const std::vector<std::string>& made);

/// Which part of the page a program belongs to.
enum class ReportPart { paper, own, beyond };
[[nodiscard]] ReportPart report_part(const ReportSection& section);

/// The sections whose files are in `folder`, by part and name. Other JSON files are passed over, also what a program
/// printed with `--json` when it was kept there under another name.
[[nodiscard]] std::vector<ReportSection> read_sections(const std::filesystem::path& folder);

/// An SVG file as a part of an HTML page: without prolog and own title, labelled by `alt`, with every id prefixed, so
/// that the ids of several pictures do not meet. Its content is a group with the id `prefix` + "picture", so that a
/// smaller copy can refer to it. Throws FileError when there is no whole `<svg` in it.
[[nodiscard]] std::string inline_svg(std::string_view svg, const std::string& prefix, const std::string& alt);

/// Programs of a run that are not in its folder, or not whole.
struct Unfinished {
  std::vector<std::string> broken = {};   ///< they did not finish
  std::vector<std::string> skipped = {};  ///< their data are not installed
};

/// The page, from the sections, claims and pictures in `folder`: an overview of all panels with their verdicts, the
/// programs one by one, what they took. It needs nothing else and no network; its one script unfolds it for print.
[[nodiscard]] std::string report_html(const std::filesystem::path& folder, const Unfinished& unfinished = {});

/// Writes `folder/index.html`. Throws FileError, also when there is neither a section nor a claim.
void write_report(const std::filesystem::path& folder, const Unfinished& unfinished = {});

}  // namespace richflow::examples
