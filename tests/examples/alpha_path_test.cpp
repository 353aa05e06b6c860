#include "alpha_path.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "csv.hpp"
#include "files.hpp"
#include "npy.hpp"
#include "richflow/core/error.hpp"
#include "richflow/core/random.hpp"
#include "richflow/data/table.hpp"
#include "richflow/flow/gradient_flow.hpp"
#include "richflow/integrate/explicit_rk.hpp"
#include "richflow/integrate/integrate.hpp"
#include "richflow/minimizers/hypentropy_path.hpp"
#include "richflow/minimizers/min_norm.hpp"
#include "richflow/models/diagonal.hpp"
#include "richflow/problems/sparse_regression.hpp"
#include "support/catch.hpp"
#include "support/pictures.hpp"
#include "support/reference.hpp"
#include "support/temporary_folder.hpp"

using namespace richflow::examples;
using richflow::Dataset;
using richflow::Index;
using richflow::Matrix;
using richflow::Scale;
using richflow::Vector;
using test_support::check_picture;
using test_support::message_contains;
using test_support::near;
using test_support::TemporaryFolder;

namespace {

/// X and y as a user would save them.
struct UserFiles {
  UserFiles(const TemporaryFolder& folder, const Matrix<double>& X, const Vector<double>& y)
      : x_path(folder.path() / "X.csv"), y_path(folder.path() / "y.csv") {
    std::vector<std::string> names;
    for (Index j = 0; j < X.cols(); ++j) names.push_back("x" + std::to_string(j));
    CsvWriter x_file(names), y_file({"y"});
    for (Index i = 0; i < X.rows(); ++i) {
      std::vector<CsvCell> cells;
      for (Index j = 0; j < X.cols(); ++j) cells.emplace_back(X(i, j));
      x_file.row(cells);
      y_file.row({y[i]});
    }
    x_file.write(x_path);
    y_file.write(y_path);
  }
  std::filesystem::path x_path;
  std::filesystem::path y_path;
};

richflow::SparseRegression<> small_problem() {
  richflow::SparseRegressionOptions options;
  options.num_samples = 15;
  options.num_inputs = 40;
  options.num_nonzero = 3;
  options.seed = 5;
  return richflow::sparse_regression(options);
}

std::string idx(unsigned magic, std::initializer_list<unsigned> shape, const std::string& values) {
  std::string bytes;
  const auto append = [&](unsigned value) {
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>((value >> shift) & 0xFFU);
  };
  append(magic);
  for (const unsigned size : shape) append(size);
  return bytes + values;
}

}  // namespace

TEST_CASE("a file without names, or with an index of its rows, has the ends that it should have once that is said") {
  const TemporaryFolder folder;
  const auto check_ends = [](const AlphaPathProblem& problem, const Vector<double>& kernel,
                             const Vector<double>& rich) {
    AlphaPathOptions options;
    options.num_scales = 9;
    const AlphaPath path = alpha_path(problem, options);
    REQUIRE(path.kernel_end.size() == kernel.size());
    // A few roundings of numbers of size one.
    CHECK((path.kernel_end - kernel).norm() <= 1e-14);
    CHECK((path.rich_end - rich).norm() <= 1e-14);
  };
  const auto x = folder.file("X.csv", "0,1,2\n1,0,0\n");
  const auto y = folder.file("y.csv", "1\n1\n");
  CHECK_THROWS_MATCHES(problem_of_files(x, y, {}), FileError, message_contains("--header no"));
  CsvFormat format;
  format.header = CsvFormat::Header::none;
  const AlphaPathProblem whole = problem_of_files(x, y, {}, format);
  CHECK(whole.train.num_samples() == 2);
  check_ends(whole, Vector<double>{{1, .2, .4}}, Vector<double>{{1, 0, .5}});
  const auto floats = folder.file("F.csv", "1.0e+00,2.0e+00\n1.0e+00,0.0e+00\n");
  check_ends(problem_of_files(floats, folder.file("f.csv", "1.0e+00\n0.0e+00\n"), {}, format), Vector<double>{{0, .5}},
             Vector<double>{{0, .5}});

  const auto indexed = folder.file("I.csv", ",a,b,c\n0,1,0,2\n1,0,1,2\n");
  const auto named = folder.file("i.csv", "y\n1\n1\n");
  CHECK_THROWS_MATCHES(problem_of_files(indexed, named, {}), FileError, message_contains("--index drop"));
  format = {};
  format.index = CsvFormat::Index::drop;
  check_ends(problem_of_files(indexed, named, {}, format), Vector<double>{{1. / 9, 1. / 9, 4. / 9}},
             Vector<double>{{0, 0, .5}});
}

