// FLORA against a transcription of its equations, on the library's random projections.
#include <support/naive.hpp>

#include <lowrank/whole/flora.hpp>

using namespace lowrank;
using naive::MatrixXd;
using naive::VectorXd;

TEST_CASE("FLORA's equations", "[whole]") {
  for (const double clip : {1.0, 0.3}) {
    const Flora o{.rank = 4, .refresh_every = 3, .clip = clip, .weight_decay = 0.1, .seed = 5};
    const double lr = 0.02;
    const auto equations = [&](Index rows, Index cols) {
      const Index d = std::min(rows, cols), k = std::max(rows, cols);
      const auto projection = [=](std::uint64_t draw) {
        MatrixXd P(d, o.rank);
        fill_normal(P.data(), P.size(), o.seed, draw, 0);
        return MatrixXd(P / std::sqrt(double(o.rank)));
      };
      return [=, M = MatrixXd(MatrixXd::Zero(o.rank, k)), row = VectorXd(VectorXd::Zero(d)), column = VectorXd(VectorXd::Zero(k)),
              P = projection(1), draw = std::uint64_t(1)](MatrixXd& W, const MatrixXd& G, int t) mutable {
        if (t > 0 && t % o.refresh_every == 0) {
          const MatrixXd next = projection(++draw);
          M = next.transpose() * (P * M);
          P = next;
        }
        const MatrixXd A = naive::smaller_first(G, rows, cols);
        const double b2 = 1 - std::pow(double(t + 1), -o.decay_power);
        const MatrixXd square = A.array().square() + o.eps;
        row = b2 * row + (1 - b2) * square.rowwise().mean();
        column = b2 * column + (1 - b2) * square.colwise().mean().transpose();
        MatrixXd U = A;
        for (Index i = 0; i < d; ++i)
          for (Index j = 0; j < k; ++j) U(i, j) /= std::sqrt(row(i) / row.mean() * column(j));
        U /= std::max(1.0, std::sqrt(U.squaredNorm() / double(U.size())) / o.clip);
        M = o.beta1 * M + (1 - o.beta1) * P.transpose() * U;
        const MatrixXd step = P * M;
        W *= 1 - lr * o.weight_decay;
        W -= lr * (rows >= cols ? MatrixXd(step.transpose()) : step);
      };
    };
    naive::follow<double>([&](auto w) { return Optimizer(w, o, Coupled{}, Coupled{}); }, equations, 8, lr, 1e-11);
  }
}

TEST_CASE("FLORA's options are checked", "[whole]") {
  const MatrixXd W = MatrixXd::Zero(4, 6);
  const auto make = [&](const Flora& o) { return Optimizer(W, o, Coupled{}, Coupled{}); };
  using Catch::Matchers::ContainsSubstring;
  CHECK_THROWS_WITH(make({.refresh_every = -1}), ContainsSubstring("refresh_every"));
  CHECK_THROWS_WITH(make({.beta1 = 1}), ContainsSubstring("beta1"));
  CHECK_THROWS_WITH(make({.clip = 0}), ContainsSubstring("clip"));
}
