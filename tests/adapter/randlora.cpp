#include "adapter/laws.hpp"

#include <lowrank/adapter/randlora.hpp>

using namespace support;
using lowrank::Basis;
using lowrank::Gradient;
using lowrank::Pairing;
using lowrank::Path;
using lowrank::RandBases;
using lowrank::RandLora;
constexpr auto Factored = lowrank::Order::Factored, Composed = lowrank::Order::Composed;

static_assert(lowrank::Adapter<RandLora<float>>);

namespace {

constexpr Path paths[] = {{Factored, Factored, Gradient::Factored}, {Composed, Factored, Gradient::Factored},
                          {Factored, Composed, Gradient::Factored}, {Composed, Composed, Gradient::Dense},
                          {Factored, Factored, Gradient::Dense}};

template <class S>
std::shared_ptr<const RandBases<S>> shared(RandBases<S> bases) { return std::make_shared<const RandBases<S>>(std::move(bases)); }

/// Bases larger than the weight, so that leading parts of them are used.
template <class S = double>
RandLora<S> example(Index m, Index n, Index r, Basis basis = Basis::Dense, const lowrank::RandLoraOptions& options = {.alpha = 8}) {
  const Index larger = std::max(m, n) + 3, smaller = std::min(m, n) + 5;
  RandLora<S> adapter(m, n, shared(RandBases<S>::torch({.rank = r, .larger = std::max(larger, smaller), .smaller = smaller, .basis = basis, .key = 7})), options);
  randomize(adapter, 4);
  return adapter;
}

/// s P Q by its definition.
template <class S>
Eigen::MatrixXd change(const RandLora<S>& a) {
  const Index d = std::min(a.rows(), a.cols()), D = std::max(a.rows(), a.cols()), r = a.rank(), K = a.blocks();
  Eigen::MatrixXd P(D, r * K), Q(r * K, d);
  for (Index j = 0; j < r * K; ++j) {
    const bool peft = a.options().pairing == Pairing::Peft;
    const Index k = peft ? j / K : j % r, b = peft ? j % K : j / r;
    for (Index i = 0; i < D; ++i) P(i, j) = double(a.bases().b(i, j));
    for (Index i = 0; i < d; ++i) Q(j, i) = double(a.lambda().value(k, b)) * double(a.gamma().value(b, i)) * double(a.bases().A()(i, k));
  }
  const Eigen::MatrixXd W = a.scale() * P * Q;
  return a.rows() < a.cols() ? Eigen::MatrixXd(W.transpose()) : W;
}

}  // namespace

TEST_CASE("RandLoRA: reference vectors", "[golden]") {
  for (const char* shape : {"tall", "wide", "square"})
    for (const Path& path : paths) {
      CAPTURE(shape, int(path.forward), int(path.backward), int(path.gradient));
      const Golden golden("randlora." + std::string(shape));
      const Eigen::MatrixXd W = golden.matrix("W0"), X = golden.matrix("x").transpose(), dY = golden.matrix("dy").transpose();
      const auto dims = golden.shape("B");  // larger, K, r
      const auto a_dims = golden.shape("A");
      Eigen::MatrixXd A(a_dims[0], a_dims[2]), B(dims[0], dims[1] * dims[2]);
      for (Index k = 0; k < A.rows(); ++k) A.row(k) = golden.matrix("A", k);
      for (Index i = 0; i < B.rows(); ++i)
        for (Index b = 0; b < dims[1]; ++b) B.row(i).segment(b * dims[2], dims[2]) = golden.matrix("B", i).row(b);
      RandLora<double> adapter(W.rows(), W.cols(), shared(RandBases<double>::adopt(A, B)), {.alpha = golden.number("alpha")});
      map(adapter.lambda().value) = golden.matrix("Lambda");
      map(adapter.gamma().value) = golden.matrix("Gamma");
      Eigen::MatrixXd Y(W.rows(), X.cols()), dX(W.cols(), X.cols());
      Trace<double> trace;
      Workspace workspace;
      adapter.forward(W, X, Y, trace, workspace, {.path = path});
      adapter.backward(W, X, dY, dX, trace, workspace);
      CHECK(relative_error(Y.transpose(), golden.matrix("y")) < 1e-13);
      CHECK(relative_error(dX.transpose(), golden.matrix("dx")) < 1e-13);
      CHECK(relative_error(map(adapter.lambda().gradient), golden.matrix("dLambda")) < 1e-13);
      CHECK(relative_error(map(adapter.gamma().gradient), golden.matrix("dGamma")) < 1e-13);
      Eigen::MatrixXd merged = W;
      adapter.add_change(merged, 1, workspace);
      CHECK(relative_error(merged, golden.matrix("W")) < 1e-14);
    }
}

TEST_CASE("RandLoRA: the published pairing, and the paper's") {
  Eigen::MatrixXd A(2, 3), B(4, 4);
  A << 1, 2, 3, 4, 5, 6;
  for (Index q = 0; q < 16; ++q) B(q / 4, q % 4) = double(q + 1);
  for (const Pairing pairing : {Pairing::Peft, Pairing::Paper}) {
    RandLora<double> adapter(4, 3, shared(RandBases<double>::adopt(A, B)), {.alpha = 2, .pairing = pairing});
    map(adapter.lambda().value) << 1, 2, 3, 4;
    map(adapter.gamma().value) << 1, 1, 1, 10, 10, 10;
    Eigen::MatrixXd W = Eigen::MatrixXd::Zero(4, 3);
    Workspace workspace;
    adapter.add_change(W, 1, workspace);
    const Eigen::RowVector3d expected = pairing == Pairing::Peft ? Eigen::RowVector3d(717, 927, 1137) : Eigen::RowVector3d(725, 952, 1179);
    CHECK((W.row(0) - expected).norm() < 1e-9);
  }
}

