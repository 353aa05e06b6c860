#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/file.hpp"
#include "richflow/core/parallel.hpp"
#include "richflow/core/result.hpp"
#include "richflow/core/types.hpp"
#include "richflow/sweep/grid.hpp"
#include "richflow/sweep/journal.hpp"
#include "richflow/version.hpp"

#if __has_include("richflow/source_hash.hpp")
#include "richflow/source_hash.hpp"
#endif

/// @file
/// A function mapped over a grid: on all cores, in shards or over MPI (sweep/mpi.hpp), with results that
/// survive a kill and do not depend on how they were computed.

namespace richflow {

/// What a cell's function returns: a number for each output of the sweep, in any order.
using NamedNumbers = std::vector<std::pair<std::string, double>>;

/// A sweep: a grid of cells, and the names of the numbers that a function computes for each.
///
///     const Sweep sweep{.name = "norms", .grid = Grid({Axis{"N", {20, 40}}, seed_axis(3)}), .outputs = {"l1"}};
///     const auto function = [](const Cell& cell) -> NamedNumbers { return {{"l1", l1_of(cell.integer("N"))}}; };
///     std::cout << run_sweep(sweep, function, {.folder = "results", .resume = true}).require_ok().csv();
///
/// Together with the function it is everything that the results depend on. It is written into the results file, and a
/// file that differs in any of it is refused.
struct Sweep {
  std::string name;                                  ///< of the files: letters, digits, `_.-`
  Grid grid;                                         ///< the cells
  std::vector<std::string> outputs;                  ///< names of the numbers, as columns of the CSV file
  std::map<std::string, std::string> settings = {};  ///< whatever else the numbers depend on: seed, sizes, tolerances
  /// Version of the caller's code: results of another one are not resumed, nor those of other headers of richflow,
  /// whose hash CMake provides (in other builds it is unknown, and this version is all there is).
  std::string code_version = {};
};

/// The i-th of n parts of a sweep, 1 <= i <= n. The cells of a sweep are dealt to the parts in a scattered order,
/// so that the parts cost about the same.
struct Shard {
  int index = 1;
  int count = 1;
};

/// Reads `i/n`. Throws ArgumentError unless 1 <= i <= n <= 1000000.
[[nodiscard]] Shard parse_shard(std::string_view text);

/// How far a sweep has come.
struct SweepProgress {
  Index done = 0;   ///< cells finished, those of earlier runs included
  Index total = 0;  ///< cells of this run and those already done
  Index failed = 0;
  double cost_done = 0.0;   ///< of the cells finished in this run, as `SweepOptions::cost` has it
  double cost_total = 0.0;  ///< of all cells of this run
};

/// How a sweep is computed; none of this changes the results.
struct SweepOptions {
  std::filesystem::path folder = {};  ///< of the results files, made if missing; empty: no files
  bool resume = false;                ///< take over the cells of an earlier run; without it, they are kept as `.old`
  bool retry_failed = false;          ///< with resume: run again the cells that threw
  Shard shard = {};                   ///< the part to compute
  double sync_seconds = 1.0;          ///< results reach the disk at least that often (see Journal); not negative
  std::function<double(const Cell&)> cost = {};                ///< rough relative cost: costly cells go first
  std::function<void(const SweepProgress&)> on_progress = {};  ///< called on the root, one call at a time
};

/// The results of a sweep: one row for each finished cell, in the order of the grid.
class SweepResult : public Result<SweepResult> {
 public:
  /// For run_sweep and merge_sweep: `rows` may be in any order.
  SweepResult(Sweep sweep, std::vector<SweepRow> rows);

  [[nodiscard]] const Sweep& sweep() const { return sweep_; }
  [[nodiscard]] const std::vector<SweepRow>& rows() const { return rows_; }

  /// The cell of a row; it refers to this result.
  [[nodiscard]] Cell cell(const SweepRow& row) const { return Cell(sweep_.grid, row.cell); }

  /// An output of a row; NaN when its cell failed. Throws ArgumentError for an unknown output.
  [[nodiscard]] double value(const SweepRow& row, std::string_view output) const;

  /// An output of all rows, failed cells left out, in the order of the grid. Throws ArgumentError for an unknown
  /// output, also where there are no rows.
  [[nodiscard]] std::vector<double> values(std::string_view output) const { return values(output, {}); }

