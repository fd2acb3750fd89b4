// Online Subspace Descent against a transcription of its equations; the gradient of its loss against finite differences.
#include <support/naive.hpp>

#include <lowrank/whole/online_subspace.hpp>

using namespace lowrank;
using naive::MatrixXd;

namespace {

auto make(auto w, const OnlineSubspace& o) { return Optimizer(w, o, Coupled{}, Coupled{}); }

double loss(const MatrixXd& P, const MatrixXd& A) { return (P * (P.transpose() * A) - A).squaredNorm() / A.squaredNorm(); }

MatrixXd loss_gradient(const MatrixXd& P, const MatrixXd& A) {
  const MatrixXd Y = A * (A.transpose() * P) / A.squaredNorm();
  return 2 * (P * (P.transpose() * Y) - 2 * Y + Y * (P.transpose() * P));
}

/// The library's first basis: read off a step that moves it nowhere.
MatrixXd first_basis(OnlineSubspace o, Index rows, Index cols) {
  o.basis_lr = 0;
  MatrixXd W = MatrixXd::Zero(rows, cols);
  const MatrixXd G = support::training_gradient(rows, cols, 0);
  auto optimizer = make(support::Placed<double>(W, support::Order::Columns).view(), o);
  optimizer.step(W, G, {.lr = 0.02});
  const auto& basis = optimizer.projection().basis();
  MatrixXd P(basis.rows(), basis.cols());
  for (Index i = 0; i < P.size(); ++i) P.data()[i] = basis.data()[i];
  return P;
}

}  // namespace

TEST_CASE("Online Subspace Descent's equations", "[whole]") {
  const OnlineSubspace o{.rank = 5, .weight_decay = 0.1, .basis_lr = 0.01, .basis_weight_decay = 0.02};
  const double lr = 0.02;
  const auto equations = [&](Index rows, Index cols) {
    return [=, P = first_basis(o, rows, cols), M = MatrixXd(), V = MatrixXd(), m = MatrixXd(), v = MatrixXd()](
               MatrixXd& W, const MatrixXd& G, int t) mutable {
      const MatrixXd A = naive::smaller_first(G, rows, cols), R = P.transpose() * A;
      if (t++ == 0) M = V = MatrixXd::Zero(R.rows(), R.cols()), m = v = MatrixXd::Zero(P.rows(), P.cols());
      M = o.beta1 * M + (1 - o.beta1) * R;
      V = o.beta2 * V + (1 - o.beta2) * MatrixXd(R.array().square());
      const MatrixXd N = M.array() / (V.array().sqrt() + o.eps);
      const MatrixXd U = std::sqrt(1 - std::pow(o.beta2, t)) / (1 - std::pow(o.beta1, t)) * o.scale * P * N;
      W -= lr * (rows >= cols ? MatrixXd(U.transpose()) : U);
      W *= 1 - lr * o.weight_decay;
      const MatrixXd g = loss_gradient(P, A);
      m = o.basis_beta1 * m + (1 - o.basis_beta1) * g;
      v = o.basis_beta2 * v + (1 - o.basis_beta2) * MatrixXd(g.array().square());
      P *= 1 - o.basis_lr * o.basis_weight_decay;
      P -= o.basis_lr * MatrixXd((m / (1 - std::pow(o.basis_beta1, t))).array() /
                                 ((v / (1 - std::pow(o.basis_beta2, t))).array().sqrt() + o.basis_eps));
    };
  };
  naive::follow<double>([&](auto w) { return make(w, o); }, equations, 8, lr, 1e-9);
}

TEST_CASE("The gradient of the basis' loss is one", "[whole]") {
  const MatrixXd A = support::random_matrix(7, 11, 1);
  MatrixXd P = support::random_matrix(7, 3, 2);
  const MatrixXd g = loss_gradient(P, A);
  for (Index i = 0; i < P.size(); ++i) {
    const double h = 1e-5, x = P.data()[i];
    P.data()[i] = x + h;
    const double up = loss(P, A);
    P.data()[i] = x - h;
    const double down = loss(P, A);
    P.data()[i] = x;
    CHECK((up - down) / (2 * h) == Catch::Approx(g.data()[i]).epsilon(1e-6).margin(1e-8));
  }
}

TEST_CASE("The basis follows a subspace that turns", "[whole]") {
  MatrixXd W = MatrixXd::Zero(20, 40);
  Optimizer moving(W, OnlineSubspace{.rank = 2, .basis_lr = 0.02}, Coupled{}, Coupled{});
  Optimizer fixed(W, OnlineSubspace{.rank = 2, .basis_lr = 0}, Coupled{}, Coupled{});
  const MatrixXd a = support::random_matrix(20, 2, 1), b = support::random_matrix(20, 2, 2), right = support::random_matrix(2, 40, 3);
  double kept_moving = 0, kept_fixed = 0;
  for (int t = 0; t < 200; ++t) {
    const double angle = std::min(1.5, 0.01 * t);
    const MatrixXd G = (std::cos(angle) * a + std::sin(angle) * b) * right;
    kept_moving = moving.step(W, G, {.lr = 1e-3}).captured;
    kept_fixed = fixed.step(W, G, {.lr = 1e-3}).captured;
  }
  CHECK(kept_moving > 0.9);
  CHECK(kept_fixed < 0.5);
}