TEST_CASE("RandLoRA: gradients are those of finite differences") {
  for (const auto& [m, n] : {std::pair<Index, Index>{12, 8}, {8, 12}, {7, 7}})
    for (const Index samples : {1, 9})
      for (const Path& path : paths) check_gradients(example(m, n, 3), samples, {.path = path});
  for (const Basis basis : {Basis::Sparse, Basis::VerySparse}) check_gradients(example(20, 12, 4, basis), 6, {});
  check_gradients(example(12, 20, 4, Basis::Dense, {.alpha = 4, .dropout = 0.3, .pairing = Pairing::Paper}), 9, {.step = 1});
  check_gradients(example(20, 12, 4, Basis::Dense, {.alpha = 4, .dropout = 0.3}), 9, {.step = 1});
  check_gradients(example(90, 70, 8), 40, {});
}

TEST_CASE("RandLoRA: every order of products, and every kind of basis, is s P Q") {
  for (const Basis basis : {Basis::Dense, Basis::Sparse, Basis::VerySparse})
    for (const bool wide : {false, true}) {
      const auto adapter = wide ? example(70, 90, 16, basis) : example(90, 70, 16, basis);
      const Eigen::MatrixXd W = 0.3 * random_matrix(adapter.rows(), adapter.cols(), 1) + change(adapter);
      const Eigen::MatrixXd X = random_matrix(adapter.cols(), 50, 3), expected = W * X;
      std::vector<double> first;
      for (const Path& path : paths) {
        const auto got = results(adapter, Order::Columns, 0, 50, {.path = path});
        if (first.empty()) first = got;
        double worst = 0, largest = 0;
        for (std::size_t i = 0; i < got.size(); ++i) {
          worst = std::max(worst, std::abs(got[i] - first[i]));
          largest = std::max(largest, std::abs(first[i]));
        }
        CHECK(worst < 1e-12 * largest);
        const Eigen::Map<const Eigen::MatrixXd> Y(got.data(), adapter.rows(), 50);
        CHECK((Y - expected).norm() < 1e-12 * expected.norm());
      }
    }
}

TEST_CASE("RandLoRA: laws") {
  for (const Path& path : {paths[0], paths[3]}) {
    check_determinism(example<float>(150, 97, 24), 133, {.path = path});
    check_determinism(example<float>(97, 150, 24, Basis::Sparse), 70, {.path = path});
    check_no_allocation(example<float>(70, 130, 8), 90, {.path = path});
    check_no_allocation(example<float>(130, 70, 8), 90, {.path = path});
  }
  check_bad_input(example(6, 9, 2));
  check_float(example<double>(40, 30, 5, Basis::Sparse), example<float>(40, 30, 5, Basis::Sparse), 17);
  const auto bases = shared(RandBases<float>::torch({.rank = 4, .larger = 20, .smaller = 10}));
  CHECK_THROWS_AS(RandLora<float>(21, 10, bases), std::invalid_argument);
  CHECK_THROWS_AS(RandLora<float>(20, 11, bases), std::invalid_argument);
  CHECK_THROWS_AS(RandLora<float>(20, 10, nullptr), std::invalid_argument);
  CHECK_THROWS_AS(RandBases<float>::torch({.rank = 4, .larger = 9, .smaller = 10}), std::invalid_argument);
}

TEST_CASE("RandLoRA: first values, bytes and parameters") {
  const Index m = 1024, n = 3072, r = 32;
  const auto bases = shared(RandBases<float>::torch({.rank = r, .larger = n, .smaller = m, .basis = Basis::Sparse}));
  RandLora<float> adapter(m, n, bases);
  CHECK(adapter.blocks() == 32);
  CHECK(adapter.bytes() == std::size_t(4 * 32 * (r + m)));  // K (r + dmin)
  CHECK(map(adapter.lambda().value).norm() == 0);
  CHECK(adapter.gamma().value(5, 7) == 1.0f / 1024);
  CHECK(bases->bytes() == std::size_t(4 * r * m + n / 4 * m));  // A in float, P in 2 bits an entry
  CHECK(adapter.scale() == 20);
}

TEST_CASE("bases are torch's for the same key") {
  const auto dense = RandBases<float>::torch({.rank = 4, .larger = 32, .smaller = 16});
  const float a[] = {0.58984375f, -1.0859375f, -0.1474609375f, 0.859375f}, b0[] = {0.75390625f, -1.3671875f, -1.2890625f, 0},
              b1[] = {-1.1796875f, -0.177734375f, 0.765625f, 0.8203125f};
  for (Index i = 0; i < 4; ++i) {
    CHECK(dense.A()(i, 0) == a[i]);
    CHECK(dense.b(0, i) == b0[i]);
    CHECK(dense.b(0, 4 + i) == b1[i]);
  }
  std::mt19937 engine(123);
  CHECK((engine() == 2991312382u && engine() == 3062119789u && engine() == 1228959102u));
  CHECK(lowrank::detail::TorchRandom(0).uniform<float>(0, 1) == 8325804.0f / 16777216.0f);
}
