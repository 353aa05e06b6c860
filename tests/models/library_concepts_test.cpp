// What the library brings fits its own concepts. Not said in the headers, where every program would pay for it.

#include "richflow/flow/lifted_flow.hpp"
#include "richflow/integrate/vector_field.hpp"
#include "richflow/losses/cross_entropy.hpp"
#include "richflow/losses/margin_losses.hpp"
#include "richflow/losses/squared_loss.hpp"
#include "richflow/models/conv_network.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/models/fully_connected.hpp"
#include "richflow/models/linear_classifier.hpp"
#include "richflow/models/matrix_factorization.hpp"
#include "richflow/models/model.hpp"
#include "richflow/models/two_layer_diagonal.hpp"
#include "richflow/models/univariate_relu.hpp"
#include "richflow/regularizers/depth_hypentropy.hpp"
#include "richflow/regularizers/distance_to_initialization.hpp"
#include "richflow/regularizers/hypentropy.hpp"
#include "richflow/regularizers/mirror_map.hpp"
#include "richflow/regularizers/norms.hpp"
#include "support/catch.hpp"

using namespace richflow;

TEST_CASE("every model fits the concepts of what it offers") {
  STATIC_REQUIRE(LinearPredictor<SquaredDiagonalNet<double>>);
  STATIC_REQUIRE(HasJvp<SquaredDiagonalNet<double>>);
  STATIC_REQUIRE(HasInvariant<SquaredDiagonalNet<double>>);
  STATIC_REQUIRE((LinearPredictor<DiagonalNet<double>> && HasJvp<DiagonalNet<double>>));
  STATIC_REQUIRE((LinearPredictor<TwoLayerDiagonalNet<double>> && HasJvp<TwoLayerDiagonalNet<double>>));
  STATIC_REQUIRE(HasInvariant<TwoLayerDiagonalNet<double>>);
  STATIC_REQUIRE((HasHessianProduct<DiagonalNet<double>> && HasHessianProduct<TwoLayerDiagonalNet<double>>));
  STATIC_REQUIRE(HasHessianProduct<MatrixFactorization<double>>);
  STATIC_REQUIRE(!HasHessianProduct<ReluNetwork<double>>);
  STATIC_REQUIRE(LinearPredictor<MatrixFactorization<double>>);
  STATIC_REQUIRE((LinearPredictor<SymmetricFactorization<double>>));
  STATIC_REQUIRE((HasJvp<MatrixFactorization<double>>));
  STATIC_REQUIRE((HasInvariant<MatrixFactorization<double>>));
  STATIC_REQUIRE(!HasInvariant<SymmetricFactorization<double>>);
  STATIC_REQUIRE(HasJvp<ReluNetwork<double>>);
  STATIC_REQUIRE(HasInvariant<ReluNetwork<double>>);
  STATIC_REQUIRE(HasUnits<ReluNetwork<double>>);
  STATIC_REQUIRE((HasEvaluation<ReluNetwork<double>> && HasOutputs<ReluNetwork<double>>));
  STATIC_REQUIRE(HasInvariant<DeepLinearNetwork<double>>);
  STATIC_REQUIRE(!HasInvariant<FullyConnected<double, activation::Tanh>>);
  STATIC_REQUIRE(HasJvp<UnivariateRelu<double>>);
  STATIC_REQUIRE(HasInvariant<UnivariateRelu<double>>);
  STATIC_REQUIRE(HasEvaluation<UnivariateRelu<double>>);
  STATIC_REQUIRE(HasUnits<UnivariateRelu<double>>);
  STATIC_REQUIRE(HasJvp<ConvNetwork<double>>);
  STATIC_REQUIRE((HasEvaluation<ConvNetwork<float>> && HasEvaluation<ConvNetwork<double>>));
  STATIC_REQUIRE((HasOutputs<ConvNetwork<double>> && HasOutputs<LinearClassifier<double>>));
  STATIC_REQUIRE((HasEvaluation<LinearClassifier<double>> && HasJvp<LinearClassifier<double>>));
}

TEST_CASE("every loss, regularizer and flow fits the concepts of what it offers") {
  STATIC_REQUIRE((QuadraticLoss<SquaredLoss<double>, double>));
  STATIC_REQUIRE((ConvexClassLoss<CrossEntropy<double>, double>));
  STATIC_REQUIRE((ConvexLoss<LogisticLoss<double>, double> && ConvexLoss<ExponentialLoss<double>, double>));
  STATIC_REQUIRE((Loss<LogisticLoss<double>, double> && !QuadraticLoss<LogisticLoss<double>, double>));
  STATIC_REQUIRE((Loss<ExponentialLoss<double>, double> && !QuadraticLoss<ExponentialLoss<double>, double>));
  STATIC_REQUIRE(MirrorMap<Hypentropy<>>);
  STATIC_REQUIRE(BoundedMirrorMap<DepthHypentropy<>>);
  STATIC_REQUIRE(Regularizer<DistanceToInitialization<>>);
  STATIC_REQUIRE((Regularizer<L1Norm<>> && Regularizer<L2Norm<>>));
  STATIC_REQUIRE((TangentFlow<LiftedFlow<MatrixFactorization<double>>>));
  STATIC_REQUIRE((HasLinearSolver<LiftedFlow<MatrixFactorization<double>>>));
}
