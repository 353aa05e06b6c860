// must not compile: richflow: the mirror map must have a const member `Scalar conjugate(
#include "richflow/flow/dual_flow.hpp"

using namespace richflow;

// Q(beta) = |beta|^2 / 2, its own mirror image.
struct Euclidean {
  using Scalar = double;
  Index dimension() const { return 2; }
  double value(ConstVectorRef<double> beta) const { return beta.squaredNorm() / 2; }
  void gradient(ConstVectorRef<double> beta, VectorRef<double> out) const { out = beta; }
  void mirror(ConstVectorRef<double> z, VectorRef<double> beta, VectorRef<double> curvature) const {
    beta = z;
    curvature.setOnes();
  }
#ifdef MUST_COMPILE
  double conjugate(ConstVectorRef<double> z) const { return z.squaredNorm() / 2; }
#endif
  double max_step(ConstVectorRef<double>, ConstVectorRef<double>) const { return 1; }
  Scale<> scale() const { return Scale<>::from_log(0); }
  Euclidean with_scale(Scale<>) const { return *this; }
  double homogeneity() const { return 2; }
  double dual_rate() const { return 2; }
};

void use(const Dataset<>& dataset) { DualFlow flow(Euclidean{}, dataset); }
