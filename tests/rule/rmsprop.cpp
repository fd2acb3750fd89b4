// RMSProp against a transcription of Fira's: with and without momentum, full rank and under Fira's lift in given bases.
#include <support/injected.hpp>
#include <support/naive.hpp>

#include <lowrank/lift/residual.hpp>
#include <lowrank/optimizer.hpp>
#include <lowrank/projector/identity.hpp>
#include <lowrank/rule/rmsprop.hpp>

using namespace lowrank;
using naive::MatrixXd;

namespace {

struct Equations {
  RmsProp o;
  MatrixXd V, B;

  MatrixXd operator()(const MatrixXd& R) {
    if (V.size() == 0) V.setZero(R.rows(), R.cols()), B = V;
    V = o.beta * V.array() + (1 - o.beta) * R.array().square();
    const MatrixXd N = R.array() / (V.array().sqrt() + o.eps);
    if (o.momentum == 0) return N;
    B = o.momentum * B + N;
    return B;
  }
};

}  // namespace

TEST_CASE("RMSProp's equations, full rank", "[rule]") {
  for (const double momentum : {0.0, 0.8}) {
    const RmsProp o{.momentum = momentum, .weight_decay = 0.1};
    const auto make = [&](auto w) { return Optimizer(w, Identity{}, o); };
    const auto equations = [&](Index, Index) {
      return [e = Equations{o, {}, {}}](MatrixXd& W, const MatrixXd& G, int) mutable {
        W *= 1 - 0.05 * 0.1;
        W -= 0.05 * e(G);
      };
    };
    naive::follow<double>(make, equations, 5, 0.05, 1e-12);
    naive::follow<float>(make, equations, 5, 0.05, 2e-6);
  }
}

TEST_CASE("Fira's RMSProp in given bases", "[rule]") {
  const RmsProp o;
  const double alpha = 0.25, lr = 0.02;
  std::vector<MatrixXd> given;
  const auto make = [&](auto w) {
    given = naive::bases(std::min(w.rows, w.cols), 4, 3);
    return Optimizer(w, support::Injected{.rank = 4, .refresh_every = 3, .bases = &given}, o, Residual{.scale = alpha});
  };
  naive::follow<double>(make, [&](Index rows, Index cols) {
    return [=, e = Equations{o, {}, {}}, P = naive::bases(std::min(rows, cols), 4, 3), limit = 0.0](MatrixXd& W, const MatrixXd& G, int t) mutable {
      const MatrixXd& basis = P[std::size_t(t / 3)];
      const MatrixXd A = naive::smaller_first(G, rows, cols), R = basis.transpose() * A, N = e(R);
      MatrixXd rest = A - alpha * basis * R;
      for (Index j = 0; j < A.cols(); ++j) rest.col(j) *= N.col(j).norm() / (R.col(j).norm() + 1e-8);
      if (t > 0) rest /= std::max(rest.norm() / (limit + 1e-8), 1.01) / 1.01;
      limit = rest.norm();
      const MatrixXd U = alpha * basis * N + rest;
      W -= lr * (rows >= cols ? MatrixXd(U.transpose()) : U);
    };
  }, 7, lr, 1e-12);
}

TEST_CASE("Options of RMSProp are checked", "[rule]") {
  MatrixXd W = MatrixXd::Zero(4, 6);
  const MatrixXd G = MatrixXd::Ones(4, 6);
  using Catch::Matchers::ContainsSubstring;
  CHECK_THROWS_WITH(Optimizer(W, Identity{}, RmsProp{.beta = 1}), ContainsSubstring("beta"));
  CHECK_THROWS_WITH(Optimizer(W, Identity{}, RmsProp{.eps = -1}), ContainsSubstring("eps"));
  Optimizer optimizer(W, Identity{}, RmsProp{});
  optimizer.rule().momentum = 0.9;
  CHECK_THROWS_WITH(optimizer.step(W, G, {.lr = 0.1}), ContainsSubstring("no momentum buffer"));
  CHECK(W.isZero(0));
}
