// Steps allocate nothing: neither Eigen (its switch asserts) nor anything else (operator new counts). The observer
// starts the watch after three steps and every later step must leave it at zero.

#define EIGEN_RUNTIME_NO_MALLOC
#include <cstdlib>
#include <new>

#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "support/catch.hpp"
#include "support/problems.hpp"

namespace {
std::size_t allocations = 0;
}  // namespace

// The address sanitizer has an operator new of its own; under it, Eigen's switch watches alone.
#if defined(__SANITIZE_ADDRESS__)
#define TEST_COUNTS_ALLOCATIONS 0
#elif defined(__has_feature)
#define TEST_COUNTS_ALLOCATIONS !__has_feature(address_sanitizer)
#else
#define TEST_COUNTS_ALLOCATIONS 1
#endif

#if TEST_COUNTS_ALLOCATIONS
// Not inlined: g++ would warn of the free() that it then sees beside a `new` of the library.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif

using namespace richflow;
using namespace test_support;

namespace {

/// Forbids allocation from its third call on, until it is destroyed.
class Watch {
 public:
  Watch() = default;
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch() { Eigen::internal::set_is_malloc_allowed(true); }

  Action operator()(const StepView<double>& view) {
    if (watched_ >= 0) in_steps_ += allocations - before_;
    if (view.step >= 3) {
      ++watched_;
      Eigen::internal::set_is_malloc_allowed(false);
    }
    before_ = allocations;
    if (watched_ == wanted) {
      Eigen::internal::set_is_malloc_allowed(true);
      return Action::stop;
    }
    return Action::proceed;
  }

  static constexpr Index wanted = 150;  // three looks for a stall among them

  [[nodiscard]] Index watched() const { return watched_; }
  [[nodiscard]] std::size_t allocations_in_steps() const { return in_steps_; }

 private:
  Index watched_ = -1;
  std::size_t in_steps_ = 0;
  std::size_t before_ = 0;
};

/// A field whose arguments are vectors, which an Eigen::Ref would have to be copied to.
struct DecayOfVectors : Decay {
  void operator()(double t, const Vector<double>& y, VectorRef<double> dy) const { Decay::operator()(t, y, dy); }
  [[nodiscard]] double loss(const Vector<double>& y) const { return Decay::loss(y); }
};

template <class St, class Controller, class Problem = Decay>
void check(const St& stepper, const Controller& controller, IntegrateOptions<double> options,
           const Problem& problem = decay({0.5, 1.0, 1.5, 200.0})) {
  Watch watch;
  options.observers = {watch};
  const auto solution = integrate(problem, Vector<double>::Ones(4), TimeSpan{0, 10}, stepper, controller, options);
  CHECK(solution.status == Status::stopped_by_observer);
  CHECK(watch.watched() == Watch::wanted);
  CHECK(watch.allocations_in_steps() == 0);
}

}  // namespace

#if TEST_COUNTS_ALLOCATIONS
TEST_CASE("the switches work: an allocation is seen") {
  const std::size_t before = allocations;
  void* const memory = ::operator new(100);  // a call, for a new-expression may be optimized away
  const std::size_t after = allocations;
  ::operator delete(memory);
  CHECK(after == before + 1);
}
#endif

TEST_CASE("no step of the loop allocates, whatever the stepper, controller and events") {
  const PiController<> adaptive{.tolerance = {.relative = 1e-8, .absolute = 1e-10}};
  const ConstantStep<> constant{.step = 0.005};
  for (const IntegrateOptions<double>& options :
       {IntegrateOptions<double>{}, IntegrateOptions<double>{.events = {loss_below(1e-30)}},
        IntegrateOptions<double>{.events = {stationary(1e-30)}},
        IntegrateOptions<double>{
            .events = {zero_crossing("far", [](double, const Vector<double>& y) { return y(0) - 1e-9; })}}}) {
    check(DormandPrince{}, adaptive, options);
    check(DormandPrince{}, constant, options);
    check(RungeKutta4{}, constant, options);
    check(Euler{}, constant, options);
    check(Midpoint{}, constant, options);
    check(DormandPrince{}, adaptive, options, DecayOfVectors{decay({0.5, 1.0, 1.5, 200.0})});
  }
}
