#include <CLI/CLI.hpp>
#include <exception>
#include <filesystem>
#include <iostream>

#include "files.hpp"
#include "options.hpp"
#include "report.hpp"
#include "text.hpp"

int main(int argc, char** argv) {
  namespace ex = richflow::examples;
  std::filesystem::path folder = "figures";
  CLI::App app("One page, index.html, with all figures and claims that the other programs left in a folder.", "report");
  app.add_option("--out", folder, "The folder of the figures, and of the page")->capture_default_str();
  ex::Unfinished unfinished;
  app.add_option("--broken", unfinished.broken, "Programs that did not finish, which the page shall say");
  app.add_option("--skipped", unfinished.skipped, "Programs whose data are not installed, which the page shall say");
  try {
    app.parse(argc, argv);
    ex::naming_option("--out", [&] { ex::write_report(folder, unfinished); });
    std::cout << "report: " << (folder / "index.html").string() << "\n";
    if (ex::is_standard_output_written()) return 0;
    std::cerr << "report: standard output cannot be written\n";
    return 1;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const std::exception& error) {
    std::cerr << "report: " << error.what() << "\n";
    return 2;
  }
}
