#include <limits>

#include "adapter/laws.hpp"

#include <lowrank/adapter/riemannian.hpp>

using namespace support;
using lowrank::Lora;
using Half = Eigen::bfloat16;

namespace {

Lora<float> example(Index m, Index n) {
  Lora<float> lora(m, n, {.rank = 4});
  randomize(lora, 5, 0.05);
  return lora;
}

template <class T>
bool equal(const Matrix<T>& a, const Matrix<T>& b) { return std::memcmp(a.data(), b.data(), sizeof(T) * std::size_t(a.size())) == 0; }

}  // namespace

TEST_CASE("1000 cycles of merging: a copy and a master end where they began, subtraction does not") {
  const Index m = 24, n = 40;
  Lora<float> lora = example(m, n);
  const Matrix<Half> before = random_matrix(m, n, 1).cast<float>().cast<Half>();
  Workspace workspace;
  const auto cycles = [&](auto policy, int count) {
    Matrix<Half> W = before;
    for (int i = 0; i < count; ++i) {
      randomize(lora, unsigned(i), 0.05);  // training goes on between merges
      policy.merge(lora, W, workspace);
      CHECK_FALSE(equal(W, before));
      policy.unmerge(lora, W, workspace);
    }
    return W;
  };
  CHECK(equal(cycles(lowrank::KeepCopy<Half>{}, 1000), before));
  CHECK(equal(cycles(lowrank::Fp32Master(before), 1000), before));
  const auto drift = [&](int count) { return (cycles(lowrank::Recompute{}, count).cast<float>() - before.cast<float>()).norm(); };
  CHECK(drift(1) > 0);
  CHECK(drift(1000) > 2 * drift(1));
}

TEST_CASE("merging rounds once and says what rounding took") {
  const Index m = 30, n = 300;
  const Lora<float> lora = example(m, n);
  Workspace workspace;
  const Matrix<Half> before = random_matrix(m, n, 1).cast<float>().cast<Half>();
  const Eigen::MatrixXd D = lora.scale() * map(lora.B().value).cast<double>() * map(lora.A().value).cast<double>();
  for (const bool rows : {false, true}) {
    Placed<Half> W(before.cast<double>(), rows ? Order::Rows : Order::Columns, 1, 2);
    const auto report = lora.add_change(W.view(), 1, workspace);
    const Eigen::MatrixXd sum = before.cast<double>() + D;
    CHECK(report.change_norm == Catch::Approx(D.norm()).epsilon(1e-5));
    CHECK(report.error == Catch::Approx((W.values() - sum).norm() / D.norm()).epsilon(1e-3));
    CHECK(report.error > 1e-3);
    CHECK((W.values() - sum).cwiseAbs().maxCoeff() <= 0x1p-8 * sum.cwiseAbs().maxCoeff());
    CHECK(W.guards_intact());
  }
  Eigen::MatrixXf wide = before.cast<float>();
  CHECK(lora.add_change(wide, 1, workspace).error < 1e-5);
}

TEST_CASE("a merged weight computes what weight and adapter did") {
  const Index m = 20, n = 30, N = 7;
  Lora<double> lora(m, n, {.rank = 4});
  randomize(lora, 5);
  Eigen::MatrixXd W = random_matrix(m, n, 1), X = random_matrix(n, N, 2), Y(m, N);
  Trace<double> trace;
  Workspace workspace;
  lora.forward(W, X, Y, trace, workspace);
  lowrank::KeepCopy<double> policy;
  policy.merge(lora, W, workspace);
  CHECK((W * X - Y).norm() < 1e-12 * Y.norm());
  CHECK_THROWS_AS(policy.merge(lora, W, workspace), std::invalid_argument);
  policy.unmerge(lora, W, workspace);
  CHECK(W == random_matrix(m, n, 1));
  CHECK_THROWS_AS(policy.unmerge(lora, W, workspace), std::invalid_argument);
}

TEST_CASE("a merge that would not be finite changes nothing") {
  Lora<float> lora = example(9, 11);
  lora.B().value(8, 3) = std::numeric_limits<float>::infinity();
  const Matrix<Half> before = random_matrix(9, 11, 1).cast<float>().cast<Half>();
  Matrix<Half> W = before;
  Workspace workspace;
  lowrank::KeepCopy<Half> policy;
  CHECK_THROWS_AS(policy.merge(lora, W, workspace), std::invalid_argument);
  CHECK(equal(W, before));
  CHECK_THROWS_AS(policy.unmerge(lora, W, workspace), std::invalid_argument);
}

TEST_CASE("the Riemannian preconditioner is the two solves, and does not see how B A is split") {
  const Index m = 12, n = 15, r = 4, N = 6;
  Lora<double> lora(m, n, {.rank = r, .alpha = r});
  randomize(lora, 5);
  const Eigen::MatrixXd W = random_matrix(m, n, 1), X = random_matrix(n, N, 2), dY = random_matrix(m, N, 3);
  Workspace workspace;
  const auto step = [&](Lora<double> l, double eps) {
    Trace<double> trace;
    Eigen::MatrixXd Y(m, N);
    l.forward(W, X, Y, trace, workspace);
    l.backward(W, X, dY, lowrank::no_gradient, trace, workspace);
    const Eigen::MatrixXd A = map(l.A().value), B = map(l.B().value), dA = map(l.A().gradient), dB = map(l.B().gradient);
    lowrank::precondition(l, workspace, eps);
    const Eigen::MatrixXd shift = eps * Eigen::MatrixXd::Identity(r, r);
    CHECK(((B.transpose() * B + shift) * map(l.A().gradient) - dA).norm() < 1e-11 * dA.norm());
    CHECK((map(l.B().gradient) * (A * A.transpose() + shift) - dB).norm() < 1e-11 * dB.norm());
    return Eigen::MatrixXd(map(l.B().gradient) * A + B * map(l.A().gradient));  // the first-order change of B A
  };
  const Eigen::MatrixXd change = step(lora, 1e-2);
  Lora<double> other = lora;  // (B T^-1) (T A) with T = 3
  map(other.A().value) *= 3;
  map(other.B().value) /= 3;
  CHECK((step(other, 1e-13) - step(lora, 1e-13)).norm() < 1e-9 * change.norm());
  Lora<double> fresh(m, n, {.rank = r});
  CHECK_THROWS_AS(lowrank::precondition(fresh, workspace), std::invalid_argument);
}
