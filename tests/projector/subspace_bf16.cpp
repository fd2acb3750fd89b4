// SubspaceBf16: a basis of bf16 numbers projects and brings back as its numbers say, loses as little as the rounding does, and is found
// again in a file.
#include <cmath>

#include <lift/by_hand.hpp>
#include <support/catch.hpp>
#include <support/folder.hpp>
#include <support/placed.hpp>

#include <lowrank/io/safetensors.hpp>
#include <lowrank/optimizer.hpp>
#include <lowrank/projector/subspace_bf16.hpp>
#include <lowrank/rule/adamw.hpp>
#include <lowrank/rule/sgd.hpp>

using namespace support;
using namespace lowrank;
using Catch::Matchers::ContainsSubstring;
using Eigen::MatrixXd;
using Eigen::MatrixXf;

namespace {

template <class O>
MatrixXd basis_of(const O& optimizer) {
  const auto& P = optimizer.projection().basis();
  return Eigen::Map<const Eigen::Matrix<Eigen::bfloat16, -1, -1>>(P.data(), P.rows(), P.cols()).template cast<float>().template cast<double>();
}

/// A gradient with the r strong directions Q and some noise.
MatrixXd gradient(const MatrixXd& Q, Index k, unsigned seed, double noise = 0.05) {
  return Q * random_matrix(Q.cols(), k, seed) + noise * random_matrix(Q.rows(), k, seed + 1000);
}

}  // namespace

TEST_CASE("In double, a step is the one of the numbers the state holds", "[projector]") {
  const Index d = 120, k = 200, r = 8;
  const MatrixXd Q = orthonormal(d, r, 1);
  MatrixXd W = MatrixXd::Zero(d, k);
  Optimizer optimizer(W, SubspaceBf16{.rank = r, .side = Side::Left, .refresh_every = 3}, Sgd{}, BackProject{});
  for (int t = 0; t < 7; ++t) {
    const MatrixXd G = gradient(Q, k, unsigned(10 + t)), before = W;
    const Report report = optimizer.step(W, G, {.lr = 0.5});
    CHECK(report.refreshed == (t % 3 == 0));
    const MatrixXd P = basis_of(optimizer);
    CHECK((before - W - 0.5 * P * (P.transpose() * G)).cwiseAbs().maxCoeff() < 1e-12);
    CHECK(report.captured == Catch::Approx((P.transpose() * G).squaredNorm() / G.squaredNorm()).epsilon(1e-12));
    CHECK(report.captured > 0.998 * (Q.transpose() * G).squaredNorm() / G.squaredNorm());
  }
}

TEST_CASE("Columns are orthonormal up to their rounding, and R up to that of A", "[projector]") {
  // roundings of 2^-8 at most, 2^-9.2 on average, two a product: deviations of 2^-8.7 times what sums of d independent ones are
  const double rounding = std::exp2(-8.7);
  for (const auto& [d, k, r] : {std::tuple<Index, Index, Index>{64, 300, 16}, {700, 900, 40}}) {
    CAPTURE(d, k, r);
    for (const double noise : {0.05, 1e6}) {  // a gradient that P holds most of, and one without any structure
      MatrixXf W = MatrixXf::Zero(d, k);
      Optimizer optimizer(W, SubspaceBf16{.rank = r, .side = Side::Left}, Sgd{}, BackProject{});
      const MatrixXf G = gradient(orthonormal(d, r, 1), k, 7, noise).cast<float>(), before = W;
      const Report report = optimizer.step(W, G, {.lr = 1});
      const MatrixXd P = basis_of(optimizer), A = G.cast<double>(), R = P.transpose() * A, U = P * R, moved = (before - W).cast<double>();
      const MatrixXd off = P.transpose() * P - MatrixXd::Identity(r, r);
      CHECK(off.norm() / double(r) < 1.5 * rounding / std::sqrt(double(d)));
      CHECK(off.norm() / double(r) > 0.3 * rounding / std::sqrt(double(d)));
      CHECK(off.cwiseAbs().maxCoeff() < 8 * rounding / std::sqrt(double(d)));
      // U = P R: what R is wrong by (r / d of ||A||), and the roundings of P and R in the second product; here P is exact
      const double one = std::exp2(-9.2), expected = one * std::sqrt(A.squaredNorm() * double(r) / double(d) + R.squaredNorm());
      CHECK((moved - U).norm() < 1.2 * expected);
      CHECK((moved - U).norm() > 0.5 * expected);
      CHECK(std::abs(report.captured - R.squaredNorm() / A.squaredNorm()) < 1e-4);
    }
  }
}

