#include "program.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string_view>

#include "files.hpp"
#include "options.hpp"
#include "report.hpp"
#include "richflow/core/parallel.hpp"
#include "text.hpp"

#ifdef EIGEN_USE_BLAS
extern "C" void openblas_set_num_threads(int num_threads);
#endif

namespace richflow::examples {

namespace {

/// The command that made a result, for a shell; the program without its folder.
std::string command_line(int argc, const char* const* argv) {
  std::string text = shell_word(std::filesystem::path(argv[0]).filename().string());
  for (int k = 1; k < argc; ++k) text += " " + shell_word(argv[k]);
  return text;
}

void print_object(const nlohmann::ordered_json& object) {
  std::cout << object.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << std::endl;
}

/// With `--json`, standard output is one JSON object and nothing else: from `begin` on, whatever is printed there goes
/// to the standard error.
class JsonOutput {
 public:
  JsonOutput() = default;
  ~JsonOutput() { restore(); }
  JsonOutput(const JsonOutput&) = delete;
  JsonOutput& operator=(const JsonOutput&) = delete;

  void begin() {
    flush();
    output_ = ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
    require<FileError>(output_ >= 0, "--json: standard output cannot be kept");
    ::dup2(STDERR_FILENO, STDOUT_FILENO);
  }

  void print(const nlohmann::ordered_json& object) {
    if (output_ < 0) return;
    restore();
    print_object(object);
  }

 private:
  static void flush() {
    std::cout.flush();
    std::fflush(stdout);
  }

  void restore() {
    if (output_ < 0) return;
    flush();
    ::dup2(output_, STDOUT_FILENO);
    ::close(output_);
    output_ = -1;
    // What the standard error did not take is no loss here.
    std::clearerr(stdout);
    std::cout.clear();
  }

  int output_ = -1;
};

/// What the last digits of results depend on, besides the sources.
#ifdef RICHFLOW_COMPILED_NATIVE
constexpr const char* processor = "native";
#else
constexpr const char* processor = "portable";
#endif
#ifdef EIGEN_USE_BLAS
constexpr const char* products = "BLAS";
#else
constexpr const char* products = "Eigen";
#endif

ReportSection section_of(const ProgramInfo& info, const CommonOptions& common, const ProgramResult& result,
                         std::string command, double seconds) {
  ReportSection section;
  section.name = info.name;
  section.title = info.title.empty() ? info.name : info.title;
  section.paper = info.paper;
  section.data = result.data.empty() ? info.data : result.data;
  section.run = common.effort == Effort::quick ? "quick" : common.effort == Effort::full ? "full" : "default";
  section.effort = common.effort == Effort::quick  ? "A quick run: a few seconds' worth, to see that everything works."
                   : common.effort == Effort::full ? "The full protocol."
                                                   : info.reduction;
  section.size = result.size;
  section.command = std::move(command);
  section.build = std::string(processor) == "native"
                      ? "for the processor of the machine that ran it; the last digits may differ on others"
                      : "for any processor of its kind";
  if (std::string(products) == "BLAS") section.build += ", with the matrix products of OpenBLAS";
  section.threads = num_threads({.threads = common.threads});
  section.machine_threads = num_threads({});
  section.seconds = seconds;
  section.figures = {info.figures.begin(), info.figures.end()};
  for (const Picture& picture : result.pictures)
    section.pictures.push_back({picture.name, picture.alt, picture.panels});
  section.tables = result.tables;
  return section;
}

/// For command lines that cannot be parsed.
bool asks_for_json(int argc, const char* const* argv) {
  return std::any_of(argv + 1, argv + argc, [](std::string_view word) { return word == "--json"; });
}

int run(int argc, const char* const* argv, const ProgramInfo& info,
        const std::function<ProgramResult(const CommonOptions&)>& body) {
  CommonOptions common;
  bool quick = false;
  bool full = false;
  CLI::App app(info.description, info.name);
  app.get_formatter()->column_width(34);
  add_seed_option(app, "--seed", common.seed, "Seed of every random draw");
  app.add_option("--out", common.out, "Folder for the results, made if it is missing")->capture_default_str();
  add_integer_option(app, "--threads", common.threads, 0, 4096, "Threads; 0 uses all cores");
  auto* quick_flag = app.add_flag("--quick", quick, "A reduced run of a few seconds");
  app.add_flag("--full", full, "The paper's protocol, where it is larger than the default")->excludes(quick_flag);
  bool json = false;
  app.add_flag("--json", json, "Print a summary as one JSON object on standard output, all else on standard error");
  SweepChoices sweep_choices;
  if (info.sweeps) add_sweep_options(app, sweep_choices);
  if (info.add_options) info.add_options(app);
  const MpiSession mpi;
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (app.exit(error) == 0) return 0;
    if (asks_for_json(argc, argv) && mpi.is_root()) print_object({{"name", info.name}, {"error", error.what()}});
    return 2;
  }
  common.effort = quick ? Effort::quick : full ? Effort::full : Effort::standard;
#ifdef EIGEN_USE_BLAS
  // On several threads OpenBLAS rounds otherwise than on one; it is the sweeps that use the cores.
  openblas_set_num_threads(1);
#endif