TEST_CASE("alpha_path on a user's files gives the minimizers from the kernel to the rich end, and writes them") {
  const TemporaryFolder folder;
  const auto regression = small_problem();
  const UserFiles files(folder, regression.dataset.X(), regression.dataset.y());
  const AlphaPathProblem problem = problem_of_files(files.x_path, files.y_path, {});
  REQUIRE(problem.train.X() == regression.dataset.X());
  REQUIRE(problem.train.y() == regression.dataset.y());

  AlphaPathOptions options;
  for (const double log_alpha : {-2.0, 4.0, -400.0, 4.0}) options.scales.push_back(Scale<>::from_log(log_alpha));
  options.simulate = true;
  const AlphaPath path = alpha_path(problem, options);
  CHECK(all_hold(path.claims));
  CHECK(path.claims.size() == 3);
  REQUIRE(path.rows.size() == 6);
  for (std::size_t k = 0; k < 6; ++k) {
    const AlphaPathRow& row = path.rows[k];
    CHECK(row.simulated == (k % 2 == 1));
    CHECK(row.ok);
    CHECK(row.scale.log() == std::vector<double>{4.0, -2.0, -400.0}[k / 2]);
    const auto direct = richflow::minimize_hypentropy(problem.train, row.scale);
    // Solved to 1e-12; the integrated flow stops at a residual of 1e-8.
    CHECK((row.beta - direct.beta).norm() <= (row.simulated ? 1e-6 : 1e-10) * direct.beta.norm());
    CHECK(std::isnan(row.test_accuracy));
  }
  // Corrections are of relative order (beta / alpha^2)^2 = e^-16 and 1 / (2 * 400).
  CHECK((path.rows[0].beta - path.kernel_end).norm() <= 1e-4 * path.kernel_end.norm());
  CHECK((path.rows[4].beta - path.rich_end).norm() <= 2e-2 * path.rich_end.norm());
  CHECK(path.rich_end.lpNorm<1>() < path.rows[4].l1 * (1.0 + 1e-12));

  write_alpha_path_tables(problem, path, folder.path());
  const CsvTable solved = read_csv(folder.path() / "beta.csv");
  const CsvTable simulated = read_csv(folder.path() / "beta_simulated.csv");
  CHECK(solved.columns == std::vector<std::string>{"log_alpha", "i", "beta"});
  CHECK(simulated.columns == solved.columns);
  REQUIRE(solved.values.rows() == 3 * 40);
  REQUIRE(simulated.values.rows() == 3 * 40);
  for (Index i = 0; i < 40; ++i) {
    CHECK(solved.values(40 + i, 2) == path.rows[2].beta[i]);
    CHECK(simulated.values(40 + i, 2) == path.rows[3].beta[i]);
  }
  const Matrix<double> betas = read_npy(folder.path() / "beta_simulated.npy");
  REQUIRE(betas.rows() == 3);
  for (Index k = 0; k < 3; ++k)
    CHECK(Vector<double>(betas.row(k)) == path.rows[2 * static_cast<std::size_t>(k) + 1].beta);
  CHECK(read_npy_column(folder.path() / "log_alpha.npy") == Vector<double>{{4.0, -2.0, -400.0}});
  const std::string table = test_support::content_of(folder.path() / "path.csv");
  CHECK(table.substr(0, table.find('\n')) ==
        "log_alpha,alpha,l1,l2,primal_residual,kkt_residual,duality_gap,newton_steps,seconds,road,time,steps");
  CHECK(table.find(",simulated,") != std::string::npos);
  check_picture(alpha_path_picture(problem, path), folder.path());
  CHECK(std::filesystem::exists(folder.path() / "alpha_path.gp"));
}