  /// An output of all rows whose value on `axis` is `at`, failed cells left out, in the order of the grid. Throws
  /// ArgumentError, which names the nearest, where the axis has no such value (0.3 is not 0.1 + 0.2).
  [[nodiscard]] std::vector<double> values(std::string_view output, std::string_view axis, double at) const;

  /// The same for rows that meet several such conditions `{axis, at}`.
  [[nodiscard]] std::vector<double> values(std::string_view output,
                                           std::initializer_list<std::pair<std::string_view, double>> conditions) const;

  /// Cells of the grid that are not done; in another shard, for instance.
  [[nodiscard]] Index num_missing() const { return sweep_.grid.size() - static_cast<Index>(rows_.size()); }

  /// Cells that threw.
  [[nodiscard]] Index num_failed() const;

  /// True when every cell of the grid is done and none has failed.
  [[nodiscard]] bool ok() const { return num_missing() == 0 && num_failed() == 0; }

  /// The summary, by the name that it has in every result.
  [[nodiscard]] std::string message() const { return summary(); }

  /// One sentence: how many cells are done, failed and missing, and the first failure.
  [[nodiscard]] std::string summary() const;

  /// The CSV text: axes, outputs and `failure` (what a failed cell threw; its outputs are empty), sorted as the
  /// grid is. The same bytes for any number of threads, shards and interruptions.
  [[nodiscard]] std::string csv() const;

 private:
  [[nodiscard]] std::size_t output_number(std::string_view output) const;

  Sweep sweep_;
  std::vector<SweepRow> rows_;
};

/// Where cells are computed. `map(todo, compute, record)` calls `compute(k)` for every k of `todo`, each once and
/// anywhere, and `record(text)` with what it returned, on the root and one call at a time; when `record` throws, no new
/// cell is started and the exception propagates. `broadcast(text)` returns the root's text everywhere.
template <class E>
concept SweepExecutor = requires(E& executor, const std::vector<Index>& todo, std::string text,
                                 std::string (*compute)(Index), void (*record)(const std::string&)) {
  { executor.is_root() } -> std::same_as<bool>;
  { executor.broadcast(text) } -> std::same_as<std::string>;
  executor.map(todo, compute, record);
};

/// Threads of this process.
struct ThreadExecutor {
  ParallelOptions options = {};

  [[nodiscard]] bool is_root() const { return true; }
  [[nodiscard]] std::string broadcast(std::string text) const { return text; }

  template <class Compute, class Record>
  void map(const std::vector<Index>& todo, Compute&& compute, Record&& record) const {
    std::mutex mutex;
    parallel_for(
        static_cast<Index>(todo.size()),
        [&](Index k) {
          const std::string text = compute(todo[static_cast<std::size_t>(k)]);
          const std::lock_guard<std::mutex> lock(mutex);
          record(text);
        },
        options);
  }
};

namespace detail {

void require_valid(const Sweep& sweep);

void require_valid(const Shard& shard);

#ifdef RICHFLOW_SOURCE_HASH
inline constexpr const char* source_hash = RICHFLOW_SOURCE_HASH;
#else
inline constexpr const char* source_hash = "unknown";
#endif

/// The header of the journal: what the results depend on.
[[nodiscard]] std::vector<std::string> identity(const Sweep& sweep);

[[nodiscard]] std::filesystem::path journal_path(const Sweep& sweep, const std::filesystem::path& folder,
                                                 const Shard& shard);

/// Positions in the grid that belong to a shard.
[[nodiscard]] std::vector<Index> cells_of(const Grid& grid, const Shard& shard);

/// What computes a cell.
using CellFunction = std::function<NamedNumbers(const Cell&)>;

/// Its row: what it returned or threw.
[[nodiscard]] SweepRow compute_row(const Sweep& sweep, const CellFunction& function, const Cell& cell);

/// The rows that belong to the grid, each cell once.
class RowSet {
 public:
  explicit RowSet(const Sweep& sweep);
  void add(SweepRow row);
  [[nodiscard]] const SweepRow* find(Index cell) const;
  [[nodiscard]] const std::vector<SweepRow>& rows() const { return rows_; }

