#include "fuzz.hpp"
#include "npy.hpp"
#include "richflow/core/error.hpp"
#include "richflow/integrate/checkpoint.hpp"

using namespace richflow::examples;

namespace {

/// As numpy.save writes it.
std::string npy(const std::string& type, bool columns_first, const std::string& shape, const std::string& data) {
  std::string header = "{'descr': '" + type + "', 'fortran_order': " + (columns_first ? "True" : "False") +
                       ", 'shape': (" + shape + "), }";
  header.append(63 - (10 + header.size()) % 64, ' ');
  header += '\n';
  std::string content = "\x93NUMPY";
  content += '\x01';
  content += '\0';
  content += static_cast<char>(static_cast<unsigned char>(header.size() & 0xFFU));
  content += static_cast<char>(static_cast<unsigned char>(header.size() >> 8U));
  return content + header + data;
}

/// Eigen's matrices lie column by column.
std::string written(const richflow::Matrix<double>& values) {
  const richflow::Vector<double> entries = values.reshaped();
  return npy("<f8", true, std::to_string(values.rows()) + ", " + std::to_string(values.cols()),
             richflow::detail::to_bytes<double>(entries));
}

}  // namespace

std::vector<std::string> fuzz::seeds() {
  const richflow::Matrix<double> values{{1.0, -2.5, 1e-310}, {0.0, 3e300, 0.1}};
  const std::string bytes("\0\1\2\3\4\5\6\7\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17", 24);
  return {written(values),
          npy(">f4", false, "6,", bytes),
          npy("|u1", false, "4, 6", bytes),
          npy("<i2", true, "12, 1", bytes),
          npy("|b1", false, "24,", bytes),
          npy(">i8", true, "3, 1", bytes)};
}

void fuzz::try_input(const std::string& content) {
  const std::filesystem::path path = file("input", content);
  static_cast<void>(is_npy(path));
  try {
    const richflow::Vector<double> column = read_npy_column(path);
    const richflow::Matrix<double> as_matrix = column;
    expect(same(read_npy_column(file("again", written(as_matrix))), column), "the column reads back");
  } catch (const richflow::Error&) {
  }
  const richflow::Matrix<double> values = read_npy(path);
  expect(values.allFinite(), "numbers are finite");
  expect(same(read_npy(file("again", written(values))), values), "the array reads back");
}