TEST_CASE("without --simulate the tables have the plain columns, and scales follow from the data") {
  const TemporaryFolder folder;
  auto regression = small_problem();
  // A unit of y a million times larger moves the kernel end by log(1000).
  AlphaPathProblem problem{"large", Dataset(regression.dataset.X(), 1e6 * regression.dataset.y())};
  AlphaPathOptions options;
  options.num_scales = 5;
  const AlphaPath path = alpha_path(problem, options);
  CHECK(all_hold(path.claims));
  REQUIRE(path.rows.size() == 5);
  CHECK_THAT(path.rows[0].l2, near(path.kernel_end.norm(), 1e-3, 0.0));
  write_alpha_path_tables(problem, path, folder.path());
  CHECK_FALSE(std::filesystem::exists(folder.path() / "beta_simulated.csv"));
  check_picture(alpha_path_picture(problem, path), folder.path());
  const CsvTable table = read_csv(folder.path() / "path.csv");
  CHECK(table.columns == std::vector<std::string>{"log_alpha", "alpha", "l1", "l2", "primal_residual", "kkt_residual",
                                                  "duality_gap", "newton_steps", "seconds"});
  CHECK(table.values(4, 0) == path.rows[4].scale.log());
}

TEST_CASE("a shape changes the kernel end and not the rich one") {
  const TemporaryFolder folder;
  const auto regression = small_problem();
  const UserFiles files(folder, regression.dataset.X(), regression.dataset.y());
  std::string shape = "w0\n";
  for (int j = 0; j < 40; ++j) shape += std::to_string(0.5 + 0.05 * j) + "\n";
  const AlphaPathProblem problem = problem_of_files(files.x_path, files.y_path, folder.file("w0.csv", shape));
  const AlphaPathProblem plain = problem_of_files(files.x_path, files.y_path, {});
  AlphaPathOptions options;
  options.scales = {Scale<>::from_log(6.0), Scale<>::from_log(-20.0)};
  const AlphaPath shaped = alpha_path(problem, options);
  const AlphaPath uniform = alpha_path(plain, options);
  CHECK(all_hold(shaped.claims));
  CHECK((shaped.rows[0].beta - shaped.kernel_end).norm() <= 1e-4 * shaped.kernel_end.norm());
  CHECK((shaped.kernel_end - uniform.kernel_end).norm() > 1e-2 * uniform.kernel_end.norm());
  CHECK(shaped.rich_end == uniform.rich_end);
  const auto direct = richflow::minimize_hypentropy(problem.train, *problem.shape, Scale<>::from_log(-20.0));
  CHECK((shaped.rows[1].beta - direct.beta).norm() <= 1e-10 * direct.beta.norm());
}

TEST_CASE("alpha_path at depth 3 gives the tabulated limits, uniform and shaped, by both roads") {
  std::vector<std::string> names;
  for (int j = 0; j < 9; ++j) names.push_back("x" + std::to_string(j));
  const Dataset<> data(test_support::reference_matrix("limit_X.csv", names),
                       test_support::reference_matrix("limit_y.csv", {"y"}));
  const Vector<double> shape = test_support::reference_matrix("limit_shape.csv", {"w0"});
  const auto table = test_support::reference_table("limit_beta.csv");
  for (const std::string init : {"uniform", "shape"}) {
    AlphaPathProblem problem{init, data};
    if (init == "shape") problem.shape = shape;
    AlphaPathOptions options;
    options.depth = 3;
    options.simulate = true;
    for (const double log_alpha : {3.0, 0.0, -1.0, -3.0, -6.0, -10.0})
      options.scales.push_back(Scale<>::from_log(log_alpha));
    const AlphaPath path = alpha_path(problem, options);
    CHECK(all_hold(path.claims));
    REQUIRE(path.rows.size() == 12);
    int compared = 0;
    for (std::size_t k = 0; k < table.size(); ++k) {
      if (table.text(k, "D") != "3" || table.text(k, "init") != init) continue;
      const auto i = static_cast<Index>(table.number(k, "i"));
      for (const AlphaPathRow& row : path.rows) {
        if (row.scale.log() != table.number(k, "log_alpha")) continue;
        CAPTURE(init, row.scale.log(), row.simulated, i);
        // The residuals of both roads, 1e-12 and 1e-8, times the condition of this problem, below 10.
        const double tolerance = row.simulated ? 1e-7 : 1e-11;
        CHECK_THAT(row.beta[i], near(table.number(k, "beta"), 0.0, tolerance * row.beta.cwiseAbs().maxCoeff()));
        ++compared;
      }
    }
    CHECK(compared == 12 * 9);
    // Corrections at alpha = e^3 are of relative order (beta / alpha^3)^2 = e^-18, at e^-10 of order alpha^(D-2) =
    // e^-10.
    CHECK((path.rows[0].beta - path.kernel_end).norm() <= 1e-6 * path.kernel_end.norm());
    CHECK((path.rows[10].beta - path.rich_end).norm() <= 1e-3 * path.rich_end.norm());
  }
}

