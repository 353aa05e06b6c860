#pragma once

#include <cstdint>

#if defined(__SSE2_MATH__) || (defined(_MSC_VER) && defined(_M_X64))
#include <xmmintrin.h>
#define RICHFLOW_SUBNORMAL_MODE_SSE
#elif defined(__aarch64__)
#define RICHFLOW_SUBNORMAL_MODE_AARCH64
#elif defined(__arm__) && defined(__ARM_FP) && !defined(__SOFTFP__)
#define RICHFLOW_SUBNORMAL_MODE_ARM
#endif

/// @file
/// What the processor does with subnormal numbers, those between zero and the smallest normal number (2e-308 in double,
/// 1e-38 in float). On Intel processors an operation with one takes over a hundred cycles, and in training they are not
/// rare: the gradient of a sample that fits well and the velocity of a dead unit become so small, and stay so.

namespace richflow {

/// Whether a thread computes with subnormal numbers, or treats them as zero: operands and results alike.
class SubnormalMode {
 public:
  /// Whether this processor has the switch at all (x86 with SSE2, Arm). Elsewhere nothing here has an effect.
  static constexpr bool is_supported =
#if defined(RICHFLOW_SUBNORMAL_MODE_SSE) || defined(RICHFLOW_SUBNORMAL_MODE_AARCH64) || \
    defined(RICHFLOW_SUBNORMAL_MODE_ARM)
      true;
#else
      false;
#endif

  /// That of the calling thread.
  [[nodiscard]] static SubnormalMode of_this_thread() { return SubnormalMode(read() & bits); }
  /// Subnormal numbers are zero.
  [[nodiscard]] static SubnormalMode flush() { return SubnormalMode(bits); }
  /// Subnormal numbers are kept, as the language prescribes.
  [[nodiscard]] static SubnormalMode keep() { return SubnormalMode(0); }

  /// Makes this the mode of the calling thread; rounding, exception flags and masks stay.
  void apply() const { write((read() & ~bits) | value_); }

  friend bool operator==(const SubnormalMode&, const SubnormalMode&) = default;

 private:
#if defined(RICHFLOW_SUBNORMAL_MODE_SSE)
  using Word = std::uint32_t;
  static constexpr Word bits = 0x8040;  // flush to zero, denormals are zero
  [[nodiscard]] static Word read() { return static_cast<Word>(_mm_getcsr()); }
  static void write(Word word) { _mm_setcsr(word); }
#elif defined(RICHFLOW_SUBNORMAL_MODE_AARCH64)
  using Word = std::uint64_t;
  static constexpr Word bits = Word(1) << 24;
  [[nodiscard]] static Word read() {
    Word word;
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(word));
    return word;
  }
  static void write(Word word) { __asm__ __volatile__("msr fpcr, %0" : : "r"(word) : "memory"); }
#elif defined(RICHFLOW_SUBNORMAL_MODE_ARM)
  using Word = std::uint32_t;
  static constexpr Word bits = Word(1) << 24;
  [[nodiscard]] static Word read() {
    Word word;
    __asm__ __volatile__("vmrs %0, fpscr" : "=r"(word));
    return word;
  }
  static void write(Word word) { __asm__ __volatile__("vmsr fpscr, %0" : : "r"(word) : "memory"); }
#else
  using Word = std::uint32_t;
  static constexpr Word bits = 0;
  [[nodiscard]] static Word read() { return 0; }
  static void write(Word /*word*/) {}
#endif

  explicit SubnormalMode(Word value) : value_(value) {}

  Word value_;
};

/// A scope with a given mode for the calling thread; the mode before it is restored at its end, also by an exception.
/// The library's loops (`integrate`, `Sgd`, `evaluate`) flush, and so does EffectiveStart, which works in every step.
/// The functions of the caller that they call between steps (observers, events, what is saved, callbacks) have the
/// caller's own mode.
class SubnormalScope {
 public:
  /// From here to the end of the scope.
  explicit SubnormalScope(SubnormalMode mode) : before_(SubnormalMode::of_this_thread()) { mode.apply(); }
  ~SubnormalScope() { before_.apply(); }
  SubnormalScope(const SubnormalScope&) = delete;
  SubnormalScope& operator=(const SubnormalScope&) = delete;

 private:
  SubnormalMode before_;
};

}  // namespace richflow

#undef RICHFLOW_SUBNORMAL_MODE_SSE
#undef RICHFLOW_SUBNORMAL_MODE_AARCH64
#undef RICHFLOW_SUBNORMAL_MODE_ARM
