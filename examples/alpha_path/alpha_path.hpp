#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "algorithm.hpp"
#include "claims.hpp"
#include "csv.hpp"
#include "plot.hpp"
#include "richflow/core/scale.hpp"
#include "richflow/core/types.hpp"
#include "richflow/data/dataset.hpp"
#include "richflow/limits/saddle_path.hpp"

/// @file
/// Where gradient flow on a diagonal net of any depth ends, for one data set and many initialization scales.

namespace richflow::examples {

/// Name of this program in claims.json.
inline const std::set<std::string> alpha_path_panels = {"alpha_path"};

/// Data to fit, and data to judge the fit by where there are some.
struct AlphaPathProblem {
  std::string name;                          ///< for the picture
  Dataset<> train;                           ///< X is N x d, y has N labels
  std::optional<Dataset<>> test = {};        ///< labels -1 and +1
  std::optional<Vector<double>> shape = {};  ///< w0, d positive entries; none: all ones
};

/// Two classes of images in MNIST's format (see idx.hpp): `per_class` training images of each, drawn without
/// replacement by `seed`, pixels in [0, 1], labels -1 (first class) and +1, and all test images of both.
/// Throws FileError for files, ArgumentError when the classes are equal or have too few images.
[[nodiscard]] AlphaPathProblem image_problem(const std::filesystem::path& folder, std::pair<int, int> classes,
                                             Index per_class, std::uint64_t seed);

/// Data from files, each CSV or NPY, by its content: `x` has N rows and d columns, `y` one column with N rows, `shape`
/// (empty: none) one column with d rows. Throws FileError, ArgumentError where `format` speaks of CSV files and there
/// is none, or what Dataset throws.
[[nodiscard]] AlphaPathProblem problem_of_files(const std::filesystem::path& x, const std::filesystem::path& y,
                                                const std::filesystem::path& shape, const CsvFormat& format = {});

/// Share of the test data whose label has the sign of `<x, beta>`; NaN without test data.
[[nodiscard]] double test_accuracy(const AlphaPathProblem& problem, const Vector<double>& beta);

/// What to compute.
struct AlphaPathOptions {
  Index depth = 2;                   ///< D >= 2
  std::vector<Scale<>> scales = {};  ///< empty: `num_scales` from the kernel end of this data well into the rich regime
  int num_scales = 73;
  bool simulate = false;                           ///< also integrate the flow
  int threads = 0;                                 ///< for the integrations; the solver follows one path
  std::optional<AlgorithmOptions> algorithm = {};  ///< run at every scale, beside the flow
  bool saddles = false;                            ///< also follow the path from saddle to saddle as alpha -> 0
};

/// One scale, by one road.
struct AlphaPathRow {
  Scale<> scale = Scale<>::from_log(0.0);
  bool simulated = false;
  Vector<double> beta = {};
  double l1 = 0.0;
  double l2 = 0.0;
  double primal_residual = 0.0;
  double kkt_residual = 0.0;
  double duality_gap = 0.0;
  Index newton_steps = 0;  ///< solved rows
  double seconds = 0.0;
  double test_accuracy = 0.0;  ///< share of the test data with the right sign; NaN without test data
  double time = 0.0;           ///< simulated rows: flow time at the end
  Index steps = 0;             ///< simulated rows: time steps
  bool ok = false;
  std::string message = {};  ///< why it is not ok
};

/// The path: rows from the largest alpha to the smallest, the simulated row of a scale after the solved one.
struct AlphaPath {
  Index depth = 2;
  std::vector<AlphaPathRow> rows = {};
  Vector<double> kernel_end = {};   ///< interpolator of minimum `sum beta_i^2 / w0_i^(2D-2)`
  Vector<double> rich_end = {};     ///< an interpolator of minimum `sum |beta_i| / w0_i^(D-2)`, at a vertex
  bool has_unique_rich_end = true;  ///< false where others of that norm are not excluded; the limit is then one of them
  double kernel_accuracy = 0.0;     ///< test accuracies of these two; NaN without test data
  double rich_accuracy = 0.0;
  std::string algorithm = {};                     ///< its name and parameters; empty: none was run
  std::vector<AlgorithmRow> algorithm_rows = {};  ///< one for each scale, from the largest alpha
  std::optional<SaddlePath<>> saddles = {};       ///< where it was asked for
  std::vector<Claim> claims = {};
};

/// Computes the path. Equal scales are taken once. Throws InfeasibleError when nothing fits the data, ArgumentError
/// for a depth below 2, a shape that is not positive, parameters of the algorithm out of range, and where it diverges
/// at every scale.
[[nodiscard]] AlphaPath alpha_path(const AlphaPathProblem& problem, const AlphaPathOptions& options);

/// Names of the tables that a user reads, whatever the options.
inline const std::vector<std::string> alpha_path_tables = {"beta.csv",      "beta.npy",           "log_alpha.npy",
                                                           "path.csv",      "beta_simulated.csv", "beta_simulated.npy",
                                                           "algorithm.csv", "saddles.csv"};

/// Those of them that `write_alpha_path_tables` writes: the last ones are there when the flow was integrated, an
/// algorithm run and the saddles followed.
[[nodiscard]] std::vector<std::string> alpha_path_tables_of(const AlphaPath& path);

/// Writes `beta.csv` (the minimizers; as arrays for NumPy `beta.npy`, scales x d, and `log_alpha.npy`),
/// `beta_simulated.csv` and `beta_simulated.npy` (where the flow was integrated), `algorithm.csv` (where the
/// algorithm ended, the prediction and the effective start), `saddles.csv` (the nonzero coefficients and the loss after
/// each jump, times in units of log(1/alpha) at depth 2 and of alpha^(2-D) beyond), `path.csv`, and what the picture
/// draws: `alpha_path_curves.csv` and `alpha_path_saddles.csv`.
void write_alpha_path_tables(const AlphaPathProblem& problem, const AlphaPath& path,
                             const std::filesystem::path& folder);

/// The picture of these tables.
[[nodiscard]] Picture alpha_path_picture(const AlphaPathProblem& problem, const AlphaPath& path);

}  // namespace richflow::examples
