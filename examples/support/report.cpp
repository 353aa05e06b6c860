#include "report.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "files.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kind = "richflow figure";

/// Of a section's file; none where it is not one.
std::vector<std::string> listed_tables(const std::filesystem::path& file) {
  if (!std::filesystem::exists(file)) return {};
  try {
    const Json entry = Json::parse(file_content(file));
    if (entry.value("kind", "") != kind) return {};
    return entry.at("tables").get<std::vector<std::string>>();
  } catch (const nlohmann::json::exception&) {
    return {};
  }
}

}  // namespace

ReportPart report_part(const ReportSection& section) {
  if (section.name.starts_with("beyond_") || section.name == "fig5_conjecture") return ReportPart::beyond;
  return section.name.starts_with("fig") ? ReportPart::paper : ReportPart::own;
}

std::string section_json(const ReportSection& section) {
  Json entry;
  entry["kind"] = kind;
  entry["name"] = section.name;
  entry["title"] = section.title;
  entry["paper"] = section.paper;
  entry["data"] = section.data;
  entry["run"] = section.run;
  entry["effort"] = section.effort;
  entry["size"] = section.size;
  entry["command"] = section.command;
  entry["build"] = section.build;
  entry["threads"] = section.threads;
  entry["machine_threads"] = section.machine_threads;
  entry["seconds"] = section.seconds;
  entry["resumed"] = section.resumed;
  entry["figures"] = section.figures;
  entry["pictures"] = Json::array();
  for (const auto& [name, alt, panels] : section.pictures) {
    Json places = Json::array();
    for (const PanelPlace& place : panels)
      places.push_back({{"panel", place.panel},
                        {"left", place.left},
                        {"top", place.top},
                        {"right", place.right},
                        {"bottom", place.bottom}});
    entry["pictures"].push_back({{"name", name}, {"alt", alt}, {"panels", places}});
  }
  entry["tables"] = section.tables;
  return entry.dump(2, ' ', false, Json::error_handler_t::replace);
}

void write_section(const std::filesystem::path& folder, const ReportSection& section) {
  write_file(folder / (section.name + ".json"), section_json(section) + "\n");
}

void remove_earlier_tables(const std::filesystem::path& folder, const std::string& name,
                           const std::vector<std::string>& optional, const std::vector<std::string>& made) {
  const auto is_in = [](const std::vector<std::string>& names, const std::string& table) {
    return std::find(names.begin(), names.end(), table) != names.end();
  };
  for (const std::string& table : listed_tables(folder / (name + ".json"))) {
    if (!is_in(optional, table) || is_in(made, table)) continue;
    std::error_code left_behind;  // it is no longer listed, which is enough
    std::filesystem::remove(folder / table, left_behind);
  }
}

std::vector<ReportSection> read_sections(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder)) throw FileError("there is no folder " + quoted(folder));
  std::vector<ReportSection> sections;
  for (const auto& file : std::filesystem::directory_iterator(folder)) {
    if (file.path().extension() != ".json" || file.path().filename() == "claims.json") continue;
    try {
      const Json entry = Json::parse(file_content(file.path()));
      if (!entry.is_object() || entry.value("kind", "") != kind) continue;
      ReportSection section;
      entry.at("name").get_to(section.name);
      if (file.path().stem() != section.name) continue;
      entry.at("title").get_to(section.title);
      entry.at("paper").get_to(section.paper);
      entry.at("data").get_to(section.data);
      entry.at("effort").get_to(section.effort);
      entry.at("command").get_to(section.command);
      // Files of before have no such fields.
      section.build = entry.value("build", "");
      section.run = entry.value("run", "");
      section.size = entry.value("size", "");
      section.threads = entry.value("threads", 0);
      section.machine_threads = entry.value("machine_threads", 0);
      section.resumed = entry.value("resumed", false);
      entry.at("seconds").get_to(section.seconds);
      entry.at("figures").get_to(section.figures);
      for (const Json& picture : entry.at("pictures")) {
        ReportSection::PictureText text = {picture.at("name").get<std::string>(), picture.at("alt").get<std::string>()};
        for (const Json& place : picture.value("panels", Json::array()))
          text.panels.push_back({place.at("panel").get<std::string>(), place.at("left").get<double>(),
                                 place.at("top").get<double>(), place.at("right").get<double>(),
                                 place.at("bottom").get<double>()});
        section.pictures.push_back(std::move(text));
      }
      entry.at("tables").get_to(section.tables);
      sections.push_back(std::move(section));
    } catch (const nlohmann::json::exception& error) {
      throw FileError(quoted(file.path()) + " cannot be read as a figure (" + error.what() + ")");
    }
  }
  std::sort(sections.begin(), sections.end(), [](const ReportSection& a, const ReportSection& b) {
    const auto key = [](const ReportSection& section) { return std::pair(report_part(section), section.name); };
    return key(a) < key(b);
  });
  return sections;
}

}  // namespace richflow::examples
