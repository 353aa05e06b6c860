#include "report.hpp"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "claims.hpp"
#include "files.hpp"
#include "plot.hpp"
#include "richflow/core/error.hpp"
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
  result.run = "quick";
  result.effort = "small";
  result.size = "N < 7";
  result.command = name + " --out 'a b'";
  result.build = "for <this> machine";
  result.threads = 3;
  result.machine_threads = 8;
  result.seconds = 1.5;
  result.figures = {name + "a", name + "b"};
  result.pictures = {{name, "a curve that \"rises\"", panels_in_grid(2, {name + "a", name + "b"}, {0.25})}};
  result.tables = {name + ".csv"};
  return result;
}

constexpr const char* svg =
    "<?xml version=\"1.0\"?>\n<svg viewBox=\"0 0 80 20\">\n<title>Gnuplot</title>\n<desc>made by</desc>\n"
    "<circle id='dot'/><use xlink:href='#dot' id=\"two\"/><path clip-path=\"url(#two)\"/></svg>";

/// What is in `text` between `begin` and the next `end`, without both.
std::string between(const std::string& text, const std::string& begin, const std::string& end) {
  const std::size_t at = text.find(begin);
  REQUIRE(at != std::string::npos);
  const std::size_t from = at + begin.size();
  const std::size_t to = text.find(end, from);
  REQUIRE(to != std::string::npos);
  return text.substr(from, to - from);
}

std::string overview_of(const std::string& page) { return between(page, "<nav class=\"overview\"", "</nav>"); }
std::string section_of(const std::string& page, const std::string& name) {
  return between(page, "<section id=\"" + name + "\"", "</section>");
}

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
  CHECK(sections[1].run == expected.run);
  CHECK(sections[1].effort == expected.effort);
  CHECK(sections[1].size == expected.size);
  CHECK(sections[1].threads == expected.threads);
  CHECK(sections[1].machine_threads == expected.machine_threads);
  CHECK_FALSE(sections[1].resumed);
  CHECK(sections[1].build == expected.build);
  CHECK(sections[1].command == expected.command);
  CHECK(sections[1].seconds == expected.seconds);
  CHECK(sections[1].figures == expected.figures);
  CHECK(sections[1].tables == expected.tables);
  REQUIRE(sections[1].pictures.size() == 1);
  CHECK(sections[1].pictures[0].alt == expected.pictures[0].alt);
  const std::vector<PanelPlace>& places = sections[1].pictures[0].panels;
  REQUIRE(places.size() == 2);
  CHECK(places[0].panel == "fig2a");
  CHECK(places[0].right == 0.25);
  CHECK(places[1].left == 0.25);
  CHECK(places[1].bottom == 1.0);
  // What a program printed with --json, kept in the folder, is not a second section.
  write_file(folder.path() / "summary.json", section_json(section("fig2")));
  CHECK(read_sections(folder.path()).size() == 3);
  // A file of an earlier version says less.
  (void)folder.file("fig3.json",
                    "{\"kind\": \"richflow figure\", \"name\": \"fig3\", \"title\": \"t\", \"paper\": \"p\", "
                    "\"data\": \"d\", \"effort\": \"e\", \"command\": \"c\", \"seconds\": 2, \"figures\": [\"fig3\"], "
                    "\"pictures\": [{\"name\": \"fig3\", \"alt\": \"a\"}], \"tables\": []}");
  REQUIRE(read_sections(folder.path()).size() == 4);
  CHECK(read_sections(folder.path())[2].pictures[0].panels.empty());
  (void)folder.file("broken.json", "{\"kind\": \"richflow figure\", \"name\": 3}");
  CHECK_THROWS_AS(read_sections(folder.path()), FileError);
}