 private:
  const Sweep* sweep_;
  std::set<Index> cells_ = {};
  std::map<Index, std::size_t> known_ = {};
  std::vector<SweepRow> rows_ = {};
};

void make_folder(const std::filesystem::path& folder);

/// Where the sorted table goes.
[[nodiscard]] std::filesystem::path table_path(const Sweep& sweep, const std::filesystem::path& folder);

/// A table of older results must not lie beside the new ones: it is kept as `.old`, as they are.
void set_table_aside(const std::filesystem::path& table);

/// Numbers as text, and back.
[[nodiscard]] std::string joined(const std::vector<Index>& numbers);
[[nodiscard]] std::vector<Index> split(std::string_view text);

/// An executor behind an interface, so that a sweep is compiled once for all of them.
class AnyExecutor {
 public:
  virtual ~AnyExecutor() = default;
  [[nodiscard]] virtual bool is_root() = 0;
  [[nodiscard]] virtual std::string broadcast(std::string text) = 0;
  virtual void map(const std::vector<Index>& todo, const std::function<std::string(Index)>& compute,
                   const std::function<void(const std::string&)>& record) = 0;
};

template <SweepExecutor E>
class ExecutorRef final : public AnyExecutor {
 public:
  explicit ExecutorRef(E& executor) : executor_(&executor) {}
  [[nodiscard]] bool is_root() override { return executor_->is_root(); }
  [[nodiscard]] std::string broadcast(std::string text) override { return executor_->broadcast(std::move(text)); }
  void map(const std::vector<Index>& todo, const std::function<std::string(Index)>& compute,
           const std::function<void(const std::string&)>& record) override {
    executor_->map(todo, compute, record);
  }

