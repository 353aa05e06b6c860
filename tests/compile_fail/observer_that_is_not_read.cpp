// must not compile: richflow: an observer is kept in files by
#include "richflow/integrate/observer.hpp"

using namespace richflow;

struct Counter {
  Index count = 0;
  Action operator()(const StepView<double>&) {
    ++count;
    return Action::proceed;
  }
  void write(detail::CheckpointWriter& writer) const { writer.field("count", count); }
#ifdef MUST_COMPILE
  void read(detail::CheckpointReader& reader) { reader.field("count", count); }
#else
  Index read(const detail::CheckpointWriter&) { return count; }
#endif
};

ObserverRef<double> use(Counter& counter) { return counter; }
