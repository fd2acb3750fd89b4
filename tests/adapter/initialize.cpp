#include <cmath>

#include <lowrank/adapter/lora.hpp>
#include <support/catch.hpp>
#include <support/placed.hpp>

using lowrank::Index;
using lowrank::Init;
using lowrank::Lora;
using lowrank::Workspace;
using support::random_matrix;

namespace {

Eigen::Map<const Eigen::MatrixXd> map(const lowrank::Buffer<double>& b) { return {b.data(), b.rows(), b.cols()}; }

/// An orthonormal matrix: the cosine transform's.
Eigen::MatrixXd cosines(Index n) {
  Eigen::MatrixXd C(n, n);
  for (Index k = 0; k < n; ++k)
    for (Index i = 0; i < n; ++i)
      C(i, k) = std::sqrt((k == 0 ? 1.0 : 2.0) / double(n)) * std::cos(M_PI * double(k) * (double(i) + 0.5) / double(n));
  return C;
}

/// s B A
Eigen::MatrixXd change(const Lora<double>& lora) { return lora.scale() * map(lora.B().value) * map(lora.A().value); }

}  // namespace

TEST_CASE("LoRA: first values") {
  const Index m = 60, n = 48, r = 8;
  Lora<double> lora(m, n, {.rank = r, .alpha = 24});
  Workspace workspace;
  SECTION("Kaiming") {
    CHECK(map(lora.B().value).norm() == 0);
    CHECK(map(lora.A().value).cwiseAbs().maxCoeff() <= 1 / std::sqrt(double(n)));
    const double variance = map(lora.A().value).squaredNorm() / double(r * n);
    CHECK(variance == Catch::Approx(1.0 / double(3 * n)).epsilon(0.1));
    CHECK(std::abs(map(lora.A().value).mean()) < 3 * std::sqrt(variance / double(r * n)));
  }
  SECTION("Gaussian") {
    lora.initialize(Init::Gaussian);
    CHECK(map(lora.B().value).norm() == 0);
    CHECK(map(lora.A().value).norm() / std::sqrt(double(r * n)) == Catch::Approx(1.0 / double(r)).epsilon(0.1));
  }
  SECTION("Both") {
    lora.initialize(Init::Both);
    CHECK(map(lora.B().value).cwiseAbs().maxCoeff() <= 1 / std::sqrt(double(r)));
    CHECK(change(lora).norm() > 0);
  }
  SECTION("Orthogonal: neither is zero, their product is") {
    lora.initialize(Init::Orthogonal);
    CHECK(map(lora.A().value).norm() > 0.1);
    CHECK(map(lora.B().value).norm() > 0.1);
    CHECK(change(lora).norm() < 1e-13);
    Lora<double> odd(m, n, {.rank = 3});
    CHECK_THROWS_AS(odd.initialize(Init::Orthogonal), std::invalid_argument);
  }
  SECTION("PiSSA: the r leading singular triplets move from W to B A") {
    Eigen::VectorXd sigma(n);
    for (Index k = 0; k < n; ++k) sigma[k] = std::pow(0.9, double(k));
    const Eigen::MatrixXd W = cosines(m).leftCols(n) * sigma.asDiagonal() * cosines(n).transpose();
    Eigen::MatrixXd rest = W;
    lora.initialize(Init::Pissa, rest, workspace);
    CHECK((rest + change(lora) - W).norm() < 1e-12 * W.norm());
    sigma.head(r).setZero();
    CHECK((rest - cosines(m).leftCols(n) * sigma.asDiagonal() * cosines(n).transpose()).norm() < 1e-12);
    // the two factors share the singular values evenly
    CHECK((map(lora.B().value).transpose() * map(lora.B().value) - map(lora.A().value) * map(lora.A().value).transpose()).norm() < 1e-10);
  }
  SECTION("OLoRA: W loses its projection onto its first r columns") {
    const Eigen::MatrixXd W = random_matrix(m, n, 5);
    Eigen::MatrixXd rest = W;
    Lora<double> unit(m, n, {.rank = r, .alpha = double(r)});
    unit.initialize(Init::Olora, rest, workspace);
    CHECK((rest + change(unit) - W).norm() < 1e-12 * W.norm());
    CHECK(rest.leftCols(r).norm() < 1e-11 * W.norm());
    CHECK((map(unit.B().value).transpose() * map(unit.B().value) - Eigen::MatrixXd::Identity(r, r)).norm() < 1e-12);
  }
  CHECK_THROWS_AS(lora.initialize(Init::Pissa), std::invalid_argument);
}