  JsonOutput output;
  try {
    const Stopwatch watch;
    // Otherwise the next file that is opened would take its place, and what is printed.
    if (mpi.is_root())
      require<FileError>(::fcntl(STDOUT_FILENO, F_GETFD) >= 0,
                         "standard output is closed: send it to /dev/null to print nothing");
    if (json && mpi.is_root()) output.begin();
    const std::filesystem::path claims_path = common.out / "claims.json";
    if (info.sweeps)
      common.sweeps = SweepRunner(common.out / "sweeps", sweep_choices, common.threads,
                                  info.code_version + " " + processor + " " + products, mpi);
    if (mpi.is_root()) {
      prepare_output_folder(common.out);
      static_cast<void>(read_claims(claims_path));  // find out before the work, not after it
    }
    const ProgramResult result = body(common);
    if (!mpi.is_root()) return 0;
    if (common.sweeps.is_partial()) {
      std::cout << info.name << ": " << common.sweeps.advice() << "\n";
      output.print({{"name", info.name}, {"out", common.out.string()}, {"partial", common.sweeps.advice()}});
      return 0;
    }
    print_claims(std::cout, result.claims);
    write_claims(claims_path, result.claims, info.figures);
    ReportSection section = section_of(info, common, result, command_line(argc, argv), watch.seconds());
    section.resumed = sweep_choices.resume || sweep_choices.merge > 0;
    if (mpi.is_active()) section.threads = 0;  // those of the other processes are not known here
    write_section(common.out, section);
    for (const Picture& picture : result.pictures) draw_picture(picture, common.out);
    std::cout << info.name << ": results in " << quoted(common.out) << " after " << short_number(watch.seconds(), 3)
              << " s\n";
    nlohmann::ordered_json summary = nlohmann::ordered_json::parse(section_json(section));
    summary["out"] = common.out.string();
    summary["claims"] = nlohmann::ordered_json::parse(claims_json(result.claims));
    output.print(summary);
    return all_hold(result.claims) ? 0 : 1;
  } catch (const std::exception& error) {
    if (mpi.is_root()) {
      std::cerr << info.name << ": " << error.what() << "\n";
      output.print({{"name", info.name}, {"error", error.what()}});
      mpi.abort_others(2);
    }
    return 2;
  }
}

}  // namespace

int run_program(int argc, const char* const* argv, const ProgramInfo& info,
                const std::function<ProgramResult(const CommonOptions&)>& body) {
  const int code = run(argc, argv, info, body);
  if (is_standard_output_written()) return code;
  std::cerr << info.name << ": standard output cannot be written: what was printed is lost\n";
  return 2;
}

}  // namespace richflow::examples