TEST_CASE("alpha_path at depth 5 ends where the weights end, on scales of its own") {
  const TemporaryFolder folder;
  const auto regression = small_problem();
  AlphaPathProblem problem{"deep", regression.dataset};
  problem.shape = Vector<double>::LinSpaced(40, 0.8, 1.3);
  AlphaPathOptions options;
  options.depth = 5;
  options.simulate = true;
  options.num_scales = 5;
  const AlphaPath path = alpha_path(problem, options);
  CHECK(all_hold(path.claims));
  REQUIRE(path.rows.size() == 10);
  // The ends are near: (beta / alpha^5)^2 / 20 at the top, alpha^3 = e^-12 relative to it at the bottom.
  CHECK((path.rows[0].beta - path.kernel_end).norm() <= 1e-2 * path.kernel_end.norm());
  CHECK((path.rows[8].beta - path.rich_end).norm() <= 1e-2 * path.rich_end.norm());

  // The shape survives: the rich end is another vertex than the plain minimum, better by its own weights.
  const Vector<double> plain = richflow::min_l1_interpolator(problem.train).require_ok().beta;
  const auto weighted = [&](const Vector<double>& beta) {
    return (beta.cwiseAbs().array() / problem.shape->array().cube()).sum();
  };
  CHECK(weighted(path.rich_end) < weighted(plain) * (1.0 - 1e-6));

  const AlphaPathRow& row = path.rows[2];
  const richflow::DiagonalNet<double, 5> net(40);
  const richflow::GradientFlow flow(net, problem.train);
  const auto solution =
      richflow::integrate(flow, net.initial_parameters(row.scale, *problem.shape),
                          richflow::TimeSpan{0.0, std::numeric_limits<double>::infinity()}, richflow::DormandPrince{},
                          richflow::PiController<>{.tolerance = {.relative = 1e-9, .absolute = 1e-12}},
                          {.events = {richflow::loss_below(1e-14)}});
  REQUIRE(solution.ok());
  Vector<double> beta(40);
  net.beta(solution.w, beta);
  // The weights are integrated to 1e-9 a step, over some thousand steps.
  CHECK((beta - row.beta).norm() <= 1e-6 * row.beta.norm());

  write_alpha_path_tables(problem, path, folder.path());
  const auto picture = alpha_path_picture(problem, path);
  CHECK(picture.setup.find("depth 5") != std::string::npos);
  CHECK(picture.setup.find("^{4}") != std::string::npos);
  CHECK(picture.setup.find("^{3}") != std::string::npos);
  check_picture(picture, folder.path());
}

TEST_CASE("alpha_path on columns in any units: every scale is solved, and the flow ends there") {
  for (const double unit : {1e7, 1e10, 1e18}) {
    CAPTURE(unit);
    Matrix<double> X(2, 3);
    X << unit, 1, 2, 3, 1, 1;
    Vector<double> y(2);
    y << 1, 2;
    for (const Index depth : {Index{2}, Index{3}}) {
      AlphaPathOptions options;
      options.depth = depth;
      options.num_scales = 7;
      options.simulate = depth == 2;
      const AlphaPath path = alpha_path({"units", Dataset(X, y)}, options);
      for (const AlphaPathRow& row : path.rows) {
        CAPTURE(depth, row.scale.log(), row.simulated, row.message);
        CHECK(row.ok);
        CHECK((X * row.beta - y).norm() <= (row.simulated ? 1.001e-8 : 1e-12) * y.norm());
      }
    }
  }
}

