#include "npy.hpp"

#include <array>
#include <bit>
#include <cctype>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "files.hpp"
#include "text.hpp"

namespace richflow::examples {

namespace {

constexpr std::string_view magic = "\x93NUMPY";

/// What the header of a file says of its array.
struct Header {
  std::string type = {};  // such as <f8
  bool columns_first = false;
  std::vector<Index> shape = {};
};

/// Reads the header, a dictionary as Python prints it: {'descr': '<f8', 'fortran_order': False, 'shape': (3, 4), }.
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : text_(text) {}

  /// Nothing where the text is something else.
  [[nodiscard]] std::optional<Header> parse() {
    Header header;
    if (!take('{')) return {};
    while (!take('}')) {
      const auto key = quoted_word();
      if (!key || !take(':') || !keys_.insert(*key).second) return {};
      if (*key == "descr") {
        if (next() == '[') {
          header.type = "[";
          return header;
        }
        const auto type = quoted_word();
        if (!type) return {};
        header.type = *type;
      } else if (*key == "fortran_order") {
        header.columns_first = take_word("True");
        if (!header.columns_first && !take_word("False")) return {};
      } else if (*key == "shape") {
        if (!shape(header.shape)) return {};
      } else {
        return {};
      }
      if (!take(',') && next() != '}') return {};
    }
    if (keys_.size() != 3 || next() != '\0') return {};
    return header;
  }

 private:
  /// The next character that is no blank; 0 at the end.
  char next() {
    while (!text_.empty() && (text_.front() == ' ' || text_.front() == '\n')) text_.remove_prefix(1);
    return text_.empty() ? '\0' : text_.front();
  }

  bool take(char c) {
    if (next() != c) return false;
    text_.remove_prefix(1);
    return true;
  }

  bool take_word(std::string_view word) {
    if (next() == '\0' || text_.substr(0, word.size()) != word) return false;
    text_.remove_prefix(word.size());
    return true;
  }

  std::optional<std::string> quoted_word() {
    const char quote = next();
    if (quote != '\'' && quote != '"') return {};
    const std::size_t end = text_.find(quote, 1);
    if (end == std::string_view::npos) return {};
    std::string word(text_.substr(1, end - 1));
    text_.remove_prefix(end + 1);
    return word;
  }

  bool shape(std::vector<Index>& sizes) {
    if (!take('(')) return false;
    while (!take(')')) {
      next();
      Index size = 0;
      const auto [stop, error] = std::from_chars(text_.data(), text_.data() + text_.size(), size);
      if (error != std::errc() || size < 0) return false;
      text_.remove_prefix(static_cast<std::size_t>(stop - text_.data()));
      sizes.push_back(size);
      if (!take(',') && next() != ')') return false;
    }
    return true;
  }

  std::string_view text_;
  std::set<std::string> keys_ = {};  // so far
};

/// How a number is stored.
struct Type {
  char kind;  // f, i, u, b
  std::size_t size;
  bool lowest_first;
};

class NpyFile {
 public:
  explicit NpyFile(const std::filesystem::path& path) : path_(path) {
    if (std::filesystem::is_directory(path)) throw FileError(quoted(path) + " is a folder, not an NPY file");
    std::ifstream file(path, std::ios::binary);
    if (!file) throw FileError("cannot open " + quoted(path));
    content_.assign(std::istreambuf_iterator<char>(file), {});
    if (file.bad()) fail("it cannot be read to its end");
    if (content_.substr(0, magic.size()) != magic) fail("not an NPY file (numpy.save writes one)");
    read_header();
  }

  [[nodiscard]] const std::vector<Index>& shape() const { return header_.shape; }

  [[noreturn]] void fail(const std::string& what) const { throw FileError(quoted(path_) + ": " + what); }

  [[nodiscard]] std::string shape_text() const {
    std::string text = "(";
    for (std::size_t k = 0; k < shape().size(); ++k) text += (k == 0 ? "" : ", ") + std::to_string(shape()[k]);
    return text + (shape().size() == 1 ? ",)" : ")");
  }

  /// The numbers as rows x cols, which must be as many as there are.
  [[nodiscard]] Matrix<double> values(Index rows, Index cols) const {
    const Type type = type_;
    if (rows == 0 || cols == 0) fail("the array is empty, its shape is " + shape_text());
    // Memory follows what the file holds, not what its header announces.
    const std::size_t held = content_.size() - data_;
    const std::size_t most = held / type.size;
    const auto columns = static_cast<std::size_t>(cols);
    if (static_cast<std::size_t>(rows) > most / columns)
      fail("the file is truncated: it holds " + std::to_string(most) + " numbers, its shape is " + shape_text());
    if (held != static_cast<std::size_t>(rows) * columns * type.size)
      fail("the file continues after the numbers of its shape " + shape_text());
    Matrix<double> out(rows, cols);
    const char* from = content_.data() + data_;
    const Index inner = header_.columns_first ? rows : cols;
    for (Index k = 0; k < rows * cols; ++k, from += type.size) {
      const Index i = header_.columns_first ? k % inner : k / inner;
      const Index j = header_.columns_first ? k / inner : k % inner;
      out(i, j) = number(from, type, i, j);
    }
    return out;
  }

