#pragma once

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <locale>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "richflow/core/compiled.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/file.hpp"
#include "richflow/core/types.hpp"

#if defined(__cpp_lib_to_chars) && __cpp_lib_to_chars >= 201611L
#define RICHFLOW_HAS_FLOATING_CHARCONV
#endif

/// @file
/// The file that a sweep's results are appended to. POSIX.

namespace richflow {

/// The outcome of one cell.
struct SweepRow {
  Index cell = 0;                   ///< `Cell::index()`
  std::vector<double> values = {};  ///< one for each output; empty when the cell failed
  std::string error = {};           ///< what the cell threw; empty when it did not
  [[nodiscard]] bool ok() const { return error.empty(); }
};

namespace detail {

/// As `read_double`, for standard libraries that cannot read a double by `std::from_chars` (libc++).
[[nodiscard]] const char* read_by_stream(const char* begin, const char* end, double& value);

/// As `shortest`, for standard libraries that cannot write a double by `std::to_chars` (libc++).
[[nodiscard]] std::string shortest_by_stream(double value);

/// The shortest text from which the same double reads back; `nan`, `inf`, `-inf`.
[[nodiscard]] std::string shortest(double value);

/// Reads the double that `shortest` wrote; the end of its text, or null where there is none.
[[nodiscard]] const char* read_double(const char* begin, const char* end, double& value);

/// One line: no line break, no other control character, at most about 1000 bytes.
[[nodiscard]] std::string one_line(std::string_view text);

/// FNV-1a of 32 bits, as eight hexadecimal digits.
[[nodiscard]] std::string line_checksum(std::string_view text);

/// `checksum cell ok value value ...` or `checksum cell error message`, without the line break.
[[nodiscard]] std::string to_line(const SweepRow& row);

/// What `to_line` wrote; nothing when the line is damaged.
[[nodiscard]] std::optional<SweepRow> from_line(std::string_view line);

}  // namespace detail

/// The file of a sweep's results: a header that says which sweep they belong to, then one line for each cell.
///
/// A line is appended by a single write as soon as its cell is done, so that a process that is killed loses no
/// finished cell. The file is flushed to the disk at most every `sync_seconds` and at the end: a
/// power failure costs no more than the cells of that time. Each line carries a checksum. When a file is resumed, a
/// torn last line is cut off, and damaged lines count as missing. While it is open the file is locked (`flock`): a
/// second process that opens it is refused, unless both only read.
class Journal {
 public:
  /// What becomes of an older file.
  enum class Open {
    resume,   ///< its rows are taken over if it belongs to the same sweep, and refused if not
    replace,  ///< it is kept as `path` + `.old` (one generation)
    read      ///< as resume, but it must exist, and nothing is written: a row cannot be appended
  };

  /// Opens or makes the file. `header` are lines of text that the rows depend on, without empty lines. Throws
  /// FileError when the file cannot be opened or written, is in use by another process, is not a journal, or (resume)
  /// has another header; the message names the first line that differs.
  Journal(std::filesystem::path path, const std::vector<std::string>& header, Open mode, double sync_seconds = 1.0);

  ~Journal() { close(); }
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  /// Rows that were in the file when it was opened, in the order of the file.
  [[nodiscard]] const std::vector<SweepRow>& rows() const { return rows_; }

  /// Lines that were torn or damaged then.
  [[nodiscard]] Index num_damaged() const { return num_damaged_; }

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  /// Appends a row. Throws FileError when it cannot be written (a full disk); the file then ends with the row
  /// before it.
  void append(const SweepRow& row) { append_line(detail::to_line(row)); }

  /// Appends what `detail::to_line` made.
  void append_line(const std::string& line);

  /// Flushes to the disk. Throws FileError when that fails.
  void sync();

  /// Rows of a file that nobody writes to; the file does not change. Throws as the constructor does, also when there is
  /// none.
  [[nodiscard]] static std::vector<SweepRow> read(const std::filesystem::path& path,
                                                  const std::vector<std::string>& header);