TEST_CASE("alpha_path takes shapes whose powers are out of range, and says where the rich end is not the only one") {
  Matrix<double> X(2, 4);
  X << 1, 1.5, 0, -1, .5, -1, 2, 1;
  Vector<double> y(2);
  y << 1, 2;
  AlphaPathOptions options;
  options.depth = 100;
  options.num_scales = 5;
  AlphaPathProblem problem{"deep", Dataset(X, y)};
  const AlphaPath plain = alpha_path(problem, options);
  CHECK(plain.has_unique_rich_end);
  problem.shape = Vector<double>::Constant(4, 0.01);
  const AlphaPath path = alpha_path(problem, options);
  // A constant shape is another alpha.
  CHECK((path.kernel_end - plain.kernel_end).norm() <= 1e-13 * plain.kernel_end.norm());
  CHECK((path.rich_end - plain.rich_end).norm() <= 1e-13 * plain.rich_end.norm());
  for (const AlphaPathRow& row : path.rows) CHECK(row.ok);

  Vector<double> far_apart(4);
  far_apart << 1e-9, 1, 1, 1;
  problem.shape = far_apart;
  CHECK_THROWS_MATCHES(alpha_path(problem, options), richflow::ArgumentError, message_contains("shape differ so much"));

  Vector<double> label(1);
  label << 3;
  options.depth = 2;
  CHECK_FALSE(alpha_path({"equal columns", Dataset(Matrix<double>::Ones(1, 2), label)}, options).has_unique_rich_end);
}

TEST_CASE("the tables that are listed are those that are written") {
  const auto regression = small_problem();
  const AlphaPathProblem problem{"tables", regression.dataset};
  for (int choice = 0; choice < 4; ++choice) {
    CAPTURE(choice);
    AlphaPathOptions options;
    options.scales = {Scale<>::from_log(1.0)};
    options.simulate = choice == 1;
    if (choice == 2) options.algorithm = AlgorithmOptions{.steps = 3000};
    options.saddles = choice == 3;
    const AlphaPath path = alpha_path(problem, options);
    const TemporaryFolder folder;
    write_alpha_path_tables(problem, path, folder.path());
    const std::vector<std::string> listed = alpha_path_tables_of(path);
    for (const std::string& table : alpha_path_tables) {
      CAPTURE(table);
      const bool is_listed = std::find(listed.begin(), listed.end(), table) != listed.end();
      CHECK(std::filesystem::exists(folder.path() / table) == is_listed);
    }
    (void)folder.file("alpha_path_saddles.csv", "of an earlier run");
    write_alpha_path_tables(problem, path, folder.path());
    CHECK(std::filesystem::exists(folder.path() / "alpha_path_saddles.csv") == options.saddles);
    CHECK(listed.size() == (choice == 0 ? 4 : choice == 1 ? 6 : 5));
  }
}

TEST_CASE("arrays of NumPy are data like CSV files, and the minimizers are one beside their table") {
  const TemporaryFolder folder;
  const auto regression = small_problem();
  const Matrix<double> X = regression.dataset.X();
  const Vector<double> y = regression.dataset.y();
  const Vector<double> shape = Vector<double>::LinSpaced(X.cols(), 0.5, 1.5);
  const auto file = [&](const char* name) { return folder.path() / name; };
  richflow::write_npy(file("X.npy"), X);
  richflow::write_npy(file("y.npy"), y);
  richflow::write_npy(file("w0.npy"), shape);
  const AlphaPathProblem problem = problem_of_files(file("X.npy"), file("y.npy"), file("w0.npy"));
  CHECK(problem.train.X() == X);
  CHECK(problem.train.y() == y);
  CHECK(problem.shape == shape);
  const UserFiles files(folder, X, y);
  CHECK(problem_of_files(file("X.npy"), files.y_path, {}).train.y() == y);
  CsvFormat format;
  format.header = CsvFormat::Header::none;
  CHECK_THROWS_MATCHES(problem_of_files(file("X.npy"), file("y.npy"), {}, format), richflow::ArgumentError,
                       message_contains("--header"));
  format = {};
  format.index = CsvFormat::Index::drop;
  CHECK_THROWS_MATCHES(problem_of_files(file("X.npy"), file("y.npy"), {}, format), richflow::ArgumentError,
                       message_contains("--index"));

  AlphaPathOptions options;
  options.scales = {Scale<>::from_log(1.0), Scale<>::from_log(-3.0)};
  const AlphaPath path = alpha_path(problem, options);
  write_alpha_path_tables(problem, path, folder.path());
  const Matrix<double> betas = read_npy(file("beta.npy"));
  CHECK(read_npy_column(file("log_alpha.npy")) == Vector<double>{{1.0, -3.0}});
  REQUIRE(betas.rows() == 2);
  CHECK(Vector<double>(betas.row(0)) == path.rows[0].beta);
  CHECK(Vector<double>(betas.row(1)) == path.rows[1].beta);
}

