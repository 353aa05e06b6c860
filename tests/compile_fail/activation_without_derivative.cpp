// must not compile: richflow: the activation must have
#include "richflow/models/fully_connected.hpp"

using namespace richflow;

struct Square {
  template <class S>
  static S value(S z) {
    return z * z;
  }
#ifdef MUST_COMPILE
  template <class S>
  static S slope(S z) {
    return S(2) * z;
  }
#endif
};

Index use() { return FullyConnected<double, Square>(2, {3}).num_parameters(); }