TEST_CASE("of the tables of an earlier run those that are not made again are removed, and nothing else") {
  const TemporaryFolder folder;
  for (const char* name : {"kept.csv", "old.csv", "asked.csv", "own.csv"}) (void)folder.file(name, "x\n");
  const std::vector<std::string> optional = {"kept.csv", "old.csv", "own.csv"};
  const auto names_left = [&](const std::vector<std::string>& made) {
    remove_earlier_tables(folder.path(), "fig1", optional, made);
    std::vector<std::string> left;
    for (const char* name : {"kept.csv", "old.csv", "asked.csv", "own.csv"})
      if (std::filesystem::exists(folder.path() / name)) left.emplace_back(name);
    return left;
  };
  CHECK(names_left({}).size() == 4);
  for (const char* other : {"not JSON", "[]", "{}", "{\"kind\": 1}"}) {
    (void)folder.file("fig1.json", other);
    CHECK(names_left({}).size() == 4);
  }
  ReportSection earlier = section("fig1");
  earlier.tables = {"kept.csv", "old.csv", "asked.csv", "gone.csv"};
  write_section(folder.path(), earlier);
  CHECK(names_left({"kept.csv"}) == std::vector<std::string>{"kept.csv", "asked.csv", "own.csv"});
}

TEST_CASE("a picture in the page has an alternative text and ids of its own") {
  const std::string html = inline_svg(svg, "p-", "rises & \"falls\"");
  CHECK(html.starts_with(
      "<svg role=\"img\" aria-label=\"rises &amp; &quot;falls&quot;\" viewBox=\"0 0 80 20\"><g id=\"p-picture\">"));
  CHECK(html.find("<title>") == std::string::npos);
  CHECK(html.find("<desc>") == std::string::npos);
  CHECK(html.find(
            "<circle id='p-dot'/><use xlink:href='#p-dot' id=\"p-two\"/><path clip-path=\"url(#p-two)\"/></g></svg>") !=
        std::string::npos);
  CHECK(inline_svg("<svg id=\"a\"></svg>", "<\"-", "").find(" id=\"&lt;&quot;-a\">") != std::string::npos);
  CHECK(inline_svg("<svg id=\"a\"></svg>", "p-", "").find("<svg role=\"img\" aria-label=\"\" id=\"p-a\">") == 0);
  CHECK_THROWS_AS(inline_svg("<html>", "p-", ""), FileError);
  CHECK_THROWS_AS(inline_svg("<svg viewBox=\"0 0 9 9\"><g>", "p-", ""), FileError);
}

TEST_CASE("panels have their places in a grid") {
  const auto places = panels_in_grid(3, {"a", "", "b", "c", "a", ""});
  REQUIRE(places.size() == 3);
  CHECK(places[0].panel == "a");
  CHECK(places[0].left == 0.0);
  CHECK(places[0].top == 0.0);
  CHECK(places[0].right == 2.0 / 3.0);
  CHECK(places[0].bottom == 1.0);
  CHECK(places[1].panel == "b");
  CHECK(places[1].left == 2.0 / 3.0);
  CHECK(places[1].right == 1.0);
  CHECK(places[1].bottom == 0.5);
  CHECK(places[2].top == 0.5);
  CHECK_THROWS_AS(panels_in_grid(2, {"a"}), richflow::ArgumentError);
  CHECK_THROWS_AS(panels_in_grid(0, {"a"}), richflow::ArgumentError);
  CHECK_THROWS_AS(panels_in_grid(1, {}), richflow::ArgumentError);
  CHECK_THROWS_AS(panels_in_grid(2, {"a", "b"}, {0.2, 0.4}), richflow::ArgumentError);
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
       claim_between("fig2a", "third claim", 3.25, 3.0, 4.0), claim_at_least("<unknown>", "stray claim", 1.0, 0.0)},
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
  CHECK(count(page, "<svg role=\"img\"") == 1);
  CHECK(count(section_of(page, "fig2"), "There is no picture") == 1);
  CHECK(count(page, "<section") == count(page, "</section>"));
  CHECK(count(page, "<details") == count(page, "</details>"));
  for (const char* outside : {"http://", "https://", "<link", "src=", "@import", "<unknown>"})
    CHECK(page.find(outside) == std::string::npos);
  // One script, which opens what is folded away for print.
  CHECK(count(page, "<script") == 1);
  CHECK(count(page, "addEventListener(\"beforeprint\"") == 1);
}

