#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

/// @file
/// Pictures by gnuplot in one style, from the CSV files beside them.

namespace richflow::examples {

/// The part of a picture that stands for a panel where there is little room, in fractions of its width and height from
/// the top left corner.
struct PanelPlace {
  std::string panel = {};  ///< `figure` of its claims
  double left = 0.0;
  double top = 0.0;
  double right = 1.0;
  double bottom = 1.0;
};

/// The places of panels in a grid, `columns` in a row. `cells` names the panel of each cell, row by row: empty for
/// none; a panel of several cells has the rectangle around them. Rows are equally high, and columns equally wide unless
/// `edges` says where they meet. Throws ArgumentError unless rows are whole and there is an edge between columns.
[[nodiscard]] std::vector<PanelPlace> panels_in_grid(std::size_t columns, const std::vector<std::string>& cells,
                                                     const std::vector<double>& edges = {});

/// A picture to draw: `commands` are gnuplot commands that plot CSV files of the same folder by column name.
/// The style (fonts, colours `blue` `vermilion` `green` `orange` `purple` `sky` `ink` `grey`, borders, grid) is
/// set before them, and they run once for each of SVG and PNG. `setup` runs once, before.
struct Picture {
  std::string name = {};  ///< of the files, without ending
  int width = 900;        ///< in pixels of the SVG; the PNG has twice as many
  int height = 520;
  std::string commands = {};
  std::string setup = {};
  std::string alt = {};                 ///< what it shows, for those who cannot see it
  std::vector<PanelPlace> panels = {};  ///< where its panels are; empty: all of it shows each of them
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
