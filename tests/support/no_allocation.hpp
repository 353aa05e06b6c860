#pragma once

#include <stdexcept>

/// @file
/// Proves that code allocates nothing through Eigen, whose switch is an assertion in its allocator: assertions are
/// turned into exceptions before Eigen is seen, so this comes before every other include.

#ifdef EIGEN_CORE_H
#error "include support/no_allocation.hpp first"
#endif

#define EIGEN_RUNTIME_NO_MALLOC
#define eigen_assert(condition)                                     \
  do {                                                              \
    if (!(condition)) throw std::logic_error("Eigen: " #condition); \
  } while (false)

#include <Eigen/Core>

namespace test_support {

/// While one lives, an allocation by Eigen throws.
struct NoAllocation {
  NoAllocation() { Eigen::internal::set_is_malloc_allowed(false); }
  ~NoAllocation() { Eigen::internal::set_is_malloc_allowed(true); }
  NoAllocation(const NoAllocation&) = delete;
  NoAllocation& operator=(const NoAllocation&) = delete;
};

}  // namespace test_support
