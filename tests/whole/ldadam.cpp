// LDAdam against a transcription of its algorithm: interpolated power step, transport of both moments, generalised error
// feedback. The first basis is the library's (any one would do), everything after it is not.
#include <support/naive.hpp>

#include <lowrank/whole/ldadam.hpp>

using namespace lowrank;
using naive::MatrixXd;

namespace {

auto ld_adam(auto w, const LdAdam& o) { return Optimizer(w, o, Coupled{}, Coupled{}); }

/// The orthonormal factor with a positive diagonal in R.
MatrixXd qf(const MatrixXd& Y) {
  const Eigen::HouseholderQR<MatrixXd> qr(Y);
  MatrixXd Q = qr.householderQ() * MatrixXd::Identity(Y.rows(), Y.cols());
  for (Index j = 0; j < Q.cols(); ++j)
    if (qr.matrixQR()(j, j) < 0) Q.col(j) *= -1;
  return Q;
}

MatrixXd first_basis(const LdAdam& o, Index rows, Index cols) {
  MatrixXd W = MatrixXd::Zero(rows, cols);
  const MatrixXd G = support::training_gradient(rows, cols, 0);
  auto optimizer = ld_adam(support::Placed<double>(W, support::Order::Columns).view(), o);
  optimizer.step(W, G, {.lr = 0});
  const auto& basis = optimizer.projection().basis();
  MatrixXd P(basis.rows(), basis.cols());
  for (Index i = 0; i < P.size(); ++i) P.data()[i] = basis.data()[i];
  return P;
}

auto equations(const LdAdam& o, double lr) {
  return [=](Index rows, Index cols) {
    const bool right = rows > cols;
    return [=, P = first_basis(o, rows, cols), M = MatrixXd(), V = MatrixXd(), E = MatrixXd()](MatrixXd& W, const MatrixXd& G, int s) mutable {
      MatrixXd A = right ? MatrixXd(G.transpose()) : G;
      const double b1 = o.beta1, b2 = o.beta2, c1 = 1 - std::pow(b1, s), c2 = 1 - std::pow(b2, s);
      if (s == 0) M = V = MatrixXd::Zero(o.rank, A.cols()), E = MatrixXd::Zero(A.rows(), A.cols());
      if (o.feedback == Feedback::On) A += E;
      const MatrixXd old = P;
      if (s > 0) {
        const MatrixXd B = o.rho * old * M / c1 + (1 - o.rho) * A;
        P = qf(B * (B.transpose() * old));
      }
      const MatrixXd a = P.transpose() * A, C = P.transpose() * old, Mp = C * M;
      if (o.feedback == Feedback::On) E = A - P * a + b1 / (1 - b1) * (old * M - P * Mp);
      if (s > 0) {
        V = (c2 * (C.array().square().matrix() * (V.array() / c2 - M.array().square() / (c1 * c1)).matrix() +
                   (Mp.array().square() / (c1 * c1)).matrix())).cwiseAbs();
        M = Mp;
      }
      M = b1 * M + (1 - b1) * a;
      V = b2 * V + (1 - b2) * MatrixXd(a.array().square());
      const MatrixXd N = (M / (1 - std::pow(b1, s + 1))).array() / ((V / (1 - std::pow(b2, s + 1))).array().sqrt() + o.eps);
      const MatrixXd U = P * N;
      W *= 1 - lr * o.weight_decay;
      W -= lr * (right ? MatrixXd(U.transpose()) : U);
    };
  };
}

}  // namespace

TEST_CASE("LDAdam's algorithm", "[whole]") {
  for (const Feedback feedback : {Feedback::On, Feedback::Off}) {
    const LdAdam o{.rank = 5, .weight_decay = 0.1, .feedback = feedback};
    naive::follow<double>([&](auto w) { return ld_adam(w, o); }, equations(o, 0.02), 8, 0.02, 1e-9);
  }
  MatrixXd W = MatrixXd::Zero(4, 6);
  CHECK(ld_adam(support::Placed<double>(W, support::Order::Rows).view(), {.rank = 3}).state_bytes() == 8 * (4 * 3 + 2 * 3 * 6 + 4 * 6));
}

TEST_CASE("What LDAdam loses comes back: at full rank there is nothing to lose", "[whole]") {
  const LdAdam o{.rank = 100};
  MatrixXd W = support::random_matrix(12, 20, 1);
  Optimizer optimizer(W, o, Coupled{}, Coupled{});
  for (int t = 0; t < 5; ++t) {
    const MatrixXd G = support::training_gradient(12, 20, t);
    const Report report = optimizer.step(W, G, {.lr = 0.01});
    CHECK(report.captured == Catch::Approx(1));
    for (Index i = 0; i < W.size(); ++i) CHECK(std::abs(optimizer.projection().error()->full()[i]) < 1e-12);
  }
}
