// Measures: the reference vectors, what was worked out by hand, identities, and what must be 0 instead of 0/0.
#include <filesystem>
#include <numbers>

#include <support/golden.hpp>

#include "jacobian/networks.hpp"

#include <lowrank/jacobian/feature_learning.hpp>
#include <lowrank/jacobian/measure.hpp>

using namespace lowrank_test;
using Catch::Approx;
using support::Golden;

namespace {

Alignment measure(const Mlp<double>& net, const Matrix<double>& X, Matrix<double>& Y) {
  auto cache = net.cache(X.cols());
  Y.resize(net.output_dim(), X.cols());
  net.forward(batch(X), cache, batch(Y));
  return alignment(net, cache, X, centroid_cotangents(CentroidOf::Ones, Y, {}));
}

}  // namespace

TEST_CASE("alignments are the reference's") {
  int checked = 0;
  for (const char* name : {"relu.6x9x7x3", "leaky_relu.8x10x4", "identity.5x3"}) {
    CAPTURE(name);
    const Golden g(std::string("jacobian.") + name);
    std::vector<Layer<double>> layers;
    for (int l = 0; g.has("W" + std::to_string(l)); ++l)
      layers.push_back({g.matrix("W" + std::to_string(l)), {}, g.matrix("b" + std::to_string(l)).transpose()});
    const std::string act = g.text("activation");
    const Mlp<double> net(layers, {act == "relu"       ? Nonlinearity::Relu
                                   : act == "identity" ? Nonlinearity::Identity
                                                       : Nonlinearity::LeakyRelu});
    const Matrix<double> X = g.matrix("x").transpose();
    Matrix<double> Y;
    const Alignment a = measure(net, X, Y);
    CHECK((a.centroid - g.matrix("centroid_alignment").transpose()).cwiseAbs().maxCoeff() < 1e-9);
    const Matrix<double> rows = g.matrix("jacobian_alignment");  // cosines of all rows
    CHECK((a.row_min - rows.rowwise().minCoeff()).cwiseAbs().maxCoeff() < 1e-9);
    CHECK((a.row_max - rows.rowwise().maxCoeff()).cwiseAbs().maxCoeff() < 1e-9);
    checked += int(X.cols());
  }
  CHECK(checked > 0);
}

TEST_CASE("the small net's alignments are those worked out by hand") {
  Matrix<double> W1(3, 2), W2(2, 3), X(2, 2), Y;
  W1 << 1, -1, 2, 1, -1, 3;
  W2 << 1, 0, -1, 1, 2, 1;
  X << 1, -0.5, 0.5, 1;
  Vector<double> b1(3), b2(2);
  b1 << 0.5, -1, 0.25;
  b2 << 0, 0.1;
  const std::vector<Layer<double>> layers = {{W1, {}, b1}, {W2, {}, b2}};
  const Alignment relu = measure({layers, {Nonlinearity::Relu}}, X, Y);
  CHECK(relu.centroid[0] == Approx(0.894427190999916).epsilon(1e-13));
  CHECK(relu.jacobian[0] == Approx(0.744208407535251).epsilon(1e-13));
  CHECK(relu.centroid[1] == 0);  // mu = 0
  CHECK(relu.jacobian[1] == Approx(0.989949493661166).epsilon(1e-13));
  const Alignment tanh = measure({layers, {Nonlinearity::Tanh}}, X, Y);
  CHECK(tanh.centroid[0] == Approx(0.724291055051799).epsilon(1e-13));
  CHECK(tanh.centroid[1] == Approx(-0.447213595499958).epsilon(1e-13));
  const Alignment gelu = measure({layers, {Nonlinearity::Gelu}}, X, Y);
  CHECK(gelu.centroid[0] == Approx(0.900263558911336).epsilon(1e-13));
  CHECK(gelu.centroid[1] == Approx(0.447213595499958).epsilon(1e-13));
}