TEST_CASE("a user's data that do not fit together are refused") {
  const TemporaryFolder folder;
  const auto x = folder.file("X.csv", "a,b,c\n1,2,3\n4,5,6\n");
  const auto y = folder.file("y.csv", "y\n1\n2\n");
  CHECK_THROWS_MATCHES(problem_of_files(x, folder.file("long.csv", "y\n1\n2\n3\n"), {}), richflow::DimensionError,
                       message_contains("--x, --y: X is 2 x 3 but y has 3 entries"));
  CHECK_THROWS_MATCHES(problem_of_files(x, y, folder.file("w0.csv", "w\n1\n1\n")), FileError,
                       message_contains("--shape: '" + (folder.path() / "w0.csv").string() + "': the shape has 2"));
  AlphaPathOptions options;
  options.scales = {Scale<>::from_log(0.0)};
  for (const char* shape : {"w\n1\n0\n1\n", "w\n1\n1\n-2\n"})
    CHECK_THROWS_AS(alpha_path(problem_of_files(x, y, folder.file("w0.csv", shape)), options), richflow::ArgumentError);
  for (const Index depth : {Index{1}, Index{0}, Index{-3}}) {
    AlphaPathOptions shallow;
    shallow.depth = depth;
    CHECK_THROWS_MATCHES(alpha_path(problem_of_files(x, y, {}), shallow), richflow::ArgumentError,
                         message_contains("depth must be at least 2, got " + std::to_string(depth)));
  }
  const auto twice = folder.file("twice.csv", "a,b,c\n1,2,3\n1,2,3\n");
  CHECK_THROWS_AS(alpha_path(problem_of_files(twice, y, {}), options), richflow::InfeasibleError);
  const AlphaPath path = alpha_path(problem_of_files(twice, folder.file("same.csv", "y\n1\n1\n"), {}), options);
  CHECK(path.rows[0].ok);
}

TEST_CASE("images of two classes become a problem with test data") {
  const TemporaryFolder folder;
  // 2 x 2 pixels: class 3 is bright above, class 8 below; class 5 is to be ignored.
  const std::string above("\xFF\xF0\x00\x01", 4), below("\x02\x00\xFF\xEE", 4), other("\x80\x80\x80\x80", 4);
  const std::string pixels = above + below + other + above + below;
  const std::string labels("\x03\x08\x05\x03\x08", 5);
  for (const char* part : {"train", "t10k"}) {
    (void)folder.file(std::string(part) + "-images-idx3-ubyte", idx(0x803, {5, 2, 2}, pixels));
    (void)folder.file(std::string(part) + "-labels-idx1-ubyte", idx(0x801, {5}, labels));
  }
  const AlphaPathProblem problem = image_problem(folder.path(), {3, 8}, 1, 1);
  REQUIRE(problem.train.num_samples() == 2);
  REQUIRE(problem.train.num_inputs() == 4);
  CHECK(problem.train.y() == Vector<double>{{-1.0, 1.0}});
  CHECK(problem.train.X()(0, 1) == 240.0 / 255.0);
  CHECK(problem.train.X()(1, 2) == 1.0);
  REQUIRE(problem.test);
  CHECK(problem.test->num_samples() == 4);
  AlphaPathOptions options;
  options.scales = {Scale<>::from_log(-3.0)};
  const AlphaPath path = alpha_path(problem, options);
  CHECK(path.rows[0].test_accuracy == 1.0);
  CHECK(path.kernel_accuracy == 1.0);
  CHECK(path.rich_accuracy == 1.0);

  CHECK_THROWS_MATCHES(image_problem(folder.path(), {3, 3}, 1, 1), richflow::ArgumentError,
                       message_contains("--classes: two different classes"));
  CHECK_THROWS_MATCHES(image_problem(folder.path(), {3, 10}, 1, 1), richflow::ArgumentError,
                       message_contains("two different classes"));
  CHECK_THROWS_MATCHES(image_problem(folder.path(), {3, 8}, 3, 1), richflow::ArgumentError,
                       message_contains("--per-class: class 3 has 2 training images, 3 were asked for"));
  CHECK_THROWS_AS(image_problem(folder.path(), {3, 8}, 0, 1), richflow::ArgumentError);
}

