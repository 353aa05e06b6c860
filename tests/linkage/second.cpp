// Macros that other headers define, such as <windows.h> and <complex.h>. The standard library removes `min` and `max`
// before its first header, and does not survive them later: richflow removes those that come between.
#include <Eigen/Dense>
#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <chrono>
#include <complex>
#include <condition_variable>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))
#define near
#define far
#define small char
#define I (__extension__ 1.0iF)

#include "all_headers.hpp"

double value_from_second();
double value_from_second() { return richflow::Scale<>::from_value(1).value(); }