 private:
  static constexpr std::string_view magic = "richflow sweep 1";

  [[noreturn]] void fail(const char* what, int code) const;

  void open_and_lock();

  void set_aside();

  void close();

  [[nodiscard]] std::string read_all();

  void take_over(const std::string& content, const std::string& expected);

  [[noreturn]] void refuse(const std::string& content, const std::string& expected) const;

  [[nodiscard]] static std::string shown(const std::string& line);

  void truncate(std::size_t size);

  void append_text(const std::string& text);

  std::filesystem::path path_;
  double sync_seconds_;
  bool only_reads_;
  int file_ = -1;
  std::size_t size_ = 0;
  std::vector<SweepRow> rows_ = {};
  Index num_damaged_ = 0;
  std::chrono::steady_clock::time_point last_sync_ = std::chrono::steady_clock::now();
};

#ifdef RICHFLOW_SWEEP_INLINE

namespace detail {

RICHFLOW_SWEEP_INLINE const char* read_by_stream(const char* begin, const char* end, double& value) {
  const char* stop = begin;
  while (stop != end &&
         (std::isalnum(static_cast<unsigned char>(*stop)) != 0 || *stop == '+' || *stop == '-' || *stop == '.'))
    ++stop;
  const std::string text(begin, stop);
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (text == "nan" || text == "inf" || text == "-inf") {
    value = text == "nan" ? std::numeric_limits<double>::quiet_NaN() : text == "inf" ? infinity : -infinity;
    return stop;
  }
  std::istringstream stream(text);
  stream.imbue(std::locale::classic());
  double read = 0.0;
  stream >> read;
  // A subnormal number counts as a failure in some libraries, but is read.
  const bool is_subnormal = read != 0.0 && std::abs(read) < std::numeric_limits<double>::min();
  if ((stream.fail() && !is_subnormal) || !stream.eof()) return nullptr;
  value = read;
  return stop;
}

RICHFLOW_SWEEP_INLINE std::string shortest_by_stream(double value) {
  if (value != value) return "nan";
  if (value - value != 0.0) return value > 0.0 ? "inf" : "-inf";
  std::string text;
  for (int digits = 1; digits <= std::numeric_limits<double>::max_digits10; ++digits) {
    std::ostringstream stream;
    stream.imbue(std::locale::classic());
    stream.precision(digits);
    stream << value;
    text = stream.str();
    double back = 0.0;
    if (read_by_stream(text.data(), text.data() + text.size(), back) != nullptr && back == value) break;
  }
  return text;
}

RICHFLOW_SWEEP_INLINE std::string shortest(double value) {
#ifdef RICHFLOW_HAS_FLOATING_CHARCONV
  if (value != value) return "nan";
  std::array<char, 32> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  return std::string(buffer.data(), end.ptr);
#else
  return shortest_by_stream(value);
#endif
}

RICHFLOW_SWEEP_INLINE const char* read_double(const char* begin, const char* end, double& value) {
#ifdef RICHFLOW_HAS_FLOATING_CHARCONV
  const auto result = std::from_chars(begin, end, value);
  return result.ec == std::errc() ? result.ptr : nullptr;
#else
  return read_by_stream(begin, end, value);
#endif
}

RICHFLOW_SWEEP_INLINE std::string one_line(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (result.size() >= 1000) return result + "...";
    const auto code = static_cast<unsigned char>(c);
    result += code < 0x20 || code == 0x7f ? ' ' : c;
  }
  return result.empty() ? "unknown error" : result;
}

RICHFLOW_SWEEP_INLINE std::string line_checksum(std::string_view text) {
  std::uint32_t hash = 2166136261U;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  std::string digits(8, '0');
  for (std::size_t k = 8; k-- > 0; hash >>= 4U) digits[k] = "0123456789abcdef"[hash & 15U];
  return digits;
}

RICHFLOW_SWEEP_INLINE std::string to_line(const SweepRow& row) {
  std::string text = std::to_string(row.cell);
  if (row.ok()) {
    text += " ok";
    for (const double value : row.values) text.append(" ").append(shortest(value));
  } else {
    text.append(" error ").append(one_line(row.error));
  }
  return line_checksum(text) + " " + text;
}

RICHFLOW_SWEEP_INLINE std::optional<SweepRow> from_line(std::string_view line) {
  if (line.size() < 9 || line[8] != ' ' || line_checksum(line.substr(9)) != line.substr(0, 8)) return std::nullopt;
  const char* at = line.data() + 9;
  const char* const end = line.data() + line.size();
  SweepRow row;
  const auto index = std::from_chars(at, end, row.cell);
  if (index.ec != std::errc()) return std::nullopt;
  std::string_view rest(index.ptr, static_cast<std::size_t>(end - index.ptr));
  if (rest.starts_with(" error ")) {
    row.error = std::string(rest.substr(7));
    if (row.error != one_line(row.error)) return std::nullopt;  // an empty one would be a success
    return row;
  }
  if (!rest.starts_with(" ok")) return std::nullopt;
  for (at = index.ptr + 3; at < end;) {
    if (*at != ' ') return std::nullopt;
    double value = 0.0;
    at = detail::read_double(at + 1, end, value);
    if (at == nullptr) return std::nullopt;
    row.values.push_back(value);
  }
  return row;
}

}  // namespace detail

