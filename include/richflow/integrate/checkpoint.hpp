#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <istream>
#include <limits>
#include <locale>
#include <ostream>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "richflow/core/error.hpp"
#include "richflow/core/file.hpp"
#include "richflow/core/types.hpp"
#include "richflow/integrate/solution.hpp"

/// @file
/// The resumable state of a run, which any machine reads back bit for bit: one line per value, numbers with enough
/// digits to be exact, long vectors as bytes, a checksum at the end.

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

/// Vectors of at least this many entries are bytes in a file: a third of the space and a small part of the time.
/// Shorter ones are lines that a person can read.
inline constexpr Index binary_entries = 256;

/// The unsigned integer of the size of a floating-point number that has the same layout on every machine, up to the
/// order of its bytes; void for other numbers.
template <class S>
using BinaryWord = std::conditional_t<std::is_same_v<S, float>, std::uint32_t,
                                      std::conditional_t<std::is_same_v<S, double>, std::uint64_t, void>>;

/// What follows the number of entries where they are bytes, the lowest of each number first.
template <class S>
inline constexpr const char* binary_mark = std::is_same_v<S, float> ? "binary32" : "binary64";

/// Numbers as bytes, the lowest of each first.
template <class S>
[[nodiscard]] std::string to_bytes(const Vector<S>& values) {
  using Word = BinaryWord<S>;
  std::string bytes(static_cast<std::size_t>(values.size()) * sizeof(Word), char());
  auto to = bytes.begin();
  for (Index i = 0; i < values.size(); ++i) {
    const auto word = std::bit_cast<Word>(values[i]);
    for (unsigned shift = 0; shift < 8 * sizeof(Word); shift += 8)
      *to++ = static_cast<char>(static_cast<unsigned char>(word >> shift));
  }
  return bytes;
}

/// The inverse of `to_bytes`.
template <class S>
[[nodiscard]] Vector<S> from_bytes(std::string_view bytes) {
  using Word = BinaryWord<S>;
  Vector<S> values(static_cast<Index>(bytes.size() / sizeof(Word)));
  auto from = bytes.begin();
  for (Index i = 0; i < values.size(); ++i) {
    Word word = 0;
    for (unsigned shift = 0; shift < 8 * sizeof(Word); shift += 8)
      word = static_cast<Word>(word | static_cast<Word>(static_cast<unsigned char>(*from++)) << shift);
    values[i] = std::bit_cast<S>(word);
  }
  return values;
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
    if constexpr (!std::is_void_v<BinaryWord<Scalar>>) {
      if (values.size() >= binary_entries) {
        text_ << name << ' ' << values.size() << ' ' << binary_mark<Scalar> << '\n' << to_bytes(values) << '\n';
        return;
      }
    }
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
  explicit CheckpointReader(const std::string& text) : text_(text), size_(text.size()) {
    text_.imbue(std::locale::classic());
  }

  /// Whether the next field has this name.
  [[nodiscard]] bool next_is(const char* name) {
    const auto here = text_.tellg();
    std::string found;
    text_ >> found;
    text_.clear();
    text_.seekg(here);
    return found == name;
  }

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
    if (text_.peek() == ' ') {
      if constexpr (std::is_void_v<BinaryWord<Scalar>>)
        throw CheckpointError(concat("checkpoint: the field ", name, " holds numbers of another type"));
      else
        values = bytes<Scalar>(name, size);
      return;
    }
    std::vector<Scalar> read;  // grows with what is there, not with what the file claims
    Scalar value(0);
    while (static_cast<Index>(read.size()) < size && text_ >> value) read.push_back(value);
    require<CheckpointError>(static_cast<Index>(read.size()) == size, "checkpoint: the field ", name, " has ",
                             read.size(), " of ", size, " entries");
    values = Eigen::Map<const Vector<Scalar>>(read.data(), size);
  }

 private:
  template <class Scalar>
  [[nodiscard]] Vector<Scalar> bytes(const char* name, Index size) {
    std::string mark;
    text_ >> mark;
    require<CheckpointError>(mark == binary_mark<Scalar>, "checkpoint: the numbers of the field ", name, " are ", mark,
                             ", those of the run ", binary_mark<Scalar>);
    text_.get();
    // A file may claim more than it holds.
    const auto left = static_cast<Index>(size_) - static_cast<Index>(text_.tellg());
    constexpr auto word = static_cast<Index>(sizeof(Scalar));
    require<CheckpointError>(text_.good() && size >= 0 && size <= left / word, "checkpoint: the field ", name, " has ",
                             left / word, " of ", size, " entries");
    std::string read(static_cast<std::size_t>(size * word), char());
    text_.read(read.data(), static_cast<std::streamsize>(read.size()));
    return from_bytes<Scalar>(read);
  }

  std::istringstream text_;
  std::size_t size_;
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

/// Writes a state to a stream, which is binary (`std::ios::binary`). Throws CheckpointError if the stream fails.
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
