#pragma once

#include <cstdlib>
#include <filesystem>

#include "plot.hpp"
#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

namespace test_support {

/// Draws a picture whose tables are in `folder` and looks at its files; without gnuplot says that it could not, and
/// looks at the script.
inline void check_picture(const richflow::examples::Picture& picture, const std::filesystem::path& folder) {
  CAPTURE(picture.name);
  const bool has_gnuplot = std::system("command -v gnuplot >/dev/null 2>&1") == 0;
  CHECK(richflow::examples::draw_picture(picture, folder) == has_gnuplot);
  CHECK(content_of(folder / (picture.name + ".gp")) == richflow::examples::gnuplot_script(picture));
  if (!has_gnuplot) {
    WARN("gnuplot is not installed: the picture " << picture.name << " was not drawn");
    return;
  }
  const std::string svg = content_of(folder / (picture.name + ".svg"));
  CHECK(svg.find("<svg") != std::string::npos);
  CHECK(svg.find("</svg>") != std::string::npos);
  // Curves, points or areas: a frame alone has few.
  std::size_t paths = 0;
  for (std::size_t at = svg.find("<path"); at != std::string::npos; at = svg.find("<path", at + 1)) ++paths;
  CHECK(paths >= 5);
  const std::string png = content_of(folder / (picture.name + ".png"));
  CHECK(png.compare(0, 8, "\x89PNG\r\n\x1a\n") == 0);
  CHECK(png.size() > 5000);
}

}  // namespace test_support
