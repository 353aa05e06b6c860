// must not compile: richflow: the loss's check_labels does not fit
#include <vector>

#include "richflow/flow/gradient_flow.hpp"
#include "richflow/models/diagonal.hpp"

using namespace richflow;

struct Half : SquaredLoss<double> {
#ifdef MUST_COMPILE
  void check_labels(ConstVectorRef<double> y) const { require(y.minCoeff() >= 0.0, "labels must not be negative"); }
#else
  void check_labels(const std::vector<double>& y) const { require(!y.empty(), "there must be labels"); }
#endif
};

void use(const Dataset<>& dataset) { GradientFlow flow(SquaredDiagonalNet<>(2), dataset, Half{}); }
