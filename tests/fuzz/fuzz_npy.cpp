#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

#include "fuzz.hpp"
#include "npy.hpp"
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

richflow::Matrix<double> good_array(const std::string& content) {
  return fuzz::accepted([&] { return read_npy(fuzz::file("again", content)); });
}

richflow::Vector<double> good_column(const std::string& content) {
  return fuzz::accepted([&] { return read_npy_column(fuzz::file("again", content)); });
}

template <class Number>
std::string bytes_of(const std::vector<Number>& numbers, std::endian order) {
  std::string bytes;
  for (const Number number : numbers) {
    auto raw = std::bit_cast<std::array<char, sizeof(Number)>>(number);
    if (order != std::endian::native) std::reverse(raw.begin(), raw.end());
    bytes.append(raw.begin(), raw.end());
  }
  return bytes;
}

/// Six numbers of a type, of which no two bytes of the third are the same.
template <class Number>
std::vector<Number> six_numbers() {
  constexpr bool is_fraction = std::is_floating_point_v<Number>;
  return {Number(0),
          Number(1),
          static_cast<Number>(std::uint64_t{0x0001020304050607}),
          static_cast<Number>(std::is_signed_v<Number> ? -3 : 3),
          static_cast<Number>(is_fraction ? 0.1 : 100.0),
          Number(2)};
}

/// Files of a type, in both orders of its bytes and of the array, which read as the numbers they were made from.
template <class Number>
void add_seeds(std::vector<std::string>& seeds, const std::string& type) {
  const std::vector<Number> numbers = six_numbers<Number>();
  richflow::Vector<double> values(6);
  std::copy(numbers.begin(), numbers.end(), values.begin());
  for (const std::endian order : {std::endian::little, std::endian::big}) {
    const std::string full_type = (sizeof(Number) == 1 ? "|" : order == std::endian::little ? "<" : ">") + type;
    const std::string bytes = bytes_of(numbers, order);
    const std::string by_rows = npy(full_type, false, "2, 3", bytes);
    const std::string by_columns = npy(full_type, true, "2, 3", bytes);
    const std::string column = npy(full_type, false, "6,", bytes);
    fuzz::expect(fuzz::same(good_array(by_rows), values.reshaped<Eigen::RowMajor>(2, 3)), "rows are as written");
    fuzz::expect(fuzz::same(good_array(by_columns), values.reshaped(2, 3)), "columns are as written");
    fuzz::expect(fuzz::same(good_column(column), values), "a column is as written");
    seeds.push_back(by_rows);
    seeds.push_back(column);
  }
}

}  // namespace

std::vector<std::string> fuzz::seeds() {
  const richflow::Matrix<double> values{{1.0, -2.5, 1e-310}, {0.0, 3e300, 0.1}};
  std::vector<std::string> seeds = {written(values), npy("|b1", false, "3, 1", std::string("\0\1\1", 3))};
  expect(same(good_array(seeds[0]), values), "the array is what was written");
  expect(same(good_array(seeds[1]), richflow::Matrix<double>{{0.0}, {1.0}, {1.0}}), "truth is 0 or 1");
  add_seeds<double>(seeds, "f8");
  add_seeds<float>(seeds, "f4");
  add_seeds<std::int8_t>(seeds, "i1");
  add_seeds<std::uint8_t>(seeds, "u1");
  add_seeds<std::int16_t>(seeds, "i2");
  add_seeds<std::uint16_t>(seeds, "u2");
  add_seeds<std::int32_t>(seeds, "i4");
  add_seeds<std::uint32_t>(seeds, "u4");
  add_seeds<std::int64_t>(seeds, "i8");
  add_seeds<std::uint64_t>(seeds, "u8");
  return seeds;
}

void fuzz::try_input(const std::string& content) {
  const std::filesystem::path path = file("input", content);
  static_cast<void>(is_npy(path));
  if (const auto column = unless_refused([&] { return read_npy_column(path); }))
    expect(same(good_column(written(*column)), *column), "the column reads back");
  const richflow::Matrix<double> values = read_npy(path);
  expect(values.allFinite(), "numbers are finite");
  expect(same(good_array(written(values)), values), "the array reads back");
}