RICHFLOW_SWEEP_INLINE Journal::Journal(std::filesystem::path path, const std::vector<std::string>& header, Open mode,
                                       double sync_seconds)
    : path_(std::move(path)), sync_seconds_(sync_seconds), only_reads_(mode == Open::read) {
  std::string expected = std::string(magic) + "\n";
  for (const std::string& line : header) expected += line + "\n";
  expected += "\n";
  open_and_lock();
  try {
    std::string content = read_all();
    if (mode == Open::replace && !content.empty()) {
      set_aside();
      content.clear();
    }
    // A header that ends early was torn: nothing has been recorded yet.
    if (content.size() < expected.size() && expected.starts_with(content)) {
      if (only_reads_) return;
      truncate(0);
      append_text(expected);
      sync();
    } else {
      take_over(content, expected);
    }
  } catch (...) {
    close();
    throw;
  }
}

RICHFLOW_SWEEP_INLINE void Journal::append_line(const std::string& line) {
  append_text(line + "\n");
  const auto now = std::chrono::steady_clock::now();
  if (std::chrono::duration<double>(now - last_sync_).count() >= sync_seconds_) {
    sync();
    last_sync_ = now;
  }
}

RICHFLOW_SWEEP_INLINE void Journal::sync() {
  if (detail::flush_to_disk(file_) != 0) fail("cannot flush", errno);
}

RICHFLOW_SWEEP_INLINE std::vector<SweepRow> Journal::read(const std::filesystem::path& path,
                                                          const std::vector<std::string>& header) {
  return Journal(path, header, Open::read).rows_;
}

RICHFLOW_SWEEP_INLINE void Journal::fail(const char* what, int code) const {
  throw FileError(std::string(what) + " " + detail::quoted(path_) + ": " + detail::system_message(code));
}

