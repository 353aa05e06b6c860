// The main roads on the stack that docs/steppers_and_tolerances.md asks of a caller's own thread. The stack is painted
// before and looked at after, so that a road that needs more fails here and does not crash on a small system.

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "richflow/data/labelled_dataset.hpp"
#include "richflow/flow/dual_flow.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/exponential_tangent.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/integrate/rosenbrock.hpp"
#include "richflow/kernel/tangent_kernel.hpp"
#include "richflow/minimizers/min_norm.hpp"
#include "richflow/minimizers/mirror_path.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/problems/sparse_regression.hpp"
#include "richflow/regularizers/hypentropy.hpp"
#include "richflow/train/sgd.hpp"
#include "support/catch.hpp"
#include "support/random_inputs.hpp"

using namespace richflow;
using namespace test_support;

namespace {

/// docs/steppers_and_tolerances.md promises this.
constexpr std::size_t documented = std::size_t(512) << 10;

/// Bytes of stack that `work` uses on a thread of its own.
std::size_t stack_used(std::function<void()> work) {
  constexpr std::size_t page = 16384, size = std::size_t(4) << 20;
  constexpr unsigned char paint = 0xA5;
  std::vector<unsigned char> memory(size + page, paint);
  void* start = memory.data();
  std::size_t space = memory.size();
  REQUIRE(std::align(page, size, start, space) != nullptr);
  const auto* stack = static_cast<const unsigned char*>(start);
  pthread_attr_t attributes;
  REQUIRE(pthread_attr_init(&attributes) == 0);
  REQUIRE(pthread_attr_setstack(&attributes, start, size) == 0);
  pthread_t thread;
  const auto run = [](void* w) -> void* {
    (*static_cast<std::function<void()>*>(w))();
    return nullptr;
  };
  REQUIRE(pthread_create(&thread, &attributes, run, &work) == 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  const auto* touched = std::find_if(stack, stack + size, [](unsigned char c) { return c != paint; });
  return static_cast<std::size_t>(stack + size - touched);
}

}  // namespace

TEST_CASE("the main roads need no more stack than documented") {
  const Dataset<> data = sparse_regression({.num_samples = 100, .num_inputs = 400, .seed = 1}).dataset;
  RandomStream random(5);
  const Dataset small(random_matrix(random, 60, 8), random_vector(random, 60));
  const ReluNetwork<double> net(8, {200, 150});
  const Vector<double> w0 = net.initial_parameters(random, Scale<>::from_value(1));
  const PiController<> control{.tolerance = {1e-3, 1e-6}};
  Vector<int> classes(200);
  for (Index n = 0; n < 200; ++n) classes[n] = static_cast<int>(n % 10);
  const LabelledDataset<float> labelled(random_matrix(random, 200, 784).cast<float>(), classes, 10);
  const ReluNetwork<float> wide(784, {600}, true, 10);
  const Vector<float> wide_w0 = wide.initial_parameters(random, Scale<float>::from_value(1));

  std::vector<std::size_t> used;
  const auto road = [&](std::function<void()> work) { used.push_back(stack_used(std::move(work))); };
  road([&] {
    const auto Q = Hypentropy<>::uniform(400, Scale<>::from_log(-20));
    static_cast<void>(MirrorPath<Hypentropy<>>(data, Q).solve(Q.scale()));
  });
  road([&] { static_cast<void>(min_l1_interpolator(data)); });
  road([&] {
    const DualFlow<Hypentropy<>> flow(Hypentropy<>::uniform(400, Scale<>::from_log(-20)), data);
    static_cast<void>(integrate(flow, flow.initial_state(), TimeSpan{0, 10 * flow.first_step()}, Ros34Pw2{},
                                PiController<>{.tolerance = {1e-3, 1e-6}, .first_step = flow.first_step()}));
  });
  const GradientFlow flow(net, small);
  road([&] { static_cast<void>(integrate(flow, w0, TimeSpan{0, 1e-3}, DormandPrince{}, control)); });
  road([&] { static_cast<void>(integrate(flow, w0, TimeSpan{0, 1e-3}, ExponentialTangent{}, control)); });
  road([&] { static_cast<void>(tangent_kernel(net, w0, small.X())); });
  road([&] {
    SgdOptions<float> options;
    options.batch_size = 100;
    options.momentum = 0.9F;
    options.max_epochs = 1;
    static_cast<void>(Sgd(wide, labelled, wide_w0, options).run());
  });
  for (std::size_t i = 0; i < used.size(); ++i) {
    INFO("road " << i << " needs " << used[i] << " bytes");
    CHECK(used[i] > 4096);  // the work was done there
    CHECK(used[i] <= documented);
  }
}
#endif