// For bias-free piecewise-linear networks J x = f(x).
TEST_CASE("without biases A is |f| / (|J| |x|) and the inner product the sum of outputs") {
  Mlp<double> net = network({6, 9, 8, 4}, {Nonlinearity::LeakyRelu, 0.1}, Kind::Mixed);
  for (auto& k : net.layers()) k.bias.resize(0);
  const Matrix<double> X = random_matrix(6, 5, 2);
  Matrix<double> Y;
  const Alignment a = measure(net, X, Y);
  for (Index b = 0; b < 5; ++b) {
    CHECK(a.jacobian[b] == Approx(Y.col(b).norm() / (a.jacobian_norm[b] * X.col(b).norm())).epsilon(1e-11));
    CHECK(a.inner[b] == Approx(Y.col(b).sum()).epsilon(1e-10).margin(1e-12));
  }
}

// The optimum of the cross-entropy loss among |J|_F^2 <= alpha: rows a x and b x, and a centroid of zero.
TEST_CASE("at the aligned optimum A is 1, the rank 1 and the centroid zero") {
  Matrix<double> W(4, 3), X(3, 1), Y;
  X << 1, 2, -1;
  const double alpha = 2, C = 4, x = X.norm();
  W.setZero();
  for (Index c = 0; c < 4; ++c)
    W.row(c) = (c == 1 ? std::sqrt(alpha * (C - 1) / C) : -std::sqrt(alpha / (C * (C - 1)))) / x * X.transpose();
  CHECK((W.row(1) - Eigen::RowVector3d(0.5, 1, -0.5)).norm() < 1e-14);
  CHECK((W.row(0) - Eigen::RowVector3d(-1, -2, 1) / 6).norm() < 1e-14);
  const Mlp<double> net(std::vector<Layer<double>>{{W}}, {});
  const Alignment a = measure(net, X, Y);
  CHECK(a.jacobian[0] == Approx(1).epsilon(1e-14));
  CHECK(a.first_component[0] == Approx(1).epsilon(1e-12));
  CHECK(a.effective_rank[0] == Approx(1).epsilon(1e-10));
  CHECK(a.centroid[0] == 0);
  CHECK(a.jacobian_norm[0] == Approx(std::sqrt(alpha)).epsilon(1e-14));
  CHECK(a.row_max[0] == Approx(1).epsilon(1e-14));
  CHECK(a.row_min[0] == Approx(-1).epsilon(1e-14));
  // the weighted centroid of the label sees what the plain one cannot
  auto cache = net.cache(1);
  net.forward(batch(std::as_const(X)), cache, batch(Y));
  for (const CentroidOf kind : {CentroidOf::Label, CentroidOf::LabelMinusMean, CentroidOf::LabelMinusRunnerUp})
    CHECK(alignment(net, cache, X, centroid_cotangents(kind, Y, {1})).centroid[0] == Approx(1).epsilon(1e-14));
}

TEST_CASE("cotangents of centroids") {
  Matrix<double> Y(3, 2);
  Y << 5, 1, 2, 7, 3, 4;
  const auto runner_up = centroid_cotangents(CentroidOf::LabelMinusRunnerUp, Y, {0, 2});
  CHECK(runner_up.col(0) == Eigen::Vector3d(1, 0, -1));
  CHECK(runner_up.col(1) == Eigen::Vector3d(0, -1, 1));
  CHECK(centroid_cotangents(CentroidOf::LabelMinusMean, Y, {0, 2}).colwise().sum().cwiseAbs().maxCoeff() < 1e-15);
  CHECK_THROWS_AS(centroid_cotangents(CentroidOf::Label, Y, {0, 3}), std::invalid_argument);
  CHECK_THROWS_AS(centroid_cotangents(CentroidOf::Label, Y, {0}), std::invalid_argument);
}

TEST_CASE("nothing gives 0, never NaN") {
  const Mlp<double> net(std::vector<Layer<double>>{{Matrix<double>::Zero(3, 4)}}, {});
  Matrix<double> Y;
  for (const Matrix<double>& X : {Matrix<double>(random_matrix(4, 2, 1)), Matrix<double>(Matrix<double>::Zero(4, 2))}) {
    const Alignment a = measure(net, X, Y);
    for (const Vector<double>* v : {&a.centroid, &a.centroid_norm, &a.inner, &a.jacobian, &a.jacobian_norm, &a.row_min,
                                    &a.row_max, &a.first_component, &a.effective_rank})
      CHECK(*v == Vector<double>::Zero(2));
  }
}

