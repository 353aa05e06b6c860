#include "fuzz.hpp"
#include "report.hpp"

using namespace richflow::examples;

namespace {

std::filesystem::path subfolder(const char* name) {
  std::filesystem::create_directories(fuzz::folder() / name);
  return fuzz::folder() / name;
}

}  // namespace

std::vector<std::string> fuzz::seeds() {
  ReportSection section;
  section.name = "fig1";
  section.title = "A \"title\" \u03b1";
  section.seconds = 1.5;
  section.figures = {"fig1a", "fig1b"};
  section.pictures = {{"fig1a", "what is seen"}};
  section.tables = {"fig1a.csv"};
  return {section_json(section), section_json({})};
}

void fuzz::try_input(const std::string& content) {
  static const std::filesystem::path first = subfolder("first");
  static const std::filesystem::path second = subfolder("second");
  file("first/section.json", content);
  for (const ReportSection& section : read_sections(first)) {
    const std::string text = section_json(section);
    file("second/section.json", text);
    const std::vector<ReportSection> back = read_sections(second);
    expect(back.size() == 1 && section_json(back.front()) == text, "the section reads back");
  }
}
