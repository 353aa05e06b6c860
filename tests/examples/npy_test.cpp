#include "npy.hpp"

#include <cstddef>
#include <string>

#include "csv.hpp"
#include "files.hpp"
#include "richflow/core/random.hpp"
#include "richflow/data/table.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow::examples;
using richflow::Index;
using richflow::Matrix;
using richflow::Vector;
using test_support::content_of;
using test_support::message_contains;
using test_support::TemporaryFolder;

namespace {

/// A file with this header, padded as NumPy does, and these bytes.
std::string npy_file(std::string header, const std::string& data, char version = 1) {
  const std::size_t length_bytes = version == 1 ? 2 : 4;
  const std::size_t before = 8 + length_bytes;
  header.append(63 - (before + header.size()) % 64, ' ');
  header += '\n';
  std::string content = "\x93NUMPY";
  content += version;
  content += '\0';
  for (std::size_t k = 0; k < length_bytes; ++k) content += static_cast<char>((header.size() >> (8 * k)) & 0xFFU);
  return content + header + data;
}

std::string npy_header(const std::string& type, const std::string& shape, const std::string& columns_first = "False") {
  return "{'descr': '" + type + "', 'fortran_order': " + columns_first + ", 'shape': " + shape + ", }";
}

template <std::size_t size>
std::string npy_bytes(const char (&literal)[size]) {
  return {literal, size - 1};
}

const Matrix<double> one_to_six{{1, 2, 3}, {4, 5, 6}};

}  // namespace

TEST_CASE(
    "arrays are read as NumPy writes them: both orders, both orders of bytes, all versions, every type of number") {
  const TemporaryFolder folder;
  const auto read = [&](const std::string& content) { return read_npy(folder.file("X.npy", content)); };
  // 1 ... 6 as float64 and float32, by IEEE 754.
  const std::string doubles = npy_bytes(
      "\0\0\0\0\0\0\xf0\x3f\0\0\0\0\0\0\0\x40\0\0\0\0\0\0\x08\x40"
      "\0\0\0\0\0\0\x10\x40\0\0\0\0\0\0\x14\x40\0\0\0\0\0\0\x18\x40");
  const std::string floats = npy_bytes("\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\0\0\x80\x40\0\0\xa0\x40\0\0\xc0\x40");
  const std::string reversed = npy_bytes("\x3f\x80\0\0\x40\0\0\0\x40\x40\0\0\x40\x80\0\0\x40\xa0\0\0\x40\xc0\0\0");
  CHECK(read(npy_file(npy_header("<f8", "(2, 3)"), doubles)) == one_to_six);
  CHECK(read(npy_file(npy_header("<f8", "(2, 3)"), doubles, 2)) == one_to_six);
  CHECK(read(npy_file(npy_header("<f8", "(2, 3)"), doubles, 3)) == one_to_six);
  CHECK(read(npy_file(npy_header("<f8", "(3, 2)", "True"), doubles)) == Matrix<double>(one_to_six.transpose()));
  CHECK(read(npy_file(npy_header("<f4", "(2, 3)"), floats)) == one_to_six);
  CHECK(read(npy_file(npy_header(">f4", "(2, 3)"), reversed)) == one_to_six);
  CHECK(read(npy_file(npy_header("|u1", "(2, 3)"), "\x01\x02\x03\x04\x05\x06")) == one_to_six);
  CHECK(read(npy_file(npy_header("<i2", "(1, 2)"), npy_bytes("\xfe\xff\x00\x01"))) == Matrix<double>{{-2, 256}});
  CHECK(read(npy_file(npy_header(">i4", "(1, 1)"), "\xff\xff\xff\xfd")) == Matrix<double>{{-3}});
  CHECK(read(npy_file(npy_header("<u4", "(1, 1)"), "\xff\xff\xff\xff")) == Matrix<double>{{4294967295.0}});
  CHECK(read(npy_file(npy_header("<i8", "(1, 1)"), npy_bytes("\0\0\0\0\0\0\xe0\xff"))) ==
        Matrix<double>{{-9007199254740992.0}});
  CHECK(read(npy_file(npy_header("|b1", "(1, 2)"), npy_bytes("\0\1"))) == Matrix<double>{{0, 1}});
  // What other writers make of the header.
  CHECK(read(npy_file("{\"shape\":(2,3),\"fortran_order\":False,\"descr\":\"<f4\"}", floats)) == one_to_six);
}

TEST_CASE("vectors are arrays of one dimension or of one column") {
  const TemporaryFolder folder;
  const Vector<double> expected{{1, 2, 3}};
  for (const char* shape : {"(3,)", "(3, 1)"})
    CHECK(read_npy_column(folder.file("y.npy", npy_file(npy_header("|i1", shape), "\x01\x02\x03"))) == expected);
  const auto row = folder.file("row.npy", npy_file(npy_header("|i1", "(1, 3)"), "\x01\x02\x03"));
  CHECK_THROWS_MATCHES(read_npy_column(row), FileError, message_contains("its shape is (1, 3)"));
  const auto vector = folder.file("vector.npy", npy_file(npy_header("|i1", "(3,)"), "\x01\x02\x03"));
  CHECK_THROWS_MATCHES(read_npy(vector), FileError, message_contains("its shape is (3,)"));
}

