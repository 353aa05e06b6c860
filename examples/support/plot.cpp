#include "plot.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iostream>
#include <system_error>

#include "files.hpp"
#include "richflow/core/error.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

constexpr int not_found = 127;

/// The palette of Okabe and Ito, which colour-blind readers can tell apart.
constexpr const char* style = R"(reset
set encoding utf8
set datafile separator comma
set datafile missing ""
blue = "#0072B2"; vermilion = "#D55E00"; green = "#009E73"; orange = "#E69F00"
purple = "#CC79A7"; sky = "#56B4E9"; ink = "#222222"; grey = "#8A8A8A"; light = "#E6E6E6"
set border 3 lc rgb "#666666" lw 1
set tics nomirror out scale 0.6 tc rgb ink
unset mxtics; unset mytics
set grid back lt 1 lc rgb light lw 1, lt 1 lc rgb light lw 1
set key noautotitle samplen 2.5 spacing 1.25 tc rgb ink
set title tc rgb ink
set xlabel tc rgb ink
set ylabel tc rgb ink
set style fill transparent solid 0.18 noborder
)";

struct Outcome {
  int exit_code = 0;
  std::string output = {};
};

Outcome run_gnuplot(const std::filesystem::path& folder, const std::string& script) {
  std::array<int, 2> channel{};
  if (::pipe(channel.data()) != 0) throw FileError("cannot start gnuplot: " + std::generic_category().message(errno));
  std::array<char*, 3> arguments{const_cast<char*>("gnuplot"), const_cast<char*>(script.c_str()), nullptr};
  const ::pid_t child = ::fork();
  if (child < 0) throw FileError("cannot start gnuplot: " + std::generic_category().message(errno));
  if (child == 0) {
    ::dup2(channel[1], STDOUT_FILENO);
    ::dup2(channel[1], STDERR_FILENO);
    ::close(channel[0]);
    if (::chdir(folder.c_str()) == 0) ::execvp(arguments[0], arguments.data());
    ::_exit(not_found);
  }
  ::close(channel[1]);
  Outcome outcome;
  std::array<char, 4096> buffer{};
  for (;;) {
    const ::ssize_t got = ::read(channel[0], buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    outcome.output.append(buffer.data(), static_cast<std::size_t>(got));
  }
  ::close(channel[0]);
  int state = 0;
  while (::waitpid(child, &state, 0) < 0 && errno == EINTR) {
  }
  outcome.exit_code = WIFEXITED(state) ? WEXITSTATUS(state) : -1;
  return outcome;
}

}  // namespace

std::vector<PanelPlace> panels_in_grid(std::size_t columns, const std::vector<std::string>& cells,
                                       const std::vector<double>& edges) {
  require(columns > 0 && !cells.empty() && cells.size() % columns == 0, "panels_in_grid: ", cells.size(),
          " cells do not fill rows of ", columns);
  require(edges.empty() || edges.size() == columns - 1, "panels_in_grid: ", edges.size(), " edges do not part ",
          columns, " columns");
  const auto edge = [&](std::size_t column) {
    if (edges.empty() || column == 0 || column == columns)
      return static_cast<double>(column) / static_cast<double>(columns);
    return edges[column - 1];
  };
  const auto height = static_cast<double>(cells.size() / columns);
  std::vector<PanelPlace> places;
  for (std::size_t k = 0; k < cells.size(); ++k) {
    if (cells[k].empty()) continue;
    const std::size_t column = k % columns;
    const auto row = static_cast<double>(k / columns);
    const PanelPlace cell = {cells[k], edge(column), row / height, edge(column + 1), (row + 1.0) / height};
    const auto known =
        std::find_if(places.begin(), places.end(), [&](const PanelPlace& place) { return place.panel == cell.panel; });
    if (known == places.end()) {
      places.push_back(cell);
    } else {
      *known = {cell.panel, std::min(known->left, cell.left), std::min(known->top, cell.top),
                std::max(known->right, cell.right), std::max(known->bottom, cell.bottom)};
    }
  }
  return places;
}

std::string gnuplot_array(const std::string& name, const std::vector<double>& numbers) {
  std::string list;
  for (const double number : numbers) list += (list.empty() ? "" : ",") + exact_number(number);
  return "array " + name + "[" + std::to_string(numbers.size()) + "] = [" + list + "]\n";
}

std::string gnuplot_script(const Picture& picture) {
  const auto size = [&](int factor) {
    return std::to_string(factor * picture.width) + "," + std::to_string(factor * picture.height);
  };
  return "# Makes " + picture.name + ".svg and " + picture.name + ".png: run `gnuplot " + picture.name +
         ".gp` in this folder.\n" + picture.setup + "do for [format in \"svg png\"] {\n" + style +
         "if (format eq \"svg\") {\n  set terminal svg size " + size(1) +
         " dynamic rounded enhanced font \"sans-serif,15\" background \"#ffffff\"\n} else {\n" +
         "  set terminal pngcairo size " + size(2) +
         " rounded enhanced font \"sans,15\" fontscale 1.5 linewidth 2 pointscale 2 background \"#ffffff\"\n}\n" +
         "set output \"" + picture.name + ".\".format\n" + picture.commands + "unset output\n}\n";
}

bool draw_picture(const Picture& picture, const std::filesystem::path& folder) {
  const std::string script = picture.name + ".gp";
  write_file(folder / script, gnuplot_script(picture));
  const Outcome outcome = run_gnuplot(folder, script);
  if (outcome.exit_code == not_found) {
    std::cerr << "gnuplot is not installed: no picture of " << picture.name
              << ". The CSV files are written; later run `gnuplot " << script << "` in " << quoted(folder) << ".\n";
    return false;
  }
  if (outcome.exit_code != 0) throw FileError("gnuplot failed on " + quoted(folder / script) + ": " + outcome.output);
  if (!outcome.output.empty()) std::cerr << "gnuplot on " << quoted(folder / script) << ": " << outcome.output;
  for (const char* ending : {".svg", ".png"}) {
    const std::filesystem::path file = folder / (picture.name + ending);
    std::error_code error;
    const auto size = std::filesystem::file_size(file, error);
    if (error || size == 0)
      throw FileError("gnuplot made no picture " + quoted(file) +
                      (outcome.output.empty() ? "" : ": " + outcome.output));
  }
  return true;
}

}  // namespace richflow::examples
