#pragma once

#include <filesystem>
#include <string>
#include <vector>

/// @file
/// Pictures by gnuplot in one style, from the CSV files beside them.

namespace richflow::examples {

/// A picture to draw: `commands` are gnuplot commands that plot CSV files of the same folder by column name.
/// The style (fonts, colours `blue` `vermilion` `green` `orange` `purple` `sky` `ink` `grey`, borders, grid) is
/// set before them, and they run once for each of SVG and PNG. `setup` runs once, before.
struct Picture {
  std::string name = {};  ///< of the files, without ending
  int width = 900;        ///< in pixels of the SVG; the PNG has twice as many
  int height = 520;
  std::string commands = {};
  std::string setup = {};
  std::string alt = {};  ///< what it shows, for those who cannot see it
};

/// Commands that make an array of numbers: in strings gnuplot reads no exponents.
[[nodiscard]] std::string gnuplot_array(const std::string& name, const std::vector<double>& numbers);

/// The script `name.gp`, which needs nothing but gnuplot 5 and the CSV files beside it.
[[nodiscard]] std::string gnuplot_script(const Picture& picture);

/// Writes `name.gp` into `folder` and lets gnuplot make `name.svg` and `name.png`. Where gnuplot is not
/// installed, says so on stderr and returns false. Throws FileError when the script cannot be written, when
/// gnuplot fails on it, with gnuplot's message, or when a picture is missing or empty afterwards.
bool draw_picture(const Picture& picture, const std::filesystem::path& folder);

}  // namespace richflow::examples
