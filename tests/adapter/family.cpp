// DoRA, VeRA and the plain low-rank layer.
#include "adapter/laws.hpp"

#include <lowrank/adapter/dora.hpp>
#include <lowrank/adapter/low_rank.hpp>
#include <lowrank/adapter/vera.hpp>

using namespace support;
using lowrank::Dora;
using lowrank::Gradient;
using lowrank::LowRank;
using lowrank::NormGradient;
using lowrank::Path;
using lowrank::Vera;
using lowrank::VeraBases;
constexpr auto Factored = lowrank::Order::Factored, Composed = lowrank::Order::Composed;

static_assert(lowrank::Adapter<Dora<float>> && lowrank::Adapter<Vera<float>> && lowrank::Layer<LowRank<float>>);

namespace {

constexpr Path paths[] = {{Factored, Factored, Gradient::Factored}, {Composed, Composed, Gradient::Factored},
                          {Composed, Composed, Gradient::Dense}};

/// On the weight that the laws use.
template <class S = double>
Dora<S> dora(Index m, Index n, NormGradient how = NormGradient::Exact) {
  const Matrix<S> W = (0.3 * random_matrix(m, n, 1)).template cast<S>();
  Dora<S> adapter(W, {.rank = 3, .alpha = 6, .norm_gradient = how});
  randomize(adapter, 4);
  return adapter;
}
template <class S = double>
Vera<S> vera(Index m, Index n, const lowrank::VeraOptions& options = {}) {
  Vera<S> adapter(m, n, std::make_shared<const VeraBases<S>>(VeraBases<S>::torch(6, m + 3, n + 2, 5)), options);
  randomize(adapter, 4);
  return adapter;
}
template <class S = double>
LowRank<S> low_rank(Index m, Index n) {
  LowRank<S> layer(m, n, {.rank = 4});
  randomize(layer, 4);
  return layer;
}

}  // namespace

TEST_CASE("gradients are those of finite differences") {
  for (const auto& [m, n] : {std::pair<Index, Index>{12, 8}, {8, 12}})
    for (const Index samples : {1, 9})
      for (const Path& path : paths) {
        CAPTURE(m, n, samples, int(path.forward), int(path.gradient));
        check_gradients(dora(m, n), samples, {.path = path});
        check_gradients(vera(m, n), samples, {.path = path});
        check_gradients(low_rank(m, n), samples, {.path = path});
      }
  check_gradients(vera(20, 30, {.dropout = 0.4, .seed = 2}), 7, {.step = 5});
  check_gradients(dora(70, 130), 90, {});
}

TEST_CASE("laws of DoRA, VeRA and W = B A") {
  check_determinism(dora<float>(97, 150), 133);
  check_determinism(vera<float>(150, 97), 133);
  check_determinism(low_rank<float>(97, 150), 133);
  check_no_allocation(dora<float>(70, 130), 90);
  check_no_allocation(dora<float>(130, 70), 90, {.path = paths[1]});
  check_no_allocation(vera<float>(70, 130), 90);
  check_no_allocation(low_rank<float>(70, 130), 90);
  check_bad_input(dora(6, 9));
  check_bad_input(vera(6, 9));
  check_bad_input(low_rank(6, 9));
  check_float(dora<double>(40, 30), dora<float>(40, 30), 17);
  check_float(vera<double>(40, 30), vera<float>(40, 30), 17);
  check_float(low_rank<double>(40, 30), low_rank<float>(40, 30), 17);
}

TEST_CASE("DoRA: the function it begins with is W's, whatever A and B") {
  const Index m = 20, n = 14, N = 6;
  const Eigen::MatrixXd W = random_matrix(m, n, 1), X = random_matrix(n, N, 2);
  Dora<double> adapter(W, {.rank = 4});
  for (Index i = 0; i < m; ++i) CHECK(adapter.magnitude().value[i] == Catch::Approx(W.row(i).norm()).epsilon(1e-13));
  Eigen::MatrixXd Y(m, N);
  Trace<double> trace;
  Workspace workspace;
  adapter.forward(W, X, Y, trace, workspace);
  CHECK((Y - W * X).norm() < 1e-12 * Y.norm());
  randomize(adapter, 3);
  adapter.initialize(W, workspace);  // mu = ||W + s B A||
  adapter.forward(W, X, Y, trace, workspace);
  const Eigen::MatrixXd V = W + adapter.scale() * map(adapter.B().value) * map(adapter.A().value);
  CHECK((Y - V * X).norm() < 1e-12 * Y.norm());

  map(adapter.magnitude().value) *= 2;
  Eigen::MatrixXd merged = W;
  lowrank::KeepCopy<double> policy;
  policy.merge(adapter, merged, workspace);
  CHECK((merged - 2 * V).norm() < 1e-12 * V.norm());
  policy.unmerge(adapter, merged, workspace);
  CHECK(merged == W);
  CHECK_THROWS_AS(adapter.forward(lowrank::no_base, X, Y, trace, workspace), std::invalid_argument);
}

