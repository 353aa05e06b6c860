// must not compile: richflow: the model's is_smooth does not fit
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/models/diagonal.hpp"

using namespace richflow;

struct Net : SquaredDiagonalNet<double> {
  using SquaredDiagonalNet<double>::SquaredDiagonalNet;
#ifdef MUST_COMPILE
  static constexpr bool is_smooth = true;
#else
  bool is_smooth() const { return true; }
#endif
};

void use(const Dataset<>& dataset) { GradientFlow flow(Net(2), dataset); }
