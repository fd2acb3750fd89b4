// Svd and TwoSidedSvd: as much energy as r directions can hold, one sign convention, and what they do about gradients of
// lower rank than theirs. (That the vectors are exact is tested in linalg/svd.)
#include <linalg/workspace.hpp>
#include <support/catch.hpp>
#include <support/placed.hpp>
#include <support/stepper.hpp>

#include <lowrank/linalg/eigh.hpp>

using namespace support;
using Eigen::MatrixXd;

namespace {

MatrixXd matrix(const Stepper<double>& optimizer, const char* name, Index rows) {
  const auto values = field<double>(optimizer, name);
  return Eigen::Map<const MatrixXd>(values.data(), rows, Index(values.size()) / rows);
}

double optimum(MatrixXd gram, Index r) {
  Eigen::VectorXd lambda(gram.rows());
  const auto eigh = lowrank_test::Owned([&](lowrank::Arena& arena) { return lowrank::linalg::Eigh<double>(arena, gram.rows()); });
  (*eigh)(gram.data(), lambda.data());
  return lambda.head(r).sum();
}

double lost_orthogonality(const MatrixXd& P) {
  return (P.transpose() * P - MatrixXd::Identity(P.cols(), P.cols())).cwiseAbs().maxCoeff();
}

const char* const exact[] = {"svd", "two-sided svd", "lion on the svd, error feedback"};

}  // namespace

TEST_CASE("The exact basis holds the most that r directions can; its largest entries are positive", "[projector]") {
  const Index d = 40, k = 60;
  for (const char* name : exact)
    for (const Index r : {1, 6, 40}) {
      INFO(name << ", rank " << r);
      Placed<double> w(random_matrix(d, k, 3), Order::Columns);
      const auto optimizer = named_policy<double>(name).make(w.view(), {.rank = r, .side = Side::Left, .refresh_every = 1});
      const MatrixXd G = training_gradient(d, k, 0);
      const Report report = optimizer->step(w.view(), Placed<double>(G, Order::Rows).view(), {.lr = 0.01});
      CHECK(report.captured * G.squaredNorm() == Catch::Approx(optimum(G * G.transpose(), r)).epsilon(1e-12));
      const MatrixXd P = matrix(*optimizer, "basis", d);
      CHECK(lost_orthogonality(P) < 1e-13);
      for (Index j = 0; j < r; ++j) CHECK(P.col(j).maxCoeff() == P.col(j).cwiseAbs().maxCoeff());
      if (optimizer->fields().contains("basis_right")) {
        const MatrixXd Q = matrix(*optimizer, "basis_right", k), core = P.transpose() * G * Q;
        CHECK(lost_orthogonality(Q) < 1e-13);
        CHECK((core - MatrixXd(core.diagonal().asDiagonal())).norm() < 1e-12 * core.norm());
        CHECK(core.diagonal().minCoeff() > 0);
      }
    }
}

TEST_CASE("A basis that had to be completed is made anew at the next gradient", "[projector]") {
  const Index d = 40, k = 60;
  const MatrixXd thin = random_matrix(d, 2, 1) * random_matrix(2, k, 2), full = training_gradient(d, k, 0), zero = MatrixXd::Zero(d, k);
  for (const char* name : {"svd", "two-sided svd"}) {
    INFO(name);
    Placed<double> w(random_matrix(d, k, 3), Order::Columns);
    const auto optimizer = named_policy<double>(name).make(w.view(), {.rank = 5, .side = Side::Left, .refresh_every = 100});
    const auto step = [&](const MatrixXd& G) { return optimizer->step(w.view(), Placed<double>(G, Order::Rows).view(), {.lr = 0.01}); };
    CHECK_FALSE(step(zero).refreshed);
    for (int t = 0; t < 3; ++t) {
      const Report report = step(thin);
      CHECK(report.refreshed);
      CHECK(report.captured == Catch::Approx(1).epsilon(1e-12));
      CHECK(lost_orthogonality(matrix(*optimizer, "basis", d)) < 1e-13);
    }
    CHECK_FALSE(step(zero).refreshed);
    CHECK(step(full).refreshed);
    CHECK_FALSE(step(full).refreshed);
    CHECK_FALSE(step(thin).refreshed);
  }
}
