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
IntegrationState<S> read(const std::string& content) {
  std::istringstream stream(content);
  return load_checkpoint<S>(stream);
}

template <class S>
void read_back(const std::string& content) {
  const auto state = fuzz::unless_refused([&] { return read<S>(content); });
  if (!state) return;
  const std::string text = written(*state);
  fuzz::expect(written(fuzz::accepted([&] { return read<S>(text); })) == text, "the state reads back");
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

/// The file of a state, which reads as it.
template <class S>
std::string seed(const IntegrationState<S>& state) {
  std::string content = written(state);
  const auto back = fuzz::accepted([&] { return read<S>(content); });
  fuzz::expect(back.t == state.t && back.y == state.y && back.step == state.step && back.memory == state.memory,
               "the state is what was written");
  fuzz::expect(written(back) == content, "the state is written as it was");
  return content;
}

}  // namespace

std::vector<std::string> fuzz::seeds() {
  const auto lines = [](const std::string& content) { return lines_of(detail::checkpoint_title, content); };
  const std::string whole = seed(state_of<double>(2));
  return {whole,
          lines(whole),
          lines(seed(IntegrationState<double>())),
          lines(seed(state_of<double>(detail::binary_entries))),
          lines(seed(state_of<float>(3))),
          lines(seed(state_of<float>(detail::binary_entries)))};
}

void fuzz::try_input(const std::string& content) {
  // Behind the checksum, which no search meets by chance.
  for (const std::string& text : {content, sealed_lines(detail::checkpoint_title, content)}) {
    read_back<double>(text);
    read_back<float>(text);
  }
}
