#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <istream>
#include <limits>
#include <locale>
#include <ostream>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#include "richflow/core/error.hpp"
#include "richflow/core/file.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/solution.hpp"

/// @file
/// The resumable state of a run, as text that any machine reads back bit for bit: one line per value,
/// numbers with enough digits to be exact, a checksum at the end.

namespace richflow {

/// A checkpoint is truncated, damaged, of another kind or version, or cannot be written or read.
class CheckpointError : public Error {
 public:
  using Error::Error;
};

namespace detail {

/// The first line of a checkpoint.
inline constexpr const char* checkpoint_title = "richflow checkpoint 2";

/// FNV-1a, 64 bits.
[[nodiscard]] inline std::uint64_t checksum(const std::string& text) {
  std::uint64_t hash = 14695981039346656037ULL;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  return hash;
}

/// Writes fields as `name value` lines.
class CheckpointWriter {
 public:
  CheckpointWriter() { text_.imbue(std::locale::classic()); }

  /// One number.
  template <class T>
  void field(const char* name, const T& value) {
    if constexpr (!std::is_integral_v<T>) text_.precision(std::numeric_limits<T>::max_digits10);
    text_ << name << ' ' << value << '\n';
  }

  /// The size and the entries.
  template <class Scalar>
  void field(const char* name, const Vector<Scalar>& values) {
    field(name, values.size());
    text_.precision(std::numeric_limits<Scalar>::max_digits10);
    for (Index i = 0; i < values.size(); ++i) text_ << values(i) << '\n';
  }

  /// All lines so far.
  [[nodiscard]] std::string text() const { return text_.str(); }

 private:
  std::ostringstream text_ = {};
};

/// Reads them back, in the same order.
class CheckpointReader {
 public:
  /// Reads from `text`.
  explicit CheckpointReader(const std::string& text) : text_(text) { text_.imbue(std::locale::classic()); }

  /// One number.
  template <class T>
  void field(const char* name, T& value) {
    std::string found;
    text_ >> found;
    require<CheckpointError>(found == name, "checkpoint: expected the field ", name, ", found '", found, "'");
    text_ >> value;
    require<CheckpointError>(!text_.fail(), "checkpoint: the field ", name, " has no readable value");
  }

  /// The size and the entries.
  template <class Scalar>
  void field(const char* name, Vector<Scalar>& values) {
    Index size = 0;
    field(name, size);
    std::vector<Scalar> read;  // grows with what is there, not with what the file claims
    Scalar value(0);
    while (static_cast<Index>(read.size()) < size && text_ >> value) read.push_back(value);
    require<CheckpointError>(static_cast<Index>(read.size()) == size, "checkpoint: the field ", name, " has ",
                             read.size(), " of ", size, " entries");
    values = Eigen::Map<const Vector<Scalar>>(read.data(), size);
  }

