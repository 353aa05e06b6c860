// Runs a sweep on the processes of an MPI launch: sweep_test_program FOLDER THREADS [full-disk]
// Exits with 0 when every process has the result that one process computes alone.

#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <string>

#include "richflow/core/random.hpp"
#include "richflow/sweep/mpi.hpp"
#include "richflow/sweep/sweep.hpp"

using namespace richflow;

namespace {

NamedNumbers numbers_of(const Cell& cell) {
  if (cell["N"] == 50.0 && cell["seed"] == 2.0) throw std::runtime_error("no luck");
  RandomStream random(7, cell.stream());
  double sum = 0.0;
  for (Index k = 0; k < 100 * (cell.integer("seed") % 20); ++k) sum += random.normal();  // unequal cost
  return {{"sum", sum}};
}

int run(const std::string& folder, int threads, bool full_disk) {
  const Sweep sweep{"mpi", Grid({Axis{"N", {40.0, 50.0, 60.0}}, seed_axis(100)}), {"sum"}};
  MpiExecutor executor(MPI_COMM_WORLD, {.threads = threads});
  SweepOptions options;
  options.folder = folder;
  if (full_disk && executor.is_root()) {
    std::signal(SIGXFSZ, SIG_IGN);
    const ::rlimit limit{2000, 2000};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 3;
  }
  try {
    const std::string table = run_sweep(sweep, numbers_of, options, executor).csv();
    if (full_disk) return 2;
    return table == run_sweep(sweep, numbers_of).csv() ? 0 : 1;
  } catch (const Error& error) {
    if (executor.is_root()) std::cout << error.what() << '\n';
    return full_disk ? 0 : 4;
  }
}

}  // namespace

int main(int argc, char** argv) {
  int support = MPI_THREAD_SINGLE;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &support);
  const int code = argc >= 3 ? run(argv[1], std::atoi(argv[2]), argc > 3) : 5;
  MPI_Finalize();
  return code;
}
