#include "richflow/integrate/vector_field.hpp"
#include "richflow/models/model.hpp"
#include "richflow/regularizers/mirror_map.hpp"

#include <limits>

#include "support/catch.hpp"

using namespace richflow;

// A plain class with the named members fits, and a class that lacks one of them, or has it non-const, does not.

namespace {

struct LinearModel {
  using Scalar = double;
  Index d = 2;
  Index num_parameters() const { return d; }
  void predict(ConstVectorRef<double> w, ConstMatrixRef<double> X, VectorRef<double> out) const { out = X * w; }
  void vjp(ConstVectorRef<double>, ConstMatrixRef<double> X, ConstVectorRef<double> r, VectorRef<double> out) const {
    out = X.transpose() * r;
  }
};

struct WithJvp : LinearModel {
  void jvp(ConstVectorRef<double>, ConstMatrixRef<double> X, ConstVectorRef<double> v, VectorRef<double> out) const {
    out = X * v;
  }
};

struct WithBeta : LinearModel {
  Index num_inputs() const { return d; }
  void beta(ConstVectorRef<double> w, VectorRef<double> out) const { out = w; }
};

struct WithInvariant : LinearModel {
  Vector<double> invariant(ConstVectorRef<double>) const { return Vector<double>::Zero(1); }
};

struct NoScalar {
  Index num_parameters() const { return 1; }
};

struct NonConstPredict {
  using Scalar = double;
  Index num_parameters() const { return 1; }
  void predict(ConstVectorRef<double>, ConstMatrixRef<double>, VectorRef<double>) {}
  void vjp(ConstVectorRef<double>, ConstMatrixRef<double>, ConstVectorRef<double>, VectorRef<double>) const {}
};

struct NoVjp {
  using Scalar = double;
  Index num_parameters() const { return 1; }
  void predict(ConstVectorRef<double>, ConstMatrixRef<double>, VectorRef<double>) const {}
};

struct Decay {
  using Scalar = double;
  Index dimension() const { return 1; }
  void operator()(double, ConstVectorRef<double> y, VectorRef<double> dy) const { dy = -y; }
};

struct DecayWithLoss : Decay {
  double loss(ConstVectorRef<double> y) const { return y.squaredNorm(); }
};

struct DecayWithJacobian : Decay {
  void negative_jacobian(double, ConstVectorRef<double>, MatrixRef<double> S) const { S(0, 0) = 1.0; }
};

struct DecayOpenedUp : DecayWithLoss {
  Index num_residuals() const { return 1; }
  void residual(ConstVectorRef<double> w, VectorRef<double> r) const { r = w; }
  void vjp(ConstVectorRef<double>, ConstVectorRef<double> r, VectorRef<double> out) const { out = r; }
};

struct HalfSquare {
  using Scalar = double;
  Index dimension() const { return 1; }
  double value(ConstVectorRef<double> beta) const { return 0.5 * beta.squaredNorm(); }
  void gradient(ConstVectorRef<double> beta, VectorRef<double> out) const { out = beta; }
};

struct HalfSquareMirror : HalfSquare {
  Scale<> alpha = Scale<>::from_log(0.0);
  void mirror(ConstVectorRef<double> z, VectorRef<double> beta, VectorRef<double> curvature) const {
    beta = z;
    curvature.setOnes();
  }
  double conjugate(ConstVectorRef<double> z) const { return 0.5 * z.squaredNorm(); }
  double max_step(ConstVectorRef<double>, ConstVectorRef<double>) const {
    return std::numeric_limits<double>::infinity();
  }
  Scale<> scale() const { return alpha; }
  HalfSquareMirror with_scale(Scale<> scale) const {
    HalfSquareMirror other = *this;
    other.alpha = scale;
    return other;
  }
  double homogeneity() const { return 2.0; }
  double dual_rate() const { return 1.0; }
};

/// A number type is part of the concept: this one's members take double where the scalar is float.
struct WrongScalar : HalfSquare {
  using Scalar = float;
};

}  // namespace

TEST_CASE("models are recognized by their members") {
  CHECK(Model<LinearModel>);
  CHECK(HasJvp<WithJvp>);
  CHECK(LinearPredictor<WithBeta>);
  CHECK(HasInvariant<WithInvariant>);
  CHECK_FALSE(HasJvp<LinearModel>);
  CHECK_FALSE(LinearPredictor<LinearModel>);
  CHECK_FALSE(HasInvariant<LinearModel>);
  CHECK_FALSE(Model<NoScalar>);
  CHECK_FALSE(Model<NonConstPredict>);
  CHECK_FALSE(Model<NoVjp>);
  CHECK_FALSE(Model<Decay>);
  CHECK_FALSE(Model<int>);
}

TEST_CASE("vector fields are recognized by their members") {
  CHECK(VectorField<Decay>);
  CHECK(HasLoss<DecayWithLoss>);
  CHECK(SymmetricStiffField<DecayWithJacobian>);
  CHECK(TangentFlow<DecayOpenedUp>);
  CHECK_FALSE(HasLoss<Decay>);
  CHECK_FALSE(SymmetricStiffField<Decay>);
  CHECK_FALSE(TangentFlow<DecayWithLoss>);
  CHECK_FALSE(VectorField<LinearModel>);
}

TEST_CASE("regularizers are recognized by their members") {
  CHECK(Regularizer<HalfSquare>);
  CHECK(MirrorMap<HalfSquareMirror>);
  CHECK_FALSE(MirrorMap<HalfSquare>);
  CHECK_FALSE(Regularizer<WrongScalar>);
  CHECK_FALSE(Regularizer<LinearModel>);
}