 private:
  std::istringstream text_;
};

/// The title line, the lines of a writer and the line of their checksum.
[[nodiscard]] inline std::string sealed_checkpoint(const char* title, const std::string& lines) {
  const std::string text = std::string(title) + "\n" + lines;
  return text + "checksum " + std::to_string(checksum(text)) + "\n";
}

/// The lines between the title and the checksum. Throws CheckpointError when either is not what it should be.
[[nodiscard]] inline std::string opened_checkpoint(const char* title, const std::string& all) {
  require<CheckpointError>(all.rfind(title, 0) == 0,
                           "checkpoint: this is not a checkpoint of this version of richflow");
  const std::string mark = "\nchecksum ";
  const std::size_t end = all.rfind(mark);
  require<CheckpointError>(end != std::string::npos && all.back() == '\n', "checkpoint: the end is missing");
  const std::string text = all.substr(0, end + 1);
  const std::string sum = all.substr(end + mark.size(), all.size() - end - mark.size() - 1);
  require<CheckpointError>(sum == std::to_string(checksum(text)), "checkpoint: the content was changed");
  return text.substr(std::string(title).size());
}

/// All of a file. Throws CheckpointError where it cannot be opened.
[[nodiscard]] inline std::string checkpoint_content(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  require<CheckpointError>(file.is_open(), "checkpoint: cannot open ", path.string());
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

/// All fields of a state, in the order of the file.
template <class Archive, class State>
void for_each_field(Archive& archive, State& state) {
  archive.field("t", state.t);
  archive.field("y", state.y);
  archive.field("step", state.step);
  archive.field("stage_time", state.stage_time);
  archive.field("control_step", state.control.step);
  archive.field("control_previous_ratio", state.control.previous_ratio);
  archive.field("control_rejected", state.control.rejected);
  archive.field("control_origin", state.control.origin);
  archive.field("control_taken", state.control.taken);
  archive.field("control_made", state.control.made);
  archive.field("bad_index", state.bad_index);
  archive.field("stall_probes", state.stall.probes);
  archive.field("stall_steps", state.stall.steps);
  archive.field("stall_strikes", state.stall.strikes);
  archive.field("stall_unchanged", state.stall.unchanged);
  archive.field("stall_last_t", state.stall.last_t);
  archive.field("stall_last_rate", state.stall.last_rate);
  archive.field("stall_reference_log", state.stall.reference_log);
  archive.field("stall_promised", state.stall.promised);
  archive.field("stall_last_y", state.stall.last_y);
  archive.field("memory", state.memory);
  archive.field("accepted", state.stats.accepted);
  archive.field("rejected", state.stats.rejected);
  archive.field("evaluations", state.stats.evaluations);
  archive.field("loss_evaluations", state.stats.loss_evaluations);
  archive.field("jacobians", state.stats.jacobians);
  archive.field("factorizations", state.stats.factorizations);
  archive.field("solves", state.stats.solves);
}

}  // namespace detail

/// Writes a state to a stream. Throws CheckpointError if the stream fails.
template <class Scalar>
void save_checkpoint(std::ostream& stream, const IntegrationState<Scalar>& state) {
  detail::CheckpointWriter writer;
  writer.field("digits", std::numeric_limits<Scalar>::digits);
  detail::for_each_field(writer, state);
  stream << detail::sealed_checkpoint(detail::checkpoint_title, writer.text());
  stream.flush();
  require<CheckpointError>(!stream.fail(), "checkpoint: the stream cannot be written");
}

/// Writes a state to a file, as `write_file` does: an interrupted write, or another process that writes the same file,
/// never destroys the checkpoint that was there. Throws CheckpointError naming the path.
template <class Scalar>
void save_checkpoint(const std::filesystem::path& path, const IntegrationState<Scalar>& state) {
  std::ostringstream content;
  save_checkpoint(content, state);
  try {
    write_file(path, content.str());
  } catch (const FileError& error) {
    throw CheckpointError(std::string("checkpoint: ") + error.what());
  }
}

/// Reads a state that `save_checkpoint` wrote for the same number type, from the rest of a stream. Throws
/// CheckpointError if it is truncated, changed, of another number type, or not a checkpoint at all.
///
///     const auto state = load_checkpoint<double>(stream);
template <class Scalar>
[[nodiscard]] IntegrationState<Scalar> load_checkpoint(std::istream& stream) {
  std::ostringstream content;
  content << stream.rdbuf();
  detail::CheckpointReader reader(detail::opened_checkpoint(detail::checkpoint_title, content.str()));
  int digits = 0;
  reader.field("digits", digits);
  require<CheckpointError>(digits == std::numeric_limits<Scalar>::digits, "checkpoint: its numbers have ", digits,
                           " binary digits, the type asked for ", std::numeric_limits<Scalar>::digits);
  IntegrationState<Scalar> state;
  detail::for_each_field(reader, state);
  return state;
}

/// The same from a file. Throws CheckpointError naming the path when it cannot be opened.
template <class Scalar>
[[nodiscard]] IntegrationState<Scalar> load_checkpoint(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  require<CheckpointError>(file.is_open(), "checkpoint: cannot open ", path.string());
  return load_checkpoint<Scalar>(file);
}

}  // namespace richflow
