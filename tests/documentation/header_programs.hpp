// What the programs in the comments of headers only use. Nothing is defined: they are compiled, not linked.

#include <cmath>
#include <cstdint>
#include <functional>
#include <iostream>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "richflow/richflow.hpp"

// A block may show the use of this macro, which is empty where the library is compiled.
#undef RICHFLOW_EXTERN
#define RICHFLOW_EXTERN(instantiate)

namespace names {

using namespace richflow;

extern const Index d, width;
extern const std::uint64_t seed, cell;
extern const double h, infinity, lambda;
extern const Scale<> alpha, scale;
extern RandomStream random;

extern const Matrix<double> G, W, W1, W2, X, X_new, X_test, Y, truth;
extern const Vector<double> a, beta_star, nu, w, w0, y, y0;
extern Matrix<double> F, kernel;
extern Vector<double> beta, w_new;

extern const Dataset<double> data, dataset;
extern const LabelledDataset<double> classes, labelled;
extern const MatrixMeasurements<double> measurements;

extern const DiagonalNet<double> model;
extern const SquaredDiagonalNet<double> net;
extern const Hypentropy<double> Q;
extern const Start<> start;
extern const Linearized<DiagonalNet<double>> tangent;
extern EffectiveStart<double> effective;

extern const GradientFlow<DiagonalNet<double>> field, flow, problem;
extern const DualFlow<Hypentropy<double>> dual_flow;
extern const SaddlePath<> path;
extern const DormandPrince stepper;
extern const PiController<> controller;
extern const TimeSpan<> span;
extern IntegrateOptions<double> options;
extern StepSearchOptions<double> ladder;
extern SgdOptions<double> sgd;
extern std::istream& stream;

double l1_of(std::int64_t);
double population_error(const Vector<double>&, const Vector<double>&);
void use(const Vector<double>&);

}  // namespace names