 private:
  E* executor_;
};

/// The root's `action()` and its outcome, everywhere: its text, or its exception.
[[nodiscard]] std::string agree(AnyExecutor& executor, const std::function<std::string()>& action);

/// See `richflow::run_sweep`.
[[nodiscard]] SweepResult run_sweep(const Sweep& sweep, const CellFunction& function, const SweepOptions& options,
                                    AnyExecutor& executor);

}  // namespace detail

/// Computes `function(cell)` for the cells of `sweep.grid` that belong to `options.shard` and are not done yet.
///
/// `function` takes a `const Cell&`, returns `NamedNumbers` with each output of the sweep once, and is called from
/// several threads (or processes) at a time. It must depend on the cell and on `sweep.settings` alone; random numbers
/// come from a stream made from the cell, such as `RandomStream(seed, cell.stream())`. Then the results are the same
/// for any number of threads, shards and interruptions. A cell that throws is recorded with its message, and the sweep
/// continues: see `num_failed()`, `summary()`, `require_ok()`.
///
/// With a folder, each row is appended to `folder/name.journal` (in a shard `name.IofN.journal`) when its cell is
/// done; `resume` takes finished cells from there. When all cells of the grid are done, the sorted table is written to
/// `folder/name.csv`. Throws ArgumentError for an ill-formed sweep or shard and FileError for the files (another
/// sweep's results, another process on them, a full disk), in which case what was finished before is in the journal.
/// Cost besides the function: a few microseconds a cell.
template <class Function, SweepExecutor Executor = ThreadExecutor>
[[nodiscard]] SweepResult run_sweep(const Sweep& sweep, const Function& function, const SweepOptions& options = {},
                                    Executor&& executor = {}) {
  static_assert(std::is_invocable_r_v<NamedNumbers, const Function&, const Cell&>,
                "the function of a sweep takes a const richflow::Cell& and returns richflow::NamedNumbers");
  using E = std::remove_reference_t<Executor>;
  detail::ExecutorRef<E> any(executor);
  return detail::run_sweep(sweep, std::cref(function), options, any);
}

/// Joins what `count` shards have left in `folder` into `name.journal`, and into `name.csv` when no cell is
/// missing, as an undivided run would have left them. Throws FileError when a shard's file is missing, in use, or
/// belongs to another sweep, and ArgumentError for count < 1. Shards that are unfinished are taken as they are:
/// see `num_missing()`; a run of the whole sweep with `resume` computes the rest.
[[nodiscard]] SweepResult merge_sweep(const Sweep& sweep, const std::filesystem::path& folder, int count);

#ifdef RICHFLOW_SWEEP_INLINE

namespace detail {

RICHFLOW_SWEEP_INLINE void require_valid(const Sweep& sweep) {
  require_name("the name of a sweep", sweep.name);
  require(!sweep.outputs.empty(), "sweep '", sweep.name, "' has no outputs");
  std::vector<std::string> names = sweep.outputs;
  for (const Axis& axis : sweep.grid.axes()) names.push_back(axis.name);
  names.emplace_back("failure");
  for (std::size_t k = 0; k < names.size(); ++k) {
    require_name("the name of an output", names[k]);
    require(std::find(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(k), names[k]) ==
                names.begin() + static_cast<std::ptrdiff_t>(k),
            "sweep '", sweep.name, "' would have two columns '", names[k], "'");
  }
  for (const auto& [key, setting] : sweep.settings) {
    require_name("the name of a setting", key);
    require(setting.find('\n') == std::string::npos, "setting '", key, "' has a line break");
  }
  require(sweep.code_version.find('\n') == std::string::npos, "code_version has a line break");
}

RICHFLOW_SWEEP_INLINE void require_valid(const Shard& shard) {
  require(shard.count >= 1 && shard.index >= 1 && shard.index <= shard.count, "a shard i/n needs 1 <= i <= n, got ",
          shard.index, "/", shard.count);
}

RICHFLOW_SWEEP_INLINE std::vector<std::string> identity(const Sweep& sweep) {
  std::vector<std::string> lines;
  lines.push_back("sweep " + sweep.name);
  lines.push_back(concat("richflow ", RICHFLOW_VERSION_MAJOR, ".", RICHFLOW_VERSION_MINOR, ".", RICHFLOW_VERSION_PATCH,
                         ", headers ", source_hash));
  lines.push_back("code " + sweep.code_version);
  for (const auto& [key, setting] : sweep.settings) lines.push_back("setting " + key + " = " + setting);
  for (const Axis& axis : sweep.grid.axes()) {
    std::string line = "axis " + axis.name;
    for (const double value : axis.values) line.append(" ").append(shortest(value));
    lines.push_back(std::move(line));
  }
  std::uint64_t hash = 0;
  for (Index i = 0; i < sweep.grid.size(); ++i)
    hash = mix(hash ^ static_cast<std::uint64_t>(sweep.grid.cell(i).index()));
  lines.push_back(concat("cells ", sweep.grid.size(), ", which are ", hash));
  std::string line = "outputs";
  for (const std::string& output : sweep.outputs) line.append(" ").append(output);
  lines.push_back(std::move(line));
  return lines;
}

RICHFLOW_SWEEP_INLINE std::filesystem::path journal_path(const Sweep& sweep, const std::filesystem::path& folder,
                                                         const Shard& shard) {
  const std::string part =
      shard.count == 1 ? "" : "." + std::to_string(shard.index) + "of" + std::to_string(shard.count);
  return folder / (sweep.name + part + ".journal");
}

RICHFLOW_SWEEP_INLINE std::vector<Index> cells_of(const Grid& grid, const Shard& shard) {
  std::vector<Index> order(static_cast<std::size_t>(grid.size()));
  for (std::size_t k = 0; k < order.size(); ++k) order[k] = static_cast<Index>(k);
  if (shard.count == 1) return order;
  const auto key = [](Index i) { return mix(static_cast<std::uint64_t>(i)); };
  std::sort(order.begin(), order.end(), [&](Index a, Index b) { return key(a) < key(b); });
  std::vector<Index> mine;
  for (std::size_t k = static_cast<std::size_t>(shard.index - 1); k < order.size();
       k += static_cast<std::size_t>(shard.count))
    mine.push_back(order[k]);
  std::sort(mine.begin(), mine.end());
  return mine;
}

RICHFLOW_SWEEP_INLINE void make_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error && !std::filesystem::is_directory(folder))
    throw FileError("cannot make the folder " + quoted(folder) + ": " + error.message());
}

RICHFLOW_SWEEP_INLINE std::filesystem::path table_path(const Sweep& sweep, const std::filesystem::path& folder) {
  return folder / (sweep.name + ".csv");
}

RICHFLOW_SWEEP_INLINE void set_table_aside(const std::filesystem::path& table) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(table, error)) return;
  std::filesystem::path old = table;
  old += ".old";
  std::filesystem::rename(table, old, error);
  // Another shard may have been faster.
  if (error && std::filesystem::exists(table))
    throw FileError("cannot rename " + quoted(table) + ": " + error.message());
}

