#include "fuzz.hpp"
#include "report.hpp"

using namespace richflow::examples;

namespace {

/// What the file of the only section in a folder reads as. Files of another name than their section's are passed over.
std::vector<ReportSection> sections_of(const std::string& content) {
  static const std::filesystem::path folder = fuzz::folder() / "sections";
  std::filesystem::create_directories(folder);
  fuzz::file("sections/section.json", content);
  return read_sections(folder);
}

/// The section that was written so.
ReportSection read_back(const std::string& content) {
  const auto sections = fuzz::accepted([&] { return sections_of(content); });
  fuzz::expect(sections.size() == 1, "the section is found");
  fuzz::expect(section_json(sections.front()) == content, "the section reads back");
  return sections.front();
}

}  // namespace

std::vector<std::string> fuzz::seeds() {
  ReportSection section;
  section.name = "section";
  section.title = "A \"title\" \u03b1";
  section.size = "d = 3";
  section.threads = 2;
  section.seconds = 1.5;
  section.resumed = true;
  section.figures = {"fig1a", "fig1b"};
  section.pictures = {{"fig1a", "what is seen", {{"a", 0.0, 0.25, 0.5, 1.0}}}};
  section.tables = {"fig1a.csv"};
  const std::string whole = section_json(section);
  const ReportSection read = read_back(whole);
  expect(read.title == section.title && read.size == section.size && read.threads == 2 && read.seconds == 1.5 &&
             read.resumed && read.figures == section.figures && read.tables == section.tables,
         "the section is what was written");
  expect(read.pictures.size() == 1 && read.pictures[0].alt == "what is seen" && read.pictures[0].panels.size() == 1 &&
             read.pictures[0].panels[0].top == 0.25 && read.pictures[0].panels[0].bottom == 1.0,
         "its picture is what was written");
  ReportSection least;
  least.name = section.name;
  const std::string small = section_json(least);
  static_cast<void>(read_back(small));
  return {whole, small};
}

void fuzz::try_input(const std::string& content) {
  for (const ReportSection& section : sections_of(content)) static_cast<void>(read_back(section_json(section)));
}