TEST_CASE("the overview has every panel once, with its picture, its verdict and a link to its section") {
  const TemporaryFolder folder;
  write_section(folder.path(), section("fig1"));
  write_section(folder.path(), section("fig2"));
  ReportSection numbers = section("beyond_x");
  numbers.figures = {"beyond_x_all_of_it"};
  numbers.pictures = {};
  write_section(folder.path(), numbers);
  (void)folder.file("fig1.svg", svg);
  write_claims(folder.path() / "claims.json",
               {claim_at_most("fig1a", "one", 0.5, 1.0), claim_at_most("fig1a", "two", 0.5, 1.0),
                claim_at_most("fig1b", "three", 2.0, 1.0), claim_at_most("fig1b", "four", 0.0, 1.0),
                claim_at_most("stray", "five", 0.0, 1.0), claim_at_most("beyond_x_all_of_it", "six", 0.0, 1.0)},
               {});
  const std::string page = report_html(folder.path(), {.broken = {"fig7<", "fig2"}, .skipped = {"fig6c"}});
  const std::string overview = overview_of(page);
  CHECK(page.find("<nav class=\"overview\"") < page.find("<section"));
  const auto panel = [&](const std::string& label) {
    CHECK(count(overview, "<b>" + label + "</b>") == 1);
    const std::size_t at = overview.find("<b>" + label + "</b>");
    const std::size_t begin = overview.rfind("<li>", at);
    return overview.substr(begin, overview.find("</li>", at) - begin);
  };
  const std::string fig1a = panel("fig1a");
  CHECK(count(fig1a, "<a class=\"panel\" href=\"#fig1\">") == 1);
  CHECK(count(fig1a, "<span class=\"holds\">✓ 2 hold</span>") == 1);
  // Its quarter of the picture, which is 80 x 20, from the copy in the section.
  CHECK(count(fig1a, "<svg width=\"20\" height=\"20\" viewBox=\"0 0 20 20\"><use href=\"#fig1-fig1-picture\"/>") == 1);
  CHECK(count(page, "id=\"fig1-fig1-picture\"") == 1);
  const std::string fig1b = panel("fig1b");
  CHECK(count(fig1b, "viewBox=\"20 0 60 20\"><use") == 1);
  CHECK(count(fig1b, "<a class=\"panel bad\" href=\"#fig1\">") == 1);
  CHECK(count(fig1b, "<span class=\"violated\">✗ 1 of 2 violated</span>") == 1);
  // The program ended before it drew the picture.
  for (const char* name : {"fig2a", "fig2b"}) {
    CHECK(count(panel(name), "no picture: it was not drawn") == 1);
    CHECK(count(panel(name), "no claims") == 1);
  }
  CHECK(count(overview, "<a href=\"#fig2\">Title of fig2</a> <span class=\"violated\">✗ did not finish</span>") == 1);
  CHECK(count(section_of(page, "fig2"), "The program did not finish") == 1);
  // Nothing is known of these, and nothing can be linked to.
  CHECK(count(overview, "<p class=\"program\">fig7&lt;</p>") == 1);
  CHECK(count(between(overview, "fig7&lt;</p>", "</ul>"),
              "no picture</span><span class=\"violated\">✗ did not finish") == 1);
  CHECK(count(between(overview, "fig6c</p>", "</ul>"), "✗ was skipped") == 1);
  CHECK(count(panel("all_<wbr>of_<wbr>it"), "numbers only") == 1);
  CHECK(count(panel("stray"), "href=\"#others\"") == 1);
  CHECK(count(overview, "<b>") == 6);
  // Every link within the page leads somewhere, and no id is there twice.
  for (std::size_t at = page.find("href=\"#"); at != std::string::npos; at = page.find("href=\"#", at + 1)) {
    const std::size_t from = at + 7;
    const std::string id = page.substr(from, page.find('"', from) - from);
    INFO(id);
    CHECK(count(page, " id=\"" + id + "\"") == 1);
  }
  // Before the overview: what is violated, and what is missing.
  const std::string head = between(page, "<h1>", "<nav");
  CHECK(count(head, "<a href=\"#fig1\">fig1b</a>") == 1);
  CHECK(count(head, "fig1a") == 0);
  for (const char* missing : {"fig7&lt; did not finish", "fig2 did not finish", "fig6c was skipped"})
    CHECK(count(head, missing) == 1);
}

