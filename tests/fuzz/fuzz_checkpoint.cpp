#include <sstream>

#include "fuzz.hpp"
#include "richflow/integrate/checkpoint.hpp"

using namespace richflow;

namespace {

template <class S>
std::string written(const IntegrationState<S>& state) {
  std::ostringstream stream;
  save_checkpoint(stream, state);
  return stream.str();
}

template <class S>
void read_back(const std::string& content) {
  try {
    std::istringstream stream(content);
    const std::string text = written(load_checkpoint<S>(stream));
    std::istringstream again(text);
    fuzz::expect(written(load_checkpoint<S>(again)) == text, "the state reads back");
  } catch (const Error&) {
  }
}

template <class S>
IntegrationState<S> state_of(Index size) {
  IntegrationState<S> state;
  state.t = S(0.1);
  state.y = Vector<S>::LinSpaced(size, S(-1), S(1) / S(3));
  state.step = 7;
  state.memory = S(1e-30) * state.y;
  return state;
}

}  // namespace

std::vector<std::string> fuzz::seeds() {
  const auto lines = [](const std::string& file) { return detail::opened_checkpoint(detail::checkpoint_title, file); };
  const std::string whole = written(state_of<double>(2));
  return {whole,
          lines(whole),
          lines(written(IntegrationState<double>())),
          lines(written(state_of<double>(detail::binary_entries))),
          lines(written(state_of<float>(3))),
          lines(written(state_of<float>(detail::binary_entries)))};
}

void fuzz::try_input(const std::string& content) {
  // Behind the checksum, which no search meets by chance.
  for (const std::string& text : {content, sealed_lines(detail::checkpoint_title, content)}) {
    read_back<double>(text);
    read_back<float>(text);
  }
}