TEST_CASE("what write_npy writes reads back bit for bit") {
  const TemporaryFolder folder;
  richflow::RandomStream random(31);
  const Matrix<double> values = test_support::random_matrix(random, 7, 4);
  const Vector<double> column = values.col(2);
  richflow::write_npy(folder.path() / "values.npy", values);
  richflow::write_npy(folder.path() / "column.npy", column);
  richflow::write_npy(folder.path() / "float.npy", Matrix<float>(values.cast<float>()));
  CHECK(read_npy(folder.path() / "values.npy") == values);
  CHECK(read_npy_column(folder.path() / "column.npy") == column);
  CHECK(read_npy(folder.path() / "float.npy") == values.cast<float>().cast<double>());
  CHECK(is_npy(folder.path() / "values.npy"));
  CHECK_FALSE(is_npy(folder.file("x.csv", "a\n1\n")));
  CHECK_FALSE(is_npy(folder.path() / "absent"));
}

TEST_CASE("arrays that are no samples are refused, naming the file and the cause") {
  const TemporaryFolder folder;
  const auto refused = [&](const std::string& content, const std::string& part) {
    const auto path = folder.file("bad.npy", content);
    CAPTURE(part);
    CHECK_THROWS_MATCHES(read_npy(path), FileError, message_contains("bad.npy"));
    CHECK_THROWS_MATCHES(read_npy(path), FileError, message_contains(part));
  };
  const std::string four = "\x01\x02\x03\x04";
  refused("a,b\n1,2\n", "not an NPY file");
  refused("\x93NUMPY\x01", "truncated in its header");
  refused(npy_file(npy_header("|i1", "(2, 2)"), four).substr(0, 60), "truncated in its header");
  refused(npy_file(npy_header("|i1", "(2, 2)"), four, 9), "version 9");
  refused(npy_file("{'descr': '|i1', 'shape': (2,), 'shape': (2,), }", four), "not that of an array");
  refused(npy_file(npy_header("|i1", "(2, 2)"), "\x01\x02\x03"), "truncated: it holds 3 numbers, its shape is (2, 2)");
  refused(npy_file(npy_header("|i1", "(2, 2)"), four + "\x05"), "continues after");
  refused(npy_file(npy_header("<f8", "(4000000000, 4000000000)"), four), "truncated");
  refused(npy_file(npy_header("|i1", "(0, 2)"), ""), "the array is empty, its shape is (0, 2)");
  refused(npy_file(npy_header("|i1", "()"), "\x01"), "its shape is ()");
  refused(npy_file(npy_header("|i1", "(2, 1, 2)"), four), "its shape is (2, 1, 2)");
  refused(npy_file(npy_header("|O", "(2, 2)"), four), "'|O'");
  refused(npy_file(npy_header("<c16", "(2, 2)"), four), "'<c16'");
  refused(npy_file(npy_header("<f2", "(1, 2)"), four), ".astype(float)");
  refused(npy_file(npy_header("<U3", "(2, 2)"), four), "'<U3'");
  refused(npy_file("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (2,), }", four), "named fields");
  refused(npy_file("{'descr': '<f8', 'shape': (2,), }", four), "not that of an array");
  refused(npy_file("{'descr': '<f8', 'fortran_order': No, 'shape': (2,), }", four), "not that of an array");
  refused(npy_file(npy_header("<f8", "(-1, 2)"), four), "not that of an array");
  refused(npy_file(npy_header("<f8", "(99999999999999999999, 2)"), four), "not that of an array");
  refused(npy_file(npy_header("<f4", "(1, 2)"), npy_bytes("\0\0\x80\x3f\0\0\xc0\x7f")),
          "the entry [0, 1] is not finite");
  refused(npy_file(npy_header("<u8", "(1, 1)"), npy_bytes("\1\0\0\0\0\0\x20\0")), "beyond 2^53");
  CHECK_THROWS_MATCHES(read_npy(folder.path()), FileError, message_contains("is a folder"));
  CHECK_THROWS_MATCHES(read_npy(folder.path() / "absent.npy"), FileError, message_contains("cannot open"));
}

TEST_CASE("every truncation of an NPY file is noticed") {
  const TemporaryFolder folder;
  const std::string whole = npy_file(npy_header("<f4", "(1, 2)"), npy_bytes("\0\0\x80\x3f\0\0\0\x40"));
  for (std::size_t length = 0; length < whole.size(); ++length) {
    CAPTURE(length);
    CHECK_THROWS_AS(read_npy(folder.file("cut.npy", whole.substr(0, length))), FileError);
  }
  CHECK(read_npy(folder.file("whole.npy", whole)) == Matrix<double>{{1, 2}});
}
