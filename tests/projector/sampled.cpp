// Sampled subspaces: probabilities of a weighted sample, uniform random subspaces, SARA's vectors, GoLore's switch.
#include <support/naive.hpp>

#include <Eigen/Eigenvalues>
#include <lowrank/optimizer.hpp>
#include <lowrank/projector/coordinates.hpp>
#include <lowrank/projector/golore.hpp>
#include <lowrank/projector/sara.hpp>
#include <lowrank/rule/sgd.hpp>

using namespace lowrank;
using naive::MatrixXd;
using support::random_matrix;

namespace {

template <class O>
MatrixXd basis(const O& optimizer) {
  const auto& b = optimizer.projection().basis();
  MatrixXd out(b.rows(), b.cols());
  for (Index i = 0; i < out.size(); ++i) out.data()[i] = double(b.data()[i]);
  return out;
}

double orthonormality(const MatrixXd& P) { return (P.transpose() * P - MatrixXd::Identity(P.cols(), P.cols())).norm(); }

}  // namespace

TEST_CASE("A sample without replacement has the probabilities of drawing one after the other", "[projector]") {
  const double weights[] = {5, 0, 3, 2};
  const int rounds = 40000;
  int pairs[4][4] = {};
  for (int c = 0; c < rounds; ++c) {
    double keys[4];
    std::copy(weights, weights + 4, keys);
    std::int32_t work[4], out[2];
    linalg::sample(keys, 4, 2, 3, std::uint64_t(c), work, out);
    REQUIRE(out[0] < out[1]);
    ++pairs[out[0]][out[1]];
  }
  const auto probability = [&](int i, int j) {  // i first then j, or j first then i
    const double total = 10, p = weights[i], q = weights[j];
    return p / total * q / (total - p) + q / total * p / (total - q);
  };
  for (int i = 0; i < 4; ++i)
    for (int j = i + 1; j < 4; ++j) {
      INFO(i << ", " << j);
      const double p = probability(i, j), deviation = std::sqrt(p * (1 - p) * rounds);
      CHECK(std::abs(pairs[i][j] - p * rounds) <= 4.5 * deviation);
    }
}

TEST_CASE("Random bases: orthonormal, another at each refresh, and no direction preferred", "[projector]") {
  const Index d = 12, r = 3;
  MatrixXd W = random_matrix(d, 20, 1), mean = MatrixXd::Zero(d, d), before = MatrixXd::Zero(d, r);
  Optimizer optimizer(W, RandomOrthogonal{.rank = r, .refresh_every = 1, .seed = 4}, Sgd{});
  const MatrixXd G = random_matrix(d, 20, 2);
  const int rounds = 4000;
  for (int t = 0; t < rounds; ++t) {
    optimizer.step(W, G, {.lr = 0});
    const MatrixXd P = basis(optimizer);
    REQUIRE(orthonormality(P) < 1e-13);
    REQUIRE((P - before).norm() > 1e-3);
    before = P;
    mean += P * P.transpose() / rounds;
  }
  // E P P^T = (r / d) I; an entry's standard deviation is below 0.5 / sqrt(rounds)
  CHECK((mean - double(r) / double(d) * MatrixXd::Identity(d, d)).cwiseAbs().maxCoeff() < 5 * 0.5 / std::sqrt(rounds));
}

TEST_CASE("SARA keeps singular vectors in order, the leading ones often but not always", "[projector]") {
  const Index d = 8, k = 30, r = 3;
  MatrixXd G = random_matrix(d, k, 5);
  for (Index i = 0; i < d; ++i) G.row(i) *= std::pow(0.6, double(i));
  const Eigen::SelfAdjointEigenSolver<MatrixXd> eigen(G * G.transpose());
  const MatrixXd U = eigen.eigenvectors().rowwise().reverse();
  MatrixXd W = random_matrix(d, k, 1);
  Optimizer optimizer(W, Sara{.rank = r, .refresh_every = 1, .seed = 4}, Sgd{});
  Eigen::VectorXd seen = Eigen::VectorXd::Zero(d);
  const int rounds = 300;
  for (int t = 0; t < rounds; ++t) {
    optimizer.step(W, G, {.lr = 0});
    const MatrixXd P = basis(optimizer), overlap = (U.transpose() * P).cwiseAbs();
    Index last = -1;
    for (Index j = 0; j < r; ++j) {
      Index at = 0;
      REQUIRE(overlap.col(j).maxCoeff(&at) == Catch::Approx(1).epsilon(1e-9));
      REQUIRE(at > last);
      last = at;
      seen(at) += 1;
    }
  }
  CHECK(seen(0) > 0.7 * rounds);
  CHECK(seen(0) < rounds);
  CHECK(seen(d - 1) > 0);
  CHECK(seen(0) > seen(3));
  CHECK(seen(3) > seen(d - 1));
}

TEST_CASE("GoLore is Subspace before the switch and random after it", "[projector]") {
  MatrixXd a = random_matrix(40, 60, 1), b = a;
  Optimizer golore(a, Golore{.rank = 5, .refresh_every = 2, .random_after = 6, .seed = 9}, Sgd{.momentum = 0.9});
  Optimizer subspace(b, Subspace{.rank = 5, .refresh_every = 2, .seed = 9}, Sgd{.momentum = 0.9});
  double captured = 0;
  for (int t = 0; t < 46; ++t) {
    const MatrixXd G = support::training_gradient(40, 60, t);
    const Report report = golore.step(a, G, {.lr = 0.01});
    subspace.step(b, G, {.lr = 0.01});
    CHECK(orthonormality(basis(golore)) < 1e-12);
    if (t < 6) REQUIRE((a == b && basis(golore) == basis(subspace)));
    if (t >= 6) captured += report.captured / 40;
  }
  CHECK(captured < 0.3);  // 5 / 40 on average, the gradient being dominated by a few directions that stay
  CHECK(captured > 0.04);
}

TEST_CASE("Coordinates are the rows with the largest norms", "[projector]") {
  MatrixXd G = MatrixXd::Constant(9, 12, 0.1), W = MatrixXd::Zero(9, 12);
  G.row(7).setConstant(3);
  G.row(2) *= 5;
  G(4, 1) = 2;  // largest entry of what is left: L2 takes it, L1 the row of many
  G.row(5).setConstant(0.4);
  for (const Score score : {Score::L1, Score::L2}) {
    Optimizer optimizer(W, Coordinates{.rank = 3, .score = score}, Sgd{});
    const Report report = optimizer.step(W, G, {.lr = 0});
    const auto& index = optimizer.projection().indices();
    CHECK(index[0] == 2);
    CHECK(index[1] == (score == Score::L1 ? 5 : 4));
    CHECK(index[2] == 7);
    const double kept = G.row(index[0]).squaredNorm() + G.row(index[1]).squaredNorm() + G.row(index[2]).squaredNorm();
    CHECK(report.captured == Catch::Approx(kept / G.squaredNorm()));
  }
}