TEST_CASE("alpha_path runs an algorithm beside the flow, and predicts its end from its effective start") {
  const auto regression = small_problem();
  AlphaPathProblem problem{"algorithm", regression.dataset};
  for (const Index depth : {Index{2}, Index{3}})
    for (const AlgorithmKind kind : {AlgorithmKind::descent, AlgorithmKind::sgd, AlgorithmKind::label_noise,
                                     AlgorithmKind::momentum, AlgorithmKind::decay}) {
      const TemporaryFolder folder;
      AlphaPathOptions options;
      options.depth = depth;
      for (const double log_alpha : {0.0, -1.0, -2.0}) options.scales.push_back(Scale<>::from_log(log_alpha));
      options.algorithm = AlgorithmOptions{.kind = kind, .steps = 3000};
      const AlphaPath path = alpha_path(problem, options);
      CAPTURE(path.algorithm, depth);
      CHECK(all_hold(path.claims));
      REQUIRE(path.claims.size() == 3);
      CHECK(path.claims.back().measured <= 1e-10);
      REQUIRE(path.algorithm_rows.size() == 3);
      for (const AlgorithmRow& row : path.algorithm_rows) {
        CAPTURE(row.message, row.scale.log());
        CHECK(row.ok);
        CHECK_FALSE(row.is_dead);
        CHECK(row.steps <= 3000);
      }
      // It is not the flow from the same scale.
      CHECK(path.algorithm_rows[1].from_flow > 1e-4);

      write_alpha_path_tables(problem, path, folder.path());
      const CsvTable table = read_csv(folder.path() / "algorithm.csv");
      CHECK(table.columns ==
            std::vector<std::string>{"log_alpha", "i", "beta", "predicted", "effective_log_scale", "log_offset_ratio"});
      REQUIRE(table.values.rows() == 3 * 40);
      const AlgorithmRow& row = path.algorithm_rows[1];
      for (Index i = 0; i < 40; ++i) {
        CHECK(table.values(40 + i, 0) == row.scale.log());
        CHECK(table.values(40 + i, 2) == row.beta[i]);
        CHECK(table.values(40 + i, 3) == row.predicted[i]);
        CHECK(table.values(40 + i, 4) == row.effective_log_scale[i]);
        CHECK(table.values(40 + i, 5) == row.log_offset_ratio[i]);
      }
      const auto picture = alpha_path_picture(problem, path);
      CHECK(picture.setup.find("crosses: end of ") != std::string::npos);
      check_picture(picture, folder.path());
    }
}

TEST_CASE("alpha_path with an algorithm that goes wrong says so") {
  const auto regression = small_problem();
  const AlphaPathProblem problem{"wrong", regression.dataset};
  AlphaPathOptions options;
  options.scales = {Scale<>::from_log(2.0), Scale<>::from_log(-2.0)};
  const auto run = [&](const AlgorithmOptions& algorithm) {
    options.algorithm = algorithm;
    return alpha_path(problem, options);
  };
  SECTION("steps beyond stability name the step that would do") {
    const AlphaPath path = run({.step = 3e-3, .steps = 500});
    const AlgorithmRow& row = path.algorithm_rows[0];
    CHECK_FALSE(row.ok);
    CHECK_THAT(row.message, test_support::text_contains("diverged after"));
    CHECK_THAT(row.message, test_support::text_contains("are stable"));
    CHECK(path.algorithm_rows[1].ok);
    CHECK_THAT(path.claims.back().claim, test_support::text_contains("at the 1 of 2 scales where there is one"));
    // Half of it is stable: what is chosen where no step is given.
    const AlphaPath chosen = run({.steps = 500});
    CHECK(chosen.algorithm_rows[0].ok);
    CHECK_THROWS_MATCHES(run({.step = 10.0}), richflow::ArgumentError, message_contains("--step: descent has no end"));
  }
  SECTION("decay that leaves nothing") {
    const AlphaPath path =
        run({.kind = AlgorithmKind::decay, .steps = 4000, .decay = 2 * largest_useful_decay(problem.train)});
    CHECK(path.algorithm_rows[1].is_dead);
    CHECK(path.algorithm_rows[1].ok);
    CHECK(all_hold(path.claims));
  }
  SECTION("odd depth after a sign change has no statement") {
    options.depth = 3;
    options.scales = {Scale<>::from_log(-0.5)};
    CHECK_THROWS_MATCHES(run({.kind = AlgorithmKind::momentum, .step = 4e-3, .steps = 40, .momentum = 0.95}),
                         richflow::ArgumentError, message_contains("at odd depth D = 3"));
  }
  SECTION("parameters out of range") {
    const auto check_refused = [&](const AlgorithmOptions& algorithm, const char* part) {
      CHECK_THROWS_MATCHES(run(algorithm), richflow::ArgumentError, message_contains(part));
    };
    check_refused({.step = 0.0}, "--step must be positive");
    check_refused({.steps = 0}, "--steps must be at least 1");
    check_refused({.kind = AlgorithmKind::sgd, .batch = 16}, "--batch must be in 1 .. N = 15");
    check_refused({.kind = AlgorithmKind::label_noise, .noise = 0.0}, "--noise must be positive");
    check_refused({.kind = AlgorithmKind::momentum, .momentum = 1.0}, "--momentum must be in [0, 1)");
    check_refused({.kind = AlgorithmKind::decay, .decay = -1.0}, "--decay must not be negative");
  }
  SECTION("batches of the only sample") {
    const AlphaPathProblem one{"one", Dataset(regression.dataset.X().topRows(1), regression.dataset.y().head(1))};
    options.algorithm = AlgorithmOptions{.kind = AlgorithmKind::sgd, .steps = 200};
    CHECK_THROWS_MATCHES(alpha_path(one, options), richflow::ArgumentError,
                         message_contains("--algorithm sgd chooses among the samples, got N = 1"));
    options.algorithm = AlgorithmOptions{.steps = 200};
    CHECK(all_hold(alpha_path(one, options).claims));
  }
}