TEST_CASE("DoRA: the detached gradient is that of fixed row lengths, and the exact one is not it") {
  const Index m = 10, n = 8, N = 5;
  const Eigen::MatrixXd W = 0.3 * random_matrix(m, n, 1), X = random_matrix(n, N, 3), dY = random_matrix(m, N, 2);
  auto detached = dora(m, n, NormGradient::Detached), exact = dora(m, n, NormGradient::Exact);
  Eigen::MatrixXd Y(m, N);
  Trace<double> trace;
  Workspace workspace;
  for (auto* adapter : {&detached, &exact}) {
    adapter->forward(W, X, Y, trace, workspace);
    adapter->backward(W, X, dY, lowrank::no_gradient, trace, workspace);
  }
  const Eigen::MatrixXd A = map(exact.A().value), B = map(exact.B().value), V = W + exact.scale() * B * A;
  const Eigen::VectorXd q = map(exact.magnitude().value).col(0).cwiseQuotient(V.rowwise().norm());
  const Eigen::MatrixXd G = q.asDiagonal() * dY * X.transpose();
  CHECK((map(detached.A().gradient) - exact.scale() * B.transpose() * G).norm() < 1e-12);
  CHECK((map(detached.B().gradient) - exact.scale() * G * A.transpose()).norm() < 1e-12);
  CHECK((map(detached.A().gradient) - map(exact.A().gradient)).norm() > 0.1);
  CHECK(map(detached.magnitude().gradient) == map(exact.magnitude().gradient));
}

TEST_CASE("DoRA: rows of zeros do not divide by zero") {
  Eigen::MatrixXf W = random_matrix(6, 5, 1).cast<float>();
  W.row(2).setZero();
  Dora<float> adapter(W, {.rank = 2});
  const Eigen::MatrixXf X = random_matrix(5, 3, 2).cast<float>();
  Eigen::MatrixXf Y(6, 3), dX(5, 3);
  Trace<float> trace;
  Workspace workspace;
  adapter.forward(W, X, Y, trace, workspace);
  adapter.backward(W, X, Y, dX, trace, workspace);
  CHECK((Y.allFinite() && dX.allFinite() && (Y - W * X).norm() < 1e-5f));
  adapter.visit([](auto& p) { CHECK(map(p.gradient).allFinite()); });
}

TEST_CASE("VeRA: the change is the scaled product of leading parts, and begins at zero") {
  const Index m = 9, n = 7;
  auto adapter = vera(m, n);
  const auto& bases = adapter.bases();
  Eigen::MatrixXd W = Eigen::MatrixXd::Zero(m, n);
  Workspace workspace;
  adapter.add_change(W, 1, workspace);
  const Eigen::MatrixXd expected = map(adapter.lambda_b().value).col(0).asDiagonal() * map(bases.B).topRows(m) *
                                   map(adapter.lambda_d().value).col(0).asDiagonal() * map(bases.A).leftCols(n);
  CHECK((W - expected).norm() < 1e-13);
  const Vera<double> fresh(m, n, std::make_shared<const VeraBases<double>>(VeraBases<double>::torch(6, m, n)));
  CHECK(map(fresh.lambda_b().value).norm() == 0);
  CHECK(map(fresh.lambda_d().value) == Eigen::MatrixXd::Constant(6, 1, 0.1));
  CHECK(fresh.bytes() == 8 * (6 + 9));
  CHECK_THROWS_AS(Vera<double>(m + 4, n, std::make_shared<const VeraBases<double>>(bases)), std::invalid_argument);
}

TEST_CASE("W = B A: entries begin with variance 1 / (m + n), or as the nearest weight of that rank") {
  const Index m = 80, n = 60;
  LowRank<double> layer(m, n, {.rank = 16});
  Eigen::MatrixXd W(m, n);
  Workspace workspace;
  layer.write_weight(W, workspace);
  CHECK(W.squaredNorm() / double(m * n) == Catch::Approx(1.0 / double(m + n)).epsilon(0.2));
  const Eigen::MatrixXd target = random_matrix(m, 16, 1) * random_matrix(16, n, 2);
  layer.initialize(target, workspace);
  layer.write_weight(W, workspace);
  CHECK((W - target).norm() < 1e-11 * target.norm());
}