TEST_CASE("claims that hold are folded away, violated ones stand open") {
  const TemporaryFolder folder;
  write_section(folder.path(), section("fig1"));
  write_section(folder.path(), section("fig2"));
  write_claims(folder.path() / "claims.json",
               {claim_at_most("fig1a", "good", 0.5, 1.0), claim_at_most("fig1b", "bad", 2.0, 1.0),
                claim_at_most("fig2a", "well", 0.5, 1.0)},
               {});
  const std::string page = report_html(folder.path());
  const std::string open = between(section_of(page, "fig1"), "<details open>", "</details>");
  CHECK(count(open, "1 claim is violated</span></summary>") == 1);
  CHECK(count(open, ">bad</th>") == 1);
  CHECK(count(open, ">good</th>") == 0);
  const std::string folded = between(section_of(page, "fig1"), "<details>", "</details>");
  CHECK(count(folded, "1 claim holds</span></summary>") == 1);
  CHECK(count(folded, ">good</th>") == 1);
  CHECK(section_of(page, "fig2").find("<details open>") == std::string::npos);
  CHECK(count(between(section_of(page, "fig2"), "<details>", "</details>"), ">well</th>") == 1);
  // On paper nothing is folded.
  CHECK(between(page, "@media print", "</style>").find("details::details-content { content-visibility: visible;") !=
        std::string::npos);
}

TEST_CASE("sizes and times of the run stand in one table") {
  const TemporaryFolder folder;
  write_section(folder.path(), section("fig1"));
  ReportSection other = section("fig2");
  other.size = "";
  other.run = "";
  other.threads = 0;
  other.machine_threads = 0;
  other.seconds = 64.0;
  other.resumed = true;
  write_section(folder.path(), other);
  write_claims(folder.path() / "claims.json",
               {claim_at_most("fig1a", "one", 0.5, 1.0), claim_at_most("fig1b", "two", 2.0, 1.0)}, {});
  const std::string page = report_html(folder.path(), {.broken = {"fig3"}});
  const std::string table = between(page, "<h2 id=\"times\">", "</section>");
  CHECK(page.rfind("<section id=") < page.find("<h2 id=\"times\">"));
  CHECK(count(table,
              "<caption>2 programs, 2 claims, 1 min 6 s in all, on a machine with 8 hardware threads.</caption>") == 1);
  const auto row = [&](const std::string& head) {
    return between(table, "role=\"rowheader\">" + head + "</th>", "</tr>");
  };
  const auto cell = [](const std::string& name, const std::string& content) {
    return "<td role=\"cell\" data-name=\"" + name + "\">" + content + "</td>";
  };
  CHECK(row("<a href=\"#fig1\">Title of fig1</a>") == cell("Run", "quick") + cell("Size", "N &lt; 7") +
                                                          cell("Claims", "2") + cell("Threads", "3") +
                                                          cell("Time", "1.5 s"));
  CHECK(row("<a href=\"#fig2\">Title of fig2</a>") == cell("Run", "–") + cell("Size", "small") + cell("Claims", "0") +
                                                          cell("Threads", "–") +
                                                          cell("Time", "1 min 4 s since it was resumed"));
  CHECK(row("fig3").starts_with(cell("Run", "did not finish") + cell("Size", "–")));
}

