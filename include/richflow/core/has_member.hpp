#pragma once

#include <type_traits>

/// @file
/// Whether a class has a member of a given name, of any kind: this tells an optional member that does not fit
/// from one that is not there.

namespace richflow::detail {

/// A class whose optional members may be removed by a requires-clause says so by a member
/// `static constexpr bool has_conditional_members = true`; their absence is then no mistake.
template <class T>
concept HasConditionalMembers = requires {
  requires T::has_conditional_members;
};

/// A name that two bases have is ambiguous, and does not name a member.
template <class T>
concept CanBeDerivedFrom = std::is_class_v<T> && !std::is_final_v<T>;

}  // namespace richflow::detail

/// Defines, in namespace richflow::detail, the concept `Has_<name><T>`: T has a member of that name, of any kind, with
/// any arguments. Always false for a class that cannot be derived from, and for one with conditional members.
#define RICHFLOW_DEFINE_HAS_MEMBER(name)                                               \
  struct Fallback_##name {                                                             \
    int name;                                                                          \
  };                                                                                   \
  template <class T>                                                                   \
  struct With_##name : T, Fallback_##name {};                                          \
  template <class T>                                                                   \
  concept Has_##name = CanBeDerivedFrom<T> && !HasConditionalMembers<T> && !requires { \
    &With_##name<T>::name;                                                             \
  };
