// Subspace: what a refresh holds of the gradient's energy, beside the exact optimum and the basis it replaces.
#include <linalg/workspace.hpp>
#include <support/catch.hpp>
#include <support/placed.hpp>

#include <lowrank/linalg/eigh.hpp>
#include <lowrank/optimizer.hpp>
#include <lowrank/projector/subspace.hpp>
#include <lowrank/rule/sgd.hpp>

using namespace support;
using namespace lowrank;
using Eigen::MatrixXd;

namespace {

using Run = Optimizer<double, Subspace, Sgd, BackProject>;

MatrixXd basis_of(const Run& run) {
  const auto& b = run.projection().basis();
  return Eigen::Map<const MatrixXd>(b.data(), b.rows(), b.cols());
}

/// One step at rate 0: only the basis moves.
Report look_at(Run& run, const MatrixXd& G) {
  MatrixXd W = MatrixXd::Zero(G.rows(), G.cols());
  return run.step(W, G, {.lr = 0});
}

double energy(const MatrixXd& P, const MatrixXd& G) { return (P.transpose() * G).squaredNorm(); }

/// Descending. (Eigen's solver takes ten seconds to compile; tests/linalg/eigh.cpp checks ours.)
Eigen::VectorXd eigenvalues(MatrixXd A) {
  Eigen::VectorXd lambda(A.rows());
  const auto eigh = lowrank_test::Owned([&](Arena& arena) { return linalg::Eigh<double>(arena, A.rows()); });
  (*eigh)(A.data(), lambda.data());
  return lambda;
}

/// The most that r directions can hold: the r largest eigenvalues of G G^T.
double optimum(const MatrixXd& G, Index r) { return eigenvalues(G * G.transpose()).head(std::min(r, G.rows())).sum(); }

/// Singular values that fall like a power, on random directions: what gradients of trained models look like.
MatrixXd power_law(Index d, Index k, double exponent, unsigned seed) {
  MatrixXd left = random_matrix(d, d, seed);
  for (Index j = 0; j < d; ++j) left.col(j) *= std::pow(double(j + 1), -exponent);
  return left * random_matrix(d, k, seed + 1) / std::sqrt(double(k));
}

double lost_orthogonality(const MatrixXd& P) {
  return (P.transpose() * P - MatrixXd::Identity(P.cols(), P.cols())).cwiseAbs().maxCoeff();
}

}  // namespace

TEST_CASE("A refresh never holds less than the basis it replaces, and says what it holds", "[projector]") {
  const Index d = 60, k = 90;
  for (const Index r : {1, 5, 30, 60})
    for (const std::int64_t sweeps : {1, 3}) {
      INFO("rank " << r << ", sweeps " << sweeps);
      Run run(MatrixXd(d, k), Subspace{.rank = r, .side = Side::Left, .refresh_every = 1, .sweeps = sweeps}, Sgd{});
      int refreshed = 0;
      for (int t = 0; t < 30; ++t) {
        // turning slowly, unrelated to the last, of low rank, tiny, huge
        MatrixXd G = t % 5 < 3 ? training_gradient(d, k, t) : random_matrix(d, k, 100 + unsigned(t));
        if (t % 7 == 3) G = MatrixXd(random_matrix(d, 2, unsigned(t)) * random_matrix(2, k, 7));
        G *= std::pow(10.0, t % 11 - 5);
        const MatrixXd old = t == 0 ? MatrixXd(MatrixXd::Identity(d, r)) : basis_of(run);
        const Report report = look_at(run, G);
        const MatrixXd P = basis_of(run);
        INFO("step " << t);
        CHECK(lost_orthogonality(P) < 1e-13);
        CHECK(energy(P, G) >= energy(old, G) * (1 - 1e-13));
        CHECK(energy(P, G) <= optimum(G, r) * (1 + 1e-12));
        CHECK(report.captured == Catch::Approx(energy(P, G) / G.squaredNorm()).epsilon(1e-12));
        if (!report.refreshed) CHECK(P == old);
        refreshed += report.refreshed;
      }
      // at full rank nothing can be gained, and rounding decides
      if (r < d) CHECK(refreshed == 30);
    }
}

TEST_CASE("A cold start is near the optimum where the spectrum falls, and honest where it does not", "[projector]") {
  for (const auto& [d, k] : {std::pair<Index, Index>{200, 320}, {96, 96}})
    for (const Index r : {4, 16, 48})
      for (const double exponent : {2.0, 1.0, 0.5, 0.0}) {
        INFO(d << " x " << k << ", rank " << r << ", exponent " << exponent);
        const MatrixXd G = power_law(d, k, exponent, 1);
        Run run(G, Subspace{.rank = r, .side = Side::Left}, Sgd{});
        CHECK(look_at(run, G).refreshed);
        const double share = energy(basis_of(run), G) / optimum(G, r);
        // two power sweeps: with no gap at all the last directions are still mixed with the next ones
        CHECK(share > (exponent >= 1 ? 0.999 : exponent > 0 ? 0.99 : 0.93));
      }
}