RICHFLOW_SWEEP_INLINE void Journal::open_and_lock() {
  for (;;) {
    if (only_reads_ && !std::filesystem::exists(path_)) throw FileError("there is no file " + detail::quoted(path_));
    file_ = ::open(path_.c_str(), (only_reads_ ? O_RDONLY : O_RDWR | O_CREAT | O_APPEND) | O_CLOEXEC, 0666);
    if (file_ < 0) fail("cannot open", errno);
    if (::flock(file_, (only_reads_ ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0) {
      const int code = errno;
      close();
      if (code == EWOULDBLOCK) throw FileError(detail::quoted(path_) + " is in use by another process");
      fail("cannot lock", code);
    }
    // Between the two calls another process may have set the file aside.
    struct ::stat opened {};
    struct ::stat present {};
    if (::fstat(file_, &opened) == 0 && !S_ISREG(opened.st_mode)) {
      close();
      throw FileError(detail::quoted(path_) + " is not a regular file");
    }
    if (::fstat(file_, &opened) == 0 && ::stat(path_.c_str(), &present) == 0 && opened.st_ino == present.st_ino &&
        opened.st_dev == present.st_dev)
      return;
    close();
  }
}

RICHFLOW_SWEEP_INLINE void Journal::set_aside() {
  std::filesystem::path old = path_;
  old += ".old";
  std::error_code error;
  std::filesystem::rename(path_, old, error);
  if (error) throw FileError("cannot rename " + detail::quoted(path_) + ": " + error.message());
  close();
  open_and_lock();
  if (!read_all().empty()) throw FileError(detail::quoted(path_) + " is in use by another process");
}

RICHFLOW_SWEEP_INLINE void Journal::close() {
  if (file_ >= 0) {
    if (!only_reads_) static_cast<void>(detail::flush_to_disk(file_));
    ::close(file_);
  }
  file_ = -1;
}

RICHFLOW_SWEEP_INLINE std::string Journal::read_all() {
  std::string content;
  std::vector<char> buffer(1U << 16U);
  for (::off_t offset = 0;;) {
    const ::ssize_t got = ::pread(file_, buffer.data(), buffer.size(), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("cannot read", errno);
    if (got == 0) break;
    content.append(buffer.data(), static_cast<std::size_t>(got));
    offset += got;
  }
  size_ = content.size();
  return content;
}

RICHFLOW_SWEEP_INLINE void Journal::take_over(const std::string& content, const std::string& expected) {
  if (!content.starts_with(expected)) refuse(content, expected);
  std::size_t begin = expected.size();
  while (begin < content.size()) {
    const std::size_t end = content.find('\n', begin);
    if (end == std::string::npos) {
      ++num_damaged_;
      if (!only_reads_) truncate(begin);
      return;
    }
    if (auto row = detail::from_line(std::string_view(content).substr(begin, end - begin)))
      rows_.push_back(std::move(*row));
    else
      ++num_damaged_;
    begin = end + 1;
  }
}

RICHFLOW_SWEEP_INLINE void Journal::refuse(const std::string& content, const std::string& expected) const {
  if (!content.starts_with(std::string(magic) + "\n"))
    throw FileError(detail::quoted(path_) + " is not a file of sweep results; move it away and run again");
  std::size_t begin = 0;
  const auto line_at = [&](const std::string& text) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    return begin <= end ? text.substr(begin, end - begin) : std::string();
  };
  while (line_at(content) == line_at(expected)) begin += line_at(expected).size() + 1;
  throw FileError(detail::quoted(path_) + " holds results of another sweep: it says\n  " + shown(line_at(content)) +
                  "\nwhere this one has\n  " + shown(line_at(expected)) + "\nMove it away, or run without resuming.");
}

RICHFLOW_SWEEP_INLINE std::string Journal::shown(const std::string& line) {
  if (line.empty()) return "(nothing)";
  return line.size() <= 300 ? line : line.substr(0, 300) + "...";
}

RICHFLOW_SWEEP_INLINE void Journal::truncate(std::size_t size) {
  while (::ftruncate(file_, static_cast<::off_t>(size)) != 0)
    if (errno != EINTR) fail("cannot repair", errno);
  size_ = size;
}

RICHFLOW_SWEEP_INLINE void Journal::append_text(const std::string& text) {
  std::size_t written = 0;
  while (written < text.size()) {
    const ::ssize_t count = ::write(file_, text.data() + written, text.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const int code = count < 0 ? errno : ENOSPC;
      static_cast<void>(::ftruncate(file_, static_cast<::off_t>(size_)) == 0);
      fail("cannot write", code);
    }
    written += static_cast<std::size_t>(count);
  }
  size_ += text.size();
}

#endif  // RICHFLOW_SWEEP_INLINE

}  // namespace richflow