RICHFLOW_SWEEP_INLINE std::string joined(const std::vector<Index>& numbers) {
  std::string text;
  for (const Index number : numbers) text.append(std::to_string(number)).append(" ");
  return text;
}

RICHFLOW_SWEEP_INLINE std::vector<Index> split(std::string_view text) {
  std::vector<Index> numbers;
  const char* at = text.data();
  const char* const end = text.data() + text.size();
  for (Index number = 0; at < end; ++at) {
    at = std::from_chars(at, end, number).ptr;
    numbers.push_back(number);
  }
  return numbers;
}

RICHFLOW_SWEEP_INLINE RowSet::RowSet(const Sweep& sweep) : sweep_(&sweep) {
  for (Index i = 0; i < sweep.grid.size(); ++i) cells_.insert(cells_.end(), sweep.grid.cell(i).index());
}

RICHFLOW_SWEEP_INLINE void RowSet::add(SweepRow row) {
  if (!cells_.contains(row.cell) || (row.ok() && row.values.size() != sweep_->outputs.size())) return;
  // A later row of the same cell is a repetition of one that had failed.
  if (const auto known = known_.find(row.cell); known != known_.end())
    rows_[known->second] = std::move(row);
  else {
    known_.emplace(row.cell, rows_.size());
    rows_.push_back(std::move(row));
  }
}

RICHFLOW_SWEEP_INLINE const SweepRow* RowSet::find(Index cell) const {
  const auto known = known_.find(cell);
  return known == known_.end() ? nullptr : &rows_[known->second];
}

RICHFLOW_SWEEP_INLINE SweepRow compute_row(const Sweep& sweep, const CellFunction& function, const Cell& cell) {
  SweepRow row;
  row.cell = cell.index();
  try {
    const NamedNumbers numbers = function(cell);
    row.values.assign(sweep.outputs.size(), 0.0);
    std::vector<char> given(sweep.outputs.size(), 0);
    for (const auto& [name, number] : numbers) {
      const auto found = std::find(sweep.outputs.begin(), sweep.outputs.end(), name);
      require(found != sweep.outputs.end(), "the cell returned '", name, "', which is no output of sweep '", sweep.name,
              "'");
      const auto k = static_cast<std::size_t>(found - sweep.outputs.begin());
      require(given[k] == 0, "the cell returned '", name, "' twice");
      given[k] = 1;
      row.values[k] = number;
    }
    for (std::size_t k = 0; k < given.size(); ++k)
      require(given[k] != 0, "the cell did not return the output '", sweep.outputs[k], "'");
  } catch (const std::exception& error) {
    row.values.clear();
    row.error = one_line(error.what());
  } catch (...) {
    row.values.clear();
    row.error = "an exception that is not a std::exception";
  }
  return row;
}

RICHFLOW_SWEEP_INLINE std::string agree(AnyExecutor& executor, const std::function<std::string()>& action) {
  std::string text;
  std::exception_ptr error;
  if (executor.is_root()) {
    try {
      text = "+" + action();
    } catch (const std::exception& caught) {
      text = std::string("-") + caught.what();
      error = std::current_exception();
    } catch (...) {
      text = "-an exception that is not a std::exception";
      error = std::current_exception();
    }
  }
  text = executor.broadcast(text);
  if (error) std::rethrow_exception(error);
  if (text.front() == '-') throw Error(text.substr(1));
  return text.substr(1);
}

