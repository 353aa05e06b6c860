// must not compile: richflow: the model's Samples do not fit
#include "richflow/models/evaluation.hpp"

using namespace richflow;

struct Measured {
  using Scalar = double;
#ifdef MUST_COMPILE
  using Samples = MatrixMeasurements<double>;
#else
  using Samples = MatrixMeasurements<float>;
#endif
  Index num_parameters() const { return 4; }
  template <class X>
  void predict(ConstVectorRef<double>, const X&, VectorRef<double> out) const {
    out.setZero();
  }
  template <class X>
  void vjp(ConstVectorRef<double>, const X&, ConstVectorRef<double>, VectorRef<double> out) const {
    out.setZero();
  }
};

Index use(const Measured& model) { return make_evaluation(model, 3).num_parameters(); }
