// The geodesic's turn against its equation on tall, wide and square matrices, its indifference to the gradient's size, and
// that it follows a subspace which turns.
#include <support/naive.hpp>

#include <Eigen/Eigenvalues>
#include <lowrank/recipes.hpp>
#include <lowrank/rule/sgd.hpp>

using namespace lowrank;
using naive::MatrixXd;

namespace {

template <class O>
MatrixXd basis(const O& optimizer) {
  const auto& b = optimizer.projection().basis();
  MatrixXd out(b.rows(), b.cols());
  for (Index i = 0; i < out.size(); ++i) out.data()[i] = double(b.data()[i]);
  return out;
}

MatrixXd turned(const MatrixXd& P, const MatrixXd& A, double step) {
  const MatrixXd R = P.transpose() * A;
  const MatrixXd F = -2 * (A - P * R) * R.transpose() / R.squaredNorm();
  const Eigen::SelfAdjointEigenSolver<MatrixXd> eigen(F.transpose() * F);
  const Eigen::VectorXd v = eigen.eigenvectors().col(P.cols() - 1);
  const double sigma = std::sqrt(eigen.eigenvalues()(P.cols() - 1)), theta = std::min(step * sigma, std::acos(0.0));
  const Eigen::VectorXd u = F * v / sigma;
  const MatrixXd moved = P + (P * v * (std::cos(theta) - 1) - u * std::sin(theta)) * v.transpose();
  return (moved.transpose() * A).norm() < R.norm() ? P : moved;
}

}  // namespace

TEST_CASE("A refresh is one step along the geodesic", "[projector]") {
  for (const auto& [rows, cols] : {std::pair<Index, Index>{30, 18}, {18, 30}, {24, 24}, {70, 131}})
    for (const double step : {0.5, 0.05, 3.0}) {
      INFO(rows << " x " << cols << ", step " << step);
      MatrixXd W = MatrixXd::Zero(rows, cols), large = W;
      const Geodesic o{.rank = 4, .refresh_every = 1, .step = step};
      Optimizer optimizer(W, o, Sgd{}), same(large, o, Sgd{});
      MatrixXd P;
      double moved = 0;
      for (int t = 0; t < 6; ++t) {
        const MatrixXd G = support::training_gradient(rows, cols, 3 * t), G_large = 1e5 * G;
        optimizer.step(W, G, {.lr = 1e-3});
        same.step(large, G_large, {.lr = 1e-3});
        if (t > 0) {
          const MatrixXd expected = turned(P, naive::smaller_first(G, rows, cols), step);
          CHECK((basis(optimizer) - expected).norm() < 1e-9);
          moved += (expected - P).norm();
        }
        CHECK((basis(optimizer) - basis(same)).norm() < 1e-9);
        P = basis(optimizer);
        CHECK((P.transpose() * P - MatrixXd::Identity(4, 4)).norm() < 1e-12);
      }
      if (step < 1) CHECK(moved > 1e-3);  // on every shape: the published code stands still where rows >= columns
    }
}

TEST_CASE("Turns follow a subspace and keep more of it than the first basis", "[projector]") {
  const Index rows = 40, cols = 25;
  MatrixXd W = MatrixXd::Zero(rows, cols), V = W;
  auto tracking = subtrack(W, {.rank = 2, .refresh_every = 1});
  auto still = subtrack(V, {.rank = 2, .refresh_every = 1, .step = 0});
  const MatrixXd a = support::random_matrix(cols, 2, 1), b = support::random_matrix(cols, 2, 2), left = support::random_matrix(rows, 2, 3);
  double kept = 0, kept_still = 0;
  for (int t = 0; t < 120; ++t) {
    const double angle = std::min(1.5, 0.02 * t);
    const MatrixXd G = left * (std::cos(angle) * a + std::sin(angle) * b).transpose();
    kept = tracking.step(W, G, {.lr = 1e-3}).captured;
    kept_still = still.step(V, G, {.lr = 1e-3}).captured;
  }
  CHECK(kept > 0.95);
  CHECK(kept_still < 0.5);
  CHECK_THROWS_WITH(subtrack(W, {.step = -1}), Catch::Matchers::ContainsSubstring("step"));
}
