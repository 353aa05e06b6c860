#include "report.hpp"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "files.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kind = "richflow figure";

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

std::string section_html(const std::filesystem::path& folder, const ReportSection& section,
                         const std::vector<Claim>& claims) {
  std::string html = "<section id=\"" + escaped(section.name) + "\" aria-labelledby=\"" + escaped(section.name) +
                     "-title\">\n<h2 id=\"" + escaped(section.name) + "-title\">" + escaped(section.title) + "</h2>\n";
  if (!section.paper.empty()) html += "<p>The paper: " + escaped(section.paper) + "</p>\n";
  std::string files;
  const auto link = [&](const std::string& file) {
    if (std::filesystem::exists(folder / file))
      files += (files.empty() ? "" : ", ") + ("<a href=\"" + escaped(file)) + "\">" + escaped(file) + "</a>";
  };
  for (const auto& [name, alt] : section.pictures) {
    const std::filesystem::path svg = folder / (name + ".svg");
    if (std::filesystem::exists(svg)) {
      const std::string picture = content_of(svg);
      html += "<div class=\"picture\" tabindex=\"0\" role=\"group\" aria-label=\"Picture " + escaped(name) +
              ", may be scrolled\"" + natural_width(picture) + ">\n" +
              inline_svg(picture, name + "-", alt.empty() ? section.title : alt) + "</div>\n";
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

}  // namespace

void write_section(const std::filesystem::path& folder, const ReportSection& section) {
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
  write_file(folder / (section.name + ".json"), entry.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
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
  // The figures in the order of their numbers, and then the rest.
  std::sort(sections.begin(), sections.end(), [](const ReportSection& a, const ReportSection& b) {
    const auto key = [](const ReportSection& section) {
      return std::pair(section.name.starts_with("fig") ? 0 : 1, section.name);
    };
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

  std::string body, links;
  std::set<std::string> told;
  for (const ReportSection& section : sections) {
    std::vector<Claim> own;
    for (const Claim& claim : claims)
      if (std::find(section.figures.begin(), section.figures.end(), claim.figure) != section.figures.end())
        own.push_back(claim);
    told.insert(section.figures.begin(), section.figures.end());
    links += "<li><a href=\"#" + escaped(section.name) + "\">" + escaped(section.title) + "</a></li>\n";
    body += section_html(folder, section, own);
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
         tally(claims) + ".</p>\n<nav aria-label=\"Figures\"><ul>\n" + links +
         "</ul></nav>\n</header>\n<main id=\"figures\">\n" + body +
         "</main>\n<footer>Every number on this page is computed by the program named beside it. The paper: B. "
         "Woodworth "
         "et al., <cite>Kernel and Rich Regimes in Overparametrized Models</cite>, COLT "
         "2020.</footer>\n</body>\n</html>\n";
}

void write_report(const std::filesystem::path& folder) { write_file(folder / "index.html", report_html(folder)); }

}  // namespace richflow::examples