TEST_CASE("alpha_path follows the saddles at any depth and shape, and writes and draws them") {
  const auto regression = small_problem();
  for (const Index depth : {Index{2}, Index{3}, Index{4}}) {
    CAPTURE(depth);
    AlphaPathProblem problem{"saddles", regression.dataset};
    if (depth > 2) problem.shape = Vector<double>::LinSpaced(40, 0.8, 1.25);
    AlphaPathOptions options;
    options.depth = depth;
    options.scales = {Scale<>::from_log(0.0), Scale<>::from_log(-3.0)};
    CHECK_FALSE(alpha_path(problem, options).saddles);
    options.saddles = true;
    const AlphaPath path = alpha_path(problem, options);
    CHECK(all_hold(path.claims));
    REQUIRE(path.claims.size() == 4);
    REQUIRE(path.saddles);
    CHECK_FALSE(path.saddles->jumps.empty());
    const TemporaryFolder folder;
    write_alpha_path_tables(problem, path, folder.path());
    const CsvTable table = read_csv(folder.path() / "saddles.csv");
    CHECK(table.columns == std::vector<std::string>{"jump", "time", "i", "beta", "loss"});
    Index row = 0;
    for (std::size_t k = 0; k < path.saddles->jumps.size(); ++k) {
      const auto& jump = path.saddles->jumps[k];
      const Vector<double> beta = jump.beta(40);
      for (Index i = 0; i < 40; ++i) {
        if (beta[i] == 0.0) continue;
        REQUIRE(row < table.values.rows());
        CHECK(table.values(row, 0) == static_cast<double>(k + 1));
        CHECK(table.values(row, 1) == jump.time);
        CHECK(table.values(row, 2) == static_cast<double>(i));
        CHECK(table.values(row, 3) == beta[i]);
        CHECK(table.values(row, 4) == jump.loss);
        ++row;
      }
    }
    CHECK(row == table.values.rows());
    const auto picture = alpha_path_picture(problem, path);
    CHECK(picture.setup.find("with_saddles = 1") != std::string::npos);
    if (depth == 3) check_picture(picture, folder.path());
  }
}

TEST_CASE("without a signal there is no saddle to draw") {
  AlphaPathOptions options;
  options.scales = {Scale<>::from_log(0.0)};
  options.saddles = true;
  const AlphaPathProblem problem{"silent", Dataset(Matrix<double>::Identity(2, 4), Vector<double>::Zero(2))};
  const AlphaPath path = alpha_path(problem, options);
  CHECK(all_hold(path.claims));
  const TemporaryFolder folder;
  write_alpha_path_tables(problem, path, folder.path());
  CHECK(test_support::content_of(folder.path() / "saddles.csv") == "jump,time,i,beta,loss\n");
  CHECK(alpha_path_picture(problem, path).setup.find("with_saddles = 0") != std::string::npos);
}