TEST_CASE("One warm refresh follows a gradient that moved: 0.99 of the optimum", "[projector]") {
  // G' = 0.9 G + 0.1 F, F fresh and of equal norm
  for (const auto& [n, r] : {std::pair<Index, Index>{512, 32}, {512, 64}, {512, 128}})
    for (const double exponent : {1.0, 0.5}) {
      INFO(n << ", rank " << r << ", exponent " << exponent);
      const MatrixXd G = power_law(n, n, exponent, 1), F = power_law(n, n, exponent, 5);
      const MatrixXd moved = 0.9 * G + 0.1 * G.norm() / F.norm() * F;
      Run run(G, Subspace{.rank = r, .refresh_every = 1}, Sgd{});  // square: right, the rows' space
      look_at(run, G);
      const double stale = energy(basis_of(run), moved.transpose());
      const Report report = look_at(run, moved);
      const double best = optimum(moved.transpose(), r), now = energy(basis_of(run), moved.transpose());
      CHECK(report.refreshed);
      CHECK(now >= stale);
      CHECK(now > 0.99 * best);
    }
}

TEST_CASE("Repeated refreshes of one gradient converge to the optimum; more sweeps faster", "[projector]") {
  const Index d = 80, k = 120, r = 10;
  const MatrixXd G = power_law(d, k, 0.5, 3);
  const double best = optimum(G, r);
  double after_two[2] = {0, 0};
  for (const std::int64_t sweeps : {1, 4}) {
    Run run(G, Subspace{.rank = r, .side = Side::Left, .refresh_every = 1, .sweeps = sweeps}, Sgd{});
    look_at(run, G);
    double last = 0;
    for (int t = 0; t < 60; ++t) {
      look_at(run, G);
      const double now = energy(basis_of(run), G);
      CHECK(now >= last * (1 - 1e-14));
      last = now;
      if (t == 1) after_two[sweeps == 4] = now;
    }
    CHECK(last > (1 - 1e-4) * best);
  }
  CHECK(after_two[1] > after_two[0]);
}

TEST_CASE("A gradient of lower rank than the basis: all of it is held, the other directions stay", "[projector]") {
  const Index d = 50, k = 70, r = 8;
  Run run(MatrixXd(d, k), Subspace{.rank = r, .side = Side::Left, .refresh_every = 1}, Sgd{});
  const MatrixXd thin = random_matrix(d, 3, 1) * random_matrix(3, k, 2);
  CHECK(look_at(run, thin).captured == Catch::Approx(1).epsilon(1e-12));
  CHECK(lost_orthogonality(basis_of(run)) < 1e-13);
  look_at(run, random_matrix(d, k, 3));
  const MatrixXd old = basis_of(run);
  CHECK(look_at(run, thin).captured == Catch::Approx(1).epsilon(1e-6));
  const MatrixXd P = basis_of(run);
  CHECK(lost_orthogonality(P) < 1e-13);
  // of the 8 old directions at least the 5 that the new ones do not need are still in the span
  CHECK(eigenvalues(old.transpose() * P * P.transpose() * old)(4) > 0.98);
}

TEST_CASE("Columns keep their signs through refreshes, so that moments kept in place mean the same", "[projector]") {
  const Index d = 50, k = 70, r = 6;
  Run run(MatrixXd(d, k), Subspace{.rank = r, .side = Side::Left, .refresh_every = 1}, Sgd{});
  look_at(run, training_gradient(d, k, 0));
  for (int t = 1; t < 8; ++t) {
    const MatrixXd old = basis_of(run);
    look_at(run, training_gradient(d, k, t));
    CHECK((old.transpose() * basis_of(run)).diagonal().minCoeff() >= 0);
  }
}

TEST_CASE("Drift is the energy that was lost since the refresh, and can call for the next one", "[projector]") {
  const Index d = 40, k = 60, r = 6;
  const MatrixXd first = random_matrix(d, r, 1) * random_matrix(r, k, 2), second = random_matrix(d, r, 3) * random_matrix(r, k, 4);
  const auto blend = [&](double x) { return MatrixXd((1 - x) * first + x * second); };
  Run run(first, Subspace{.rank = r, .side = Side::Left, .refresh_every = 0, .refresh_on_drift = 0.2}, Sgd{});
  std::vector<int> refreshes;
  double reference = 0;
  for (int t = 0; t < 20; ++t) {
    const MatrixXd G = blend(t < 5 ? 0 : t < 10 ? 0.1 : 0.6);
    const Report report = look_at(run, G);
    const double captured = energy(basis_of(run), G) / G.squaredNorm();
    if (report.refreshed) {
      refreshes.push_back(t);
      reference = captured;
    }
    INFO("step " << t);
    CHECK(std::abs(report.drift - (1 - captured / reference)) < 1e-12);
  }
  // 0.1 is not a fifth of the energy; 0.6 is: noticed at step 10, mended at step 11
  CHECK(refreshes == std::vector<int>{0, 11});
}

TEST_CASE("Another seed starts elsewhere and arrives at the same subspace", "[projector]") {
  const Index d = 60, k = 80, r = 5;
  const MatrixXd G = random_matrix(d, r, 1) * random_matrix(r, k, 2);
  std::vector<MatrixXd> spans;
  for (const std::uint64_t seed : {0u, 1u}) {
    Run run(G, Subspace{.rank = r, .side = Side::Left, .seed = seed}, Sgd{});
    look_at(run, G);
    spans.push_back(basis_of(run) * basis_of(run).transpose());
  }
  CHECK((spans[0] - spans[1]).cwiseAbs().maxCoeff() < 1e-12);
  CHECK(spans[0] != spans[1]);
}