TEST_CASE("what is not in the paper stands in a part of its own, at the end") {
  const TemporaryFolder folder;
  for (const char* name : {"beyond_noise", "alpha_path", "fig5_conjecture", "beyond_decay", "fig1"}) {
    ReportSection part = section(name);
    part.paper = std::string("says ") + name;
    write_section(folder.path(), part);
  }
  write_report(folder.path());
  const std::string page = content_of(folder.path() / "index.html");
  std::size_t last = 0;
  for (const char* text :
       {"<h2 class=\"part\" id=\"part-paper\">The figures of the paper</h2>", "<section id=\"fig1\"",
        "<h2 class=\"part\" id=\"part-own\">Own data and models</h2>", "<section id=\"alpha_path\"",
        "<h2 class=\"part\" id=\"part-beyond\">Beyond the paper</h2>", "<section id=\"beyond_decay\"",
        "<section id=\"beyond_noise\"", "<section id=\"fig5_conjecture\"", "<h2 id=\"times\">"}) {
    INFO(text);
    const std::size_t at = page.find(text);
    REQUIRE(at != std::string::npos);
    CHECK(at > last);
    last = at;
  }
  CHECK(count(page, "class=\"part\"") == 3);
  const std::string overview = overview_of(page);
  CHECK(overview.find("#fig1\"") < overview.find("#alpha_path\""));
  CHECK(overview.find("#alpha_path\"") < overview.find("<h3>Beyond the paper</h3>"));
  CHECK(overview.find("<h3>Beyond the paper</h3>") < overview.find("#beyond_decay\""));
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
  CHECK(count(page, "<code>sh examples/reproduce.sh --mnist</code>") == 1);
  CHECK(count(page, "1 claim holds, 0 are violated") == 1);
  CHECK(count(page, "<section id=") == 1);

  const std::filesystem::path mnist = folder.path() / "mnist";
  std::filesystem::create_directory(mnist);
  write_section(mnist, images);
  write_claims(mnist / "claims.json", claims(2.0), {"fig6c"});
  (void)folder.file("mnist/fig6c.csv", "kernel_distance,alpha,test_error\n0.125,5,0.0625\n0.1,7,0.01\n");
  (void)folder.file("mnist/fig6c.svg", svg);
  write_report(folder.path());
  page = content_of(folder.path() / "index.html");
  CHECK(count(page, "reproduce.sh --mnist") == 0);
  CHECK(count(page, "Test error, Fashion-MNIST</th>") == 1);
  CHECK(page.find("rowheader\">5</th><td role=\"cell\" data-name=\"Test error, Fashion-MNIST\">37.5 %</td>"
                  "<td role=\"cell\" data-name=\"Test error, MNIST\">6.25 %</td>"
                  "<td role=\"cell\" data-name=\"Kernel distance, Fashion-MNIST\">0.75</td>"
                  "<td role=\"cell\" data-name=\"Kernel distance, MNIST\">0.125</td>") != std::string::npos);
  CHECK(page.find("rowheader\">7</th>") == std::string::npos);
  CHECK(page.find("1 claim holds, 1 is violated") != std::string::npos);
  CHECK(count(page, ">it fits</th>") == 2);
  CHECK(count(page, "<section id=\"fig6c_on_mnist\"") == 1);
  CHECK(page.find("<a href=\"mnist/fig6c.svg\">") != std::string::npos);
  CHECK(count(page, "<svg role=\"img\"") == 1);
  // Its panel is there with each verdict, and only MNIST's with a picture.
  const std::string overview = overview_of(page);
  CHECK(count(overview, "<b>fig6c</b>") == 2);
  CHECK(count(overview, "<use href=\"#fig6c_on_mnist-fig6c-picture\"/>") == 1);
  CHECK(count(overview, "✗ 1 of 1 violated") == 1);

  (void)folder.file("mnist/fig6c.csv", "alpha,test_error\n5,0.0625\n");
  CHECK_THROWS_AS(write_report(folder.path()), FileError);
}

TEST_CASE("figure 6 (d) says of which images it is not") {
  const TemporaryFolder folder;
  ReportSection images = section("fig6d_cifar10");
  images.data = "MNIST's format, 200 training images";
  write_section(folder.path(), images);
  CHECK(count(section_of(report_html(folder.path()), "fig6d_cifar10"), "Not of CIFAR-10") == 1);
  images.data = "CIFAR-10, 200 training images";
  write_section(folder.path(), images);
  CHECK(count(section_of(report_html(folder.path()), "fig6d_cifar10"), "Not of CIFAR-10") == 0);
}

TEST_CASE("a folder without figures is an error") {
  const TemporaryFolder folder;
  CHECK_THROWS_AS(write_report(folder.path()), FileError);
  CHECK_THROWS_AS(write_report(folder.path() / "missing"), FileError);
}
