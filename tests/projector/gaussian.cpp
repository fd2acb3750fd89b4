// Gaussian: P is the documented function of (seed, refresh), has the moments it should, and is never stored.
#include <support/catch.hpp>
#include <support/placed.hpp>

#include <lowrank/optimizer.hpp>
#include <lowrank/projector/gaussian.hpp>
#include <lowrank/rule/sgd.hpp>

using namespace support;
using namespace lowrank;
using Eigen::MatrixXd;

namespace {

/// Entry (i, j) after the c-th refresh: element i + j d of stream c, over sqrt(r).
MatrixXd drawn(Index d, Index r, std::uint64_t seed, std::uint64_t c) {
  MatrixXd P(d, r);
  fill_normal(P.data(), d * r, seed, c, 0);
  return P / std::sqrt(double(r));
}

}  // namespace

TEST_CASE("The basis of every period is drawn from seed and refresh count", "[projector]") {
  const Index d = 70, k = 90, r = 6;
  MatrixXd W = MatrixXd::Zero(d, k);
  Optimizer run(W, Gaussian{.rank = r, .side = Side::Left, .refresh_every = 3, .seed = 11}, Sgd{});
  for (int t = 0; t < 9; ++t) {
    const MatrixXd G = training_gradient(d, k, t), before = W, P = drawn(d, r, 11, std::uint64_t(1 + t / 3));
    const Report report = run.step(W, G, {.lr = 1});
    CHECK(report.refreshed == (t % 3 == 0));
    CHECK(((before - W) - P * (P.transpose() * G)).norm() < 1e-12 * G.norm());
    CHECK(report.captured == Catch::Approx((P.transpose() * G).squaredNorm() / G.squaredNorm()).epsilon(1e-12));
  }
  // a copy carries a number, and draws the same basis again
  Optimizer again = run;
  MatrixXd copy = W;
  const MatrixXd G = training_gradient(d, k, 9);
  run.step(W, G, {.lr = 1});
  again.step(copy, G, {.lr = 1});
  CHECK(W == copy);
  CHECK(again == run);
  CHECK(run.state_bytes() == 0);
}

TEST_CASE("Entries have mean 0, variance 1 / r and no correlation within or between bases", "[projector]") {
  const Index d = 500, r = 40;
  const MatrixXd P = drawn(d, r, 3, 1) * std::sqrt(double(r)), Q = drawn(d, r, 3, 2) * std::sqrt(double(r));
  const double n = double(d * r), five = 5 / std::sqrt(n);  // five standard deviations
  CHECK(std::abs(P.mean()) < five);
  CHECK(std::abs(P.squaredNorm() / n - 1) < five * std::sqrt(2.0));
  CHECK(std::abs(P.array().pow(4).mean() - 3) < five * std::sqrt(96.0));
  CHECK(std::abs(P.cwiseProduct(Q).mean()) < five);
  CHECK(std::abs((P.leftCols(r - 1).cwiseProduct(P.rightCols(r - 1))).mean()) < five * 1.1);
  CHECK(std::abs((P.topRows(d - 1).cwiseProduct(P.bottomRows(d - 1))).mean()) < five * 1.1);
  // E P P^T = I: on average a gradient's energy is neither lost nor gained
  const MatrixXd G = random_matrix(d, 8, 1);
  double captured = 0;
  const int draws = 200;
  for (int c = 1; c <= draws; ++c) captured += (drawn(d, r, 9, std::uint64_t(c)).transpose() * G).squaredNorm() / G.squaredNorm();
  CHECK(captured / draws == Catch::Approx(1).margin(5 * std::sqrt(2.0 / double(r * 8 * draws))));
}
