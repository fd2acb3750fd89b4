// LazySubspace: a basis of 4 bits is good enough to project with, and one that does not move is left alone for longer.
#include <lift/by_hand.hpp>
#include <support/catch.hpp>
#include <support/placed.hpp>

#include <lowrank/optimizer.hpp>
#include <lowrank/projector/lazy_subspace.hpp>
#include <lowrank/rule/sgd.hpp>

using namespace support;
using namespace lowrank;
using Eigen::MatrixXd;

namespace {

template <class O>
MatrixXd decoded(const O& optimizer) {
  // columns of the basis are what the identity's rows come back as: U = P N for N = I is not at hand, so read the codes
  const auto& p = optimizer.projection();
  MatrixXd P;
  std::vector<std::uint8_t> codes;
  std::vector<double> ranges;
  Index rows = 0, cols = 0;
  p.visit([&](const char* name, const auto& field) {
    if constexpr (requires { field.column(0); }) {
      const std::string what = name;
      if constexpr (std::is_same_v<std::remove_cvref_t<decltype(field[0])>, std::uint8_t>)
        if (what == "basis_codes") rows = field.rows(), cols = field.cols(), codes.assign(field.data(), field.data() + field.size());
      if constexpr (std::is_same_v<std::remove_cvref_t<decltype(field[0])>, double>)
        if (what == "basis_ranges") ranges.assign(field.data(), field.data() + field.size());
    }
  });
  P.resize(2 * rows, cols);  // an even dimension of at most 256
  for (Index j = 0; j < cols; ++j)
    for (Index i = 0; i < 2 * rows; ++i)
      P(i, j) = ranges[std::size_t(2 * j)] + (codes[std::size_t(i / 2 + j * rows)] >> (4 * (i % 2)) & 15) * ranges[std::size_t(2 * j + 1)];
  return P;
}

/// A gradient with r strong directions Q and weak noise.
MatrixXd gradient(const MatrixXd& Q, Index k, unsigned seed) {
  return Q * random_matrix(Q.cols(), k, seed) + 0.05 * random_matrix(Q.rows(), k, seed + 1000);
}

}  // namespace

TEST_CASE("Columns of four bits have unit length, are nearly orthogonal and hold what the exact ones hold", "[projector]") {
  const Index d = 120, k = 200, r = 8;
  const MatrixXd Q = orthonormal(d, r, 1);
  MatrixXd W = MatrixXd::Zero(d, k);
  Optimizer optimizer(W, LazySubspace{.rank = r, .side = Side::Left, .refresh_every = 4}, Sgd{}, BackProject{});
  for (int t = 0; t < 6; ++t) {
    const MatrixXd G = gradient(Q, k, unsigned(10 + t)), before = W;
    const Report report = optimizer.step(W, G, {.lr = 0.5});
    const MatrixXd P = decoded(optimizer);
    // the step is the one of the numbers the state holds
    CHECK((before - W - 0.5 * P * (P.transpose() * G)).cwiseAbs().maxCoeff() < 1e-12);
    CHECK(report.captured == Catch::Approx((P.transpose() * G).squaredNorm() / G.squaredNorm()).epsilon(1e-12));
    CHECK((P.colwise().norm().array() - 1).abs().maxCoeff() < 1e-12);
    // step of a code 6 / 15 sigma, error sigma / 8.7: columns overlap by about 0.16 / sqrt(d)
    CHECK((P.transpose() * P - MatrixXd::Identity(r, r)).cwiseAbs().maxCoeff() < 4 * 0.16 / std::sqrt(double(d)));
    const double best = (Q.transpose() * G).squaredNorm() / G.squaredNorm();
    CHECK(report.captured > 0.96 * best);
  }
}

TEST_CASE("The period doubles after five similar refreshes, again and again, and not where the subspace wanders", "[projector]") {
  const Index d = 64, k = 80, r = 4;
  const MatrixXd still = orthonormal(d, r, 1);
  for (const bool wanders : {false, true}) {
    MatrixXd W = MatrixXd::Zero(d, k);
    Optimizer optimizer(W, LazySubspace{.rank = r, .side = Side::Left, .refresh_every = 2, .storage = Storage::Int8, .similar = 0.5, .sweeps = 3}, Sgd{}, BackProject{});
    std::vector<int> refreshed;
    for (int t = 0; t < 40; ++t)
      if (optimizer.step(W, gradient(wanders ? orthonormal(d, r, t) : still, k, unsigned(t)), {.lr = 0.01}).refreshed) refreshed.push_back(t);
    INFO("wanders: " << wanders);
    if (wanders) {
      CHECK(refreshed.size() == 20);
      CHECK(optimizer.projection().period() == 2);
    } else {
      // the first comparison is made at step 2, the fifth at 10; T = 4 from there, 8 at 12, 16 at 16, 32 at 32
      CHECK(refreshed == std::vector<int>{0, 2, 4, 6, 8, 10, 12, 16, 32});
      CHECK(optimizer.projection().period() == 32);
    }
  }
}

TEST_CASE("Lazy options that make no sense throw, at construction and later", "[projector]") {
  MatrixXd W = MatrixXd::Zero(8, 8), G = MatrixXd::Ones(8, 8);
  const auto make = [&](const LazySubspace& o) { return Optimizer(W, o, Sgd{}, BackProject{}); };
  CHECK_THROWS_WITH(make({.similar = -1}), Catch::Matchers::ContainsSubstring("similar"));
  CHECK_THROWS_WITH(make({.stretch = 0.5}), Catch::Matchers::ContainsSubstring("stretch"));
  auto optimizer = make({.rank = 2});
  optimizer.projector().storage = Storage::Int8;
  CHECK_THROWS_WITH(optimizer.step(W, G, {.lr = 0.1}), Catch::Matchers::ContainsSubstring("storage"));
}