TEST_CASE("ranks of known spectra") {
  const Vector<double> flat = Vector<double>::Constant(5, 0.3), one = (Vector<double>(4) << 2, 0, 0, 0).finished();
  CHECK(stable_rank(flat) == Approx(5).epsilon(1e-14));
  CHECK(participation_ratio(flat) == Approx(5).epsilon(1e-14));
  CHECK(entropy_rank(flat) == Approx(5).epsilon(1e-14));
  CHECK(stable_rank(one) == 1);
  CHECK(participation_ratio(one) == 1);
  CHECK(entropy_rank(one) == 1);
  const Matrix<double> A = random_matrix(7, 2, 1) * random_matrix(2, 5, 2);
  const Vector<double> sigma = singular_values(A);
  CHECK(sigma.squaredNorm() == Approx(A.squaredNorm()).epsilon(1e-12));
  CHECK(sigma[1] > 0.1);
  CHECK(sigma[2] < 1e-12 * sigma[0]);
}

TEST_CASE("the tangent kernel is the Gram matrix of parameter gradients") {
  for (const Kind kind : {Kind::Dense, Kind::Mixed}) {
    const Mlp<double> net = network({4, 6, 5, 3}, {Nonlinearity::Tanh}, kind);
    const Matrix<double> X = random_matrix(4, 3, 2);
    Matrix<double> Y(3, 3), V(3, 3);
    auto cache = net.cache(3);
    net.forward(batch(X), cache, batch(Y));
    std::vector<Grads> rows;
    for (Index b = 0; b < 3; ++b)
      for (Index c = 0; c < 3; ++c) {
        V.setZero();
        V(c, b) = 1;
        rows.push_back(net.grads());
        net.param_vjp(cache, batch(std::as_const(V)), rows.back());
      }
    const Matrix<double> kernel = tangent_kernel(net, cache);
    for (Index i = 0; i < 9; ++i)
      for (Index j = 0; j < 9; ++j)
        CHECK(kernel(i, j) == Approx(inner(rows[std::size_t(i)], rows[std::size_t(j)])).epsilon(1e-12).margin(1e-13));
    CHECK(kernel_alignment(kernel, kernel) == Approx(1).epsilon(1e-14));
    CHECK(kernel_alignment(kernel, Matrix<double>::Zero(9, 9)) == 0);
    const Matrix<double> H = hidden_states(cache, 2);
    CHECK((representation_kernel(ConstBatch<double>(batch(H))) - H.transpose() * H).cwiseAbs().maxCoeff() < 1e-13);
    CHECK(sign_similarity(H, H) == 1);
    CHECK(sign_similarity(H, -H) == 0);
  }
}

TEST_CASE("the power of frequencies finds the waves in weights") {
  Matrix<double> W(3, 13);
  for (Index j = 0; j < 13; ++j) {
    const double t = 2 * std::numbers::pi * double(j) / 13;
    W.col(j) << std::cos(2 * t), 3 * std::sin(5 * t), 0.5;
  }
  const Vector<double> power = fourier_power(W);
  CHECK(power.sum() == Approx(W.squaredNorm()).epsilon(1e-13));
  CHECK(power[0] == Approx(0.25 * 13).epsilon(1e-12));
  CHECK(power[2] == Approx(6.5).epsilon(1e-12));
  CHECK(power[5] == Approx(9 * 6.5).epsilon(1e-12));
  CHECK(fourier_sparsity(power, 1) == Approx(0.9).epsilon(1e-12));
  CHECK(fourier_sparsity(power, 2) == Approx(1).epsilon(1e-12));
  CHECK(fourier_sparsity(Vector<double>::Zero(4), 2) == 0);
  CHECK(fourier_power(Matrix<double>(random_matrix(2, 8, 1))).sum() ==
        Approx(random_matrix(2, 8, 1).squaredNorm()).epsilon(1e-13));
}
