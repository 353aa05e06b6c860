// must not compile: richflow: the model's make_evaluation does not fit
#include "richflow/models/diagonal.hpp"
#include "richflow/models/evaluation.hpp"

using namespace richflow;

struct Net : SquaredDiagonalNet<double> {
  using SquaredDiagonalNet<double>::SquaredDiagonalNet;
#ifdef MUST_COMPILE
  Evaluation<double> make_evaluation(Index max_batch, ParallelOptions) const {
    return richflow::make_evaluation(static_cast<const SquaredDiagonalNet<double>&>(*this), max_batch);
  }
#else
  AnyEvaluation<double>* make_evaluation(Index) const { return nullptr; }
#endif
};

Index use(const Net& net) { return make_evaluation(net, 3).max_batch(); }