 private:
  void read_header() {
    const auto byte = [&](std::size_t k) { return static_cast<std::size_t>(static_cast<unsigned char>(content_[k])); };
    constexpr std::size_t before_length = 8;
    if (content_.size() < 12) fail("the file is truncated in its header");
    const std::size_t version = byte(6);
    if (version < 1 || version > 3) fail("version " + std::to_string(version) + " of the NPY format is not known");
    const std::size_t length_bytes = version == 1 ? 2 : 4;
    std::size_t length = 0;
    for (std::size_t k = length_bytes; k-- > 0;) length = 256 * length + byte(before_length + k);
    data_ = before_length + length_bytes + length;
    if (data_ > content_.size()) fail("the file is truncated in its header");
    const std::string_view text = std::string_view(content_).substr(data_ - length, length);
    const auto header = HeaderParser(text).parse();
    if (!header) fail("its header is not that of an array: " + excerpt(text));
    header_ = *header;
    type_ = number_type();
  }

  [[nodiscard]] static std::string excerpt(std::string_view text) {
    std::string shown;
    for (const char c : text.substr(0, 80)) shown += std::isprint(static_cast<unsigned char>(c)) != 0 ? c : '?';
    return shown;
  }

  [[nodiscard]] Type number_type() const {
    const std::string& type = header_.type;
    if (type == "[") fail("it holds records with named fields: save one field as an array of numbers");
    const char order = type.empty() ? '\0' : type.front();
    const std::string_view rest = std::string_view(type).substr(type.empty() ? 0 : 1);
    const bool lowest_first = order == '<' || (order != '>' && std::endian::native == std::endian::little);
    if (rest == "b1" || rest == "i1" || rest == "u1") return {rest.front(), 1, lowest_first};
    if (order == '<' || order == '>' || order == '=')
      for (const char* known : {"f4", "f8", "i2", "i4", "i8", "u2", "u4", "u8"})
        if (rest == known) return {rest.front(), static_cast<std::size_t>(rest[1] - '0'), lowest_first};
    fail("its numbers are of the type '" + excerpt(type) +
         "': float64, float32, integers and bool are read; convert them with .astype(float)");
  }

  template <std::unsigned_integral Word>
  [[nodiscard]] static Word word(const char* from, bool lowest_first) {
    Word value = 0;
    for (std::size_t k = 0; k < sizeof(Word); ++k) {
      const std::size_t place = lowest_first ? sizeof(Word) - 1 - k : k;
      value = static_cast<Word>(static_cast<std::uint64_t>(value) << 8U | static_cast<unsigned char>(from[place]));
    }
    return value;
  }

  template <std::unsigned_integral Word>
  [[nodiscard]] double integer(const char* from, const Type& type, Index i, Index j) const {
    const Word bits = word<Word>(from, type.lowest_first);
    const bool is_negative = type.kind == 'i' && bits >> (8 * sizeof(Word) - 1) != 0;
    const auto magnitude = static_cast<std::uint64_t>(is_negative ? static_cast<Word>(0U - bits) : bits);
    constexpr std::uint64_t exact = std::uint64_t{1} << 53U;  // every integer up to it is a double
    if (magnitude > exact) fail_at(i, j, "holds an integer beyond 2^53, which a double may not hold exactly");
    const auto value = static_cast<double>(magnitude);
    return is_negative ? -value : value;
  }

  [[nodiscard]] double number(const char* from, const Type& type, Index i, Index j) const {
    if (type.kind == 'f') {
      const double value =
          type.size == 8 ? std::bit_cast<double>(word<std::uint64_t>(from, type.lowest_first))
                         : static_cast<double>(std::bit_cast<float>(word<std::uint32_t>(from, type.lowest_first)));
      if (!std::isfinite(value)) fail_at(i, j, "is not finite");
      return value;
    }
    switch (type.size) {
      case 1:
        return integer<std::uint8_t>(from, type, i, j);
      case 2:
        return integer<std::uint16_t>(from, type, i, j);
      case 4:
        return integer<std::uint32_t>(from, type, i, j);
      default:
        return integer<std::uint64_t>(from, type, i, j);
    }
  }

  [[noreturn]] void fail_at(Index i, Index j, const std::string& what) const {
    const std::string place = shape().size() == 1 ? std::to_string(i) : std::to_string(i) + ", " + std::to_string(j);
    fail("the entry [" + place + "] " + what);
  }

  std::filesystem::path path_;
  std::string content_;
  Header header_ = {};
  Type type_ = {};
  std::size_t data_ = 0;  // where the numbers begin
};

}  // namespace

bool is_npy(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::array<char, magic.size()> begin{};
  file.read(begin.data(), begin.size());
  return file && std::string_view(begin.data(), begin.size()) == magic;
}

Matrix<double> read_npy(const std::filesystem::path& path) {
  const NpyFile file(path);
  if (file.shape().size() != 2)
    file.fail("an array with rows and columns is needed, its shape is " + file.shape_text());
  return file.values(file.shape()[0], file.shape()[1]);
}

Vector<double> read_npy_column(const std::filesystem::path& path) {
  const NpyFile file(path);
  const std::vector<Index>& shape = file.shape();
  if (shape.size() != 1 && !(shape.size() == 2 && shape[1] == 1))
    file.fail("a vector or a single column is needed, its shape is " + file.shape_text());
  return file.values(shape[0], 1).col(0);
}

}  // namespace richflow::examples