RICHFLOW_SWEEP_INLINE SweepResult run_sweep(const Sweep& sweep, const CellFunction& function,
                                            const SweepOptions& options, AnyExecutor& executor) {
  require_valid(sweep);
  require_valid(options.shard);
  require(options.sync_seconds >= 0.0, "sync_seconds must not be negative, got ", options.sync_seconds);
  const bool has_files = !options.folder.empty();
  const std::vector<Index> mine = cells_of(sweep.grid, options.shard);

  RowSet rows(sweep);
  std::optional<Journal> journal;
  const std::string plan = agree(executor, [&] {
    if (has_files) {
      make_folder(options.folder);
      journal.emplace(journal_path(sweep, options.folder, options.shard), identity(sweep),
                      options.resume ? Journal::Open::resume : Journal::Open::replace, options.sync_seconds);
      if (!options.resume) set_table_aside(table_path(sweep, options.folder));
      for (const SweepRow& row : journal->rows())
        if (row.ok() || !options.retry_failed) rows.add(row);
    }
    std::vector<Index> todo;
    for (const Index i : mine)
      if (rows.find(sweep.grid.cell(i).index()) == nullptr) todo.push_back(i);
    return joined(todo);
  });
  std::vector<Index> todo = split(plan);
  SweepProgress progress;
  progress.total = static_cast<Index>(mine.size());
  progress.done = progress.total - static_cast<Index>(todo.size());
  for (const SweepRow& row : rows.rows()) progress.failed += row.ok() ? 0 : 1;
  const auto cost_of = [&](Index cell) { return options.cost ? options.cost(Cell(sweep.grid, cell)) : 1.0; };
  if (options.cost) {
    // A map, because clang calls std::stable_sort of libstdc++ 12 deprecated.
    std::multimap<double, Index> order;
    for (const Index i : todo) order.emplace(-options.cost(sweep.grid.cell(i)), i);
    todo.clear();
    for (const auto& [cost, i] : order) todo.push_back(i);
  }
  for (const Index i : todo) progress.cost_total += cost_of(sweep.grid.cell(i).index());

  // The root's trouble with a row must reach the others, which wait for the table.
  std::exception_ptr error;
  try {
    executor.map(
        todo, [&](Index i) { return to_line(compute_row(sweep, function, sweep.grid.cell(i))); },
        [&](const std::string& line) {
          if (journal) journal->append_line(line);
          SweepRow row = *from_line(line);
          ++progress.done;
          progress.failed += row.ok() ? 0 : 1;
          progress.cost_done += cost_of(row.cell);
          rows.add(std::move(row));
          if (options.on_progress) options.on_progress(progress);
        });
  } catch (...) {
    error = std::current_exception();
  }

  const std::string table = agree(executor, [&] {
    if (error) std::rethrow_exception(error);
    if (journal) journal->sync();
    const SweepResult result(sweep, rows.rows());
    if (has_files && result.num_missing() == 0) write_file(table_path(sweep, options.folder), result.csv());
    std::string lines;
    for (const SweepRow& row : result.rows()) lines += to_line(row) + "\n";
    return lines;
  });
  if (executor.is_root()) return SweepResult(sweep, rows.rows());
  std::vector<SweepRow> received;
  for (std::size_t begin = 0; begin < table.size();) {
    const std::size_t end = table.find('\n', begin);
    received.push_back(*from_line(std::string_view(table).substr(begin, end - begin)));
    begin = end + 1;
  }
  return SweepResult(sweep, std::move(received));
}

}  // namespace detail

RICHFLOW_SWEEP_INLINE Shard parse_shard(std::string_view text) {
  Shard shard{0, 0};
  const std::size_t slash = std::min(text.find('/'), text.size());
  const auto read = [](std::string_view part, int& number) {
    const auto end = std::from_chars(part.data(), part.data() + part.size(), number);
    return end.ec == std::errc() && end.ptr == part.data() + part.size();
  };
  require(slash < text.size() && read(text.substr(0, slash), shard.index) &&
              read(text.substr(slash + 1), shard.count) && shard.index >= 1 && shard.index <= shard.count &&
              shard.count <= 1000000,
          "a shard is written i/n with 1 <= i <= n, got '", text, "'");
  return shard;
}

RICHFLOW_SWEEP_INLINE SweepResult merge_sweep(const Sweep& sweep, const std::filesystem::path& folder, int count) {
  detail::require_valid(sweep);
  require(count >= 1, "merge_sweep needs count >= 1, got ", count);
  detail::RowSet rows(sweep);
  for (int index = 1; index <= count; ++index)
    for (const SweepRow& row :
         Journal::read(detail::journal_path(sweep, folder, {index, count}), detail::identity(sweep)))
      rows.add(row);
  SweepResult result(sweep, rows.rows());
  if (count > 1) {
    Journal journal(detail::journal_path(sweep, folder, {}), detail::identity(sweep), Journal::Open::replace,
                    std::numeric_limits<double>::infinity());
    for (const SweepRow& row : result.rows()) journal.append(row);
    journal.sync();
  }
  if (result.num_missing() == 0) write_file(detail::table_path(sweep, folder), result.csv());
  return result;
}