TEST_CASE("A gradient of bf16 is not rounded again: the products are exact but for their sums", "[projector]") {
  const Index d = 90, k = 130, r = 6;
  MatrixXf W = MatrixXf::Zero(d, k);
  const Eigen::Matrix<Eigen::bfloat16, -1, -1> G = gradient(orthonormal(d, r, 1), k, 3).cast<float>().cast<Eigen::bfloat16>();
  Optimizer optimizer(W, SubspaceBf16{.rank = r, .side = Side::Left}, Sgd{}, BackProject{});
  const Report report = optimizer.step(W, G, {.lr = 1});
  const MatrixXd P = basis_of(optimizer), A = G.cast<float>().cast<double>(), R = P.transpose() * A;
  CHECK(std::abs(report.captured / (R.squaredNorm() / A.squaredNorm()) - 1) < 1e-6);
}

TEST_CASE("It follows a subspace as Subspace does, and trains as far", "[projector]") {
  const Index d = 60, k = 90, r = 6;
  const MatrixXf target = (0.05 * random_matrix(d, r, 1) * random_matrix(r, k, 2)).cast<float>();
  MatrixXf narrow = MatrixXf::Zero(d, k), full = narrow;
  Optimizer a(narrow, SubspaceBf16{.rank = r, .refresh_every = 10}, AdamW{}, BackProject{});
  Optimizer b(full, Subspace{.rank = r, .refresh_every = 10}, AdamW{}, BackProject{});
  for (int t = 0; t < 300; ++t) {
    const double lr = 0.05 * (1 - t / 300.0);
    const Report of_a = a.step(narrow, MatrixXf(narrow - target), {.lr = lr}), of_b = b.step(full, MatrixXf(full - target), {.lr = lr});
    if (t < 50) CHECK(std::abs(of_a.captured - of_b.captured) < 0.01);
  }
  CHECK((full - target).norm() < 0.01 * target.norm());
  CHECK((narrow - target).norm() < 1.5 * (full - target).norm() + 1e-3 * target.norm());
}

TEST_CASE("Half the bytes, in the state and in its file, which no other basis reads", "[projector]") {
  const Folder folder("subspace_bf16");
  const Index d = 33, k = 70, r = 5;
  MatrixXf W = random_matrix(d, k, 1).cast<float>();
  const MatrixXf G = random_matrix(d, k, 2).cast<float>();
  Optimizer saved(W, SubspaceBf16{.rank = r}, AdamW{}, BackProject{});
  CHECK(saved.state_bytes() == std::size_t(2 * d * r + 2 * 4 * k * r));
  saved.step(W, G, {.lr = 0.1});
  saved.save(folder / "s");
  const auto file = io::Safetensors::read(folder / "s");
  CHECK(file.find("weight/basis")->dtype == "BF16");
  CHECK(file.find("weight/basis")->shape == std::vector<std::uint64_t>{std::uint64_t(r), std::uint64_t(d)});

  Optimizer loaded(W, SubspaceBf16{.rank = 2}, AdamW{}, BackProject{});
  loaded.load(folder / "s");
  CHECK(loaded == saved);
  MatrixXf again = W;
  for (int t = 0; t < 3; ++t) saved.step(W, G, {.lr = 0.1}), loaded.step(again, G, {.lr = 0.1});
  CHECK(W == again);

  Optimizer other(W, Subspace{.rank = r}, AdamW{}, BackProject{});
  CHECK_THROWS_WITH(other.load(folder / "s"), ContainsSubstring("projector.name: subspace_bf16 in the file, subspace here"));
  // a file whose basis is of floats is no state of this
  other.step(W, G, {.lr = 0.1});
  other.save(folder / "t");
  const auto floats = io::Safetensors::read(folder / "t");
  std::vector<io::Tensor> tensors;
  for (const auto& t : file.tensors()) tensors.push_back({t.name, t.dtype, t.shape, t.data});
  for (auto& t : tensors)
    if (t.name == "weight/basis") t.dtype = "F32", t.data = floats.find("weight/basis")->data;
  io::write_safetensors(folder / "u", std::move(tensors), {{"lowrank", file.metadata().at("lowrank")}});
  CHECK_THROWS_WITH(loaded.load(folder / "u"), ContainsSubstring("F32") && ContainsSubstring("BF16"));
}

TEST_CASE("Options of a basis in bf16 that make no sense throw", "[projector]") {
  MatrixXf W = MatrixXf::Zero(8, 8);
  const auto make = [&](const SubspaceBf16& o) { return Optimizer(W, o, Sgd{}, BackProject{}); };
  CHECK_THROWS_WITH(make({.rank = 0}), ContainsSubstring("rank"));
  CHECK_THROWS_WITH(make({.sweeps = 0}), ContainsSubstring("sweeps"));
  CHECK_THROWS_WITH(make({.refresh_on_drift = 2}), ContainsSubstring("lowrank::SubspaceBf16") && ContainsSubstring("refresh_on_drift"));
}