RICHFLOW_SWEEP_INLINE SweepResult::SweepResult(Sweep sweep, std::vector<SweepRow> rows) : sweep_(std::move(sweep)) {
  std::multimap<Index, SweepRow> sorted;
  for (SweepRow& row : rows) sorted.emplace(row.cell, std::move(row));
  rows_.reserve(rows.size());
  for (auto& [cell, row] : sorted) rows_.push_back(std::move(row));
}

RICHFLOW_SWEEP_INLINE double SweepResult::value(const SweepRow& row, std::string_view output) const {
  const std::size_t number = output_number(output);
  return row.ok() ? row.values[number] : std::numeric_limits<double>::quiet_NaN();
}

RICHFLOW_SWEEP_INLINE std::vector<double> SweepResult::values(std::string_view output, std::string_view axis,
                                                              double at) const {
  return values(output, {{axis, at}});
}

RICHFLOW_SWEEP_INLINE std::vector<double> SweepResult::values(
    std::string_view output, std::initializer_list<std::pair<std::string_view, double>> conditions) const {
  for (const auto& [axis, at] : conditions) {
    const std::vector<double>& on_axis = sweep_.grid.axes()[sweep_.grid.axis_number(axis)].values;
    if (std::find(on_axis.begin(), on_axis.end(), at) != on_axis.end()) continue;
    const double nearest = *std::min_element(on_axis.begin(), on_axis.end(), [wanted = at](double a, double b) {
      return std::abs(a - wanted) < std::abs(b - wanted);
    });
    throw ArgumentError(detail::concat("the axis ", axis, " has no value ", at, "; the nearest is ", nearest));
  }
  const std::size_t number = output_number(output);
  std::vector<double> result;
  for (const SweepRow& row : rows_) {
    const bool fits = std::all_of(conditions.begin(), conditions.end(), [&](const auto& condition) {
      return cell(row).value(sweep_.grid.axis_number(condition.first)) == condition.second;
    });
    if (fits && row.ok()) result.push_back(row.values[number]);
  }
  return result;
}

RICHFLOW_SWEEP_INLINE Index SweepResult::num_failed() const {
  return static_cast<Index>(std::count_if(rows_.begin(), rows_.end(), [](const SweepRow& row) { return !row.ok(); }));
}

RICHFLOW_SWEEP_INLINE std::string SweepResult::summary() const {
  std::string text = detail::concat("sweep '", sweep_.name, "': ", rows_.size(), " of ", sweep_.grid.size(),
                                    " cells done, ", num_failed(), " of them failed");
  for (const SweepRow& row : rows_)
    if (!row.ok()) return text + detail::concat(", the first at ", cell(row).describe(), ": ", row.error);
  return text;
}

RICHFLOW_SWEEP_INLINE std::string SweepResult::csv() const {
  std::string text;
  for (const Axis& axis : sweep_.grid.axes()) text += axis.name + ",";
  for (const std::string& output : sweep_.outputs) text += output + ",";
  text += "failure\n";
  for (const SweepRow& row : rows_) {
    const Cell at = cell(row);
    for (std::size_t k = 0; k < sweep_.grid.axes().size(); ++k) text += detail::shortest(at.value(k)) + ",";
    for (std::size_t k = 0; k < sweep_.outputs.size(); ++k)
      text += (row.ok() ? detail::shortest(row.values[k]) : std::string()) + ",";
    if (!row.ok()) {
      text += '"';
      for (const char c : row.error) text += c == '"' ? std::string("\"\"") : std::string(1, c);
      text += '"';
    }
    text += '\n';
  }
  return text;
}

RICHFLOW_SWEEP_INLINE std::size_t SweepResult::output_number(std::string_view output) const {
  const auto found = std::find(sweep_.outputs.begin(), sweep_.outputs.end(), output);
  require(found != sweep_.outputs.end(), "sweep '", sweep_.name, "' has no output '", output, "'");
  return static_cast<std::size_t>(found - sweep_.outputs.begin());
}

#endif  // RICHFLOW_SWEEP_INLINE

}  // namespace richflow
