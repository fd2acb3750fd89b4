#include "adapter/laws.hpp"

#include <lowrank/adapter/sltrain.hpp>

using namespace support;
using lowrank::Gradient;
using lowrank::Path;
using lowrank::SlTrain;
constexpr auto Factored = lowrank::Order::Factored, Composed = lowrank::Order::Composed;

static_assert(lowrank::Layer<SlTrain<float>> && !lowrank::Adapter<SlTrain<float>>);

namespace {

constexpr Path paths[] = {{}, {Composed, Composed, Gradient::Dense}, {Composed, Composed, Gradient::Factored},
                          {Factored, Factored, Gradient::Dense}};

template <class S = double>
SlTrain<S> example(Index m, Index n, Index rank, double density) {
  SlTrain<S> layer(m, n, {.rank = rank, .alpha = 2 * double(rank), .density = density, .seed = 3});
  randomize(layer, 4);
  return layer;
}

}  // namespace

TEST_CASE("SLTrain: reference vectors", "[golden]") {
  for (const char* shape : {"tall", "wide", "square"})
    for (const Path& path : paths) {
      CAPTURE(shape, int(path.forward), int(path.gradient));
      const Golden golden("sltrain." + std::string(shape));
      const Eigen::MatrixXd W = golden.matrix("W"), X = golden.matrix("x").transpose(), dY = golden.matrix("dy").transpose();
      std::vector<std::int64_t> at;
      const Eigen::MatrixXd indices = golden.matrix("indices");
      for (Index k = 0; k < indices.size(); ++k) at.push_back(std::int64_t(indices(k)));
      SlTrain<double> layer(W.rows(), W.cols(), std::span<const std::int64_t>(at),
                            {.rank = Index(golden.number("rank")), .alpha = golden.number("alpha")});
      map(layer.A().value) = golden.matrix("A");
      map(layer.B().value) = golden.matrix("B");
      map(layer.values().value) = golden.matrix("values").transpose();
      Eigen::MatrixXd Y(W.rows(), X.cols()), dX(W.cols(), X.cols()), dense(W.rows(), W.cols());
      Trace<double> trace;
      Workspace workspace;
      layer.forward(X, Y, trace, workspace, {.path = path});
      layer.backward(X, dY, dX, trace, workspace);
      layer.write_weight(dense, workspace);
      CHECK(relative_error(dense, W) < 1e-14);
      CHECK(relative_error(Y.transpose(), golden.matrix("y")) < 1e-13);
      CHECK(relative_error(dX.transpose(), golden.matrix("dx")) < 1e-13);
      CHECK(relative_error(map(layer.A().gradient), golden.matrix("dA")) < 1e-13);
      CHECK(relative_error(map(layer.B().gradient), golden.matrix("dB")) < 1e-13);
      CHECK(relative_error(map(layer.values().gradient), golden.matrix("dvalues").transpose()) < 1e-13);
    }
}

TEST_CASE("SLTrain: gradients are those of finite differences") {
  for (const auto& [m, n] : {std::pair<Index, Index>{24, 16}, {16, 24}, {2, 9}})
    for (const Index samples : {1, 9})
      for (const Path& path : paths) check_gradients(example(m, n, 3, 0.2), samples, {.path = path});
  check_gradients(example(130, 300, 20, 0.03), 333, {});
}

TEST_CASE("SLTrain: every order of products gives the same numbers") {
  const auto layer = example(130, 70, 40, 0.05);
  const auto expected = results(layer, Order::Columns, 0, 90, {.path = paths[0]});
  double largest = 0;
  for (const double x : expected) largest = std::max(largest, std::abs(x));
  for (const Path& path : paths) {
    const auto got = results(layer, Order::Columns, 0, 90, {.path = path});
    double worst = 0;
    for (std::size_t i = 0; i < got.size(); ++i) worst = std::max(worst, std::abs(got[i] - expected[i]));
    CHECK(worst < 1e-12 * largest);
  }
}

TEST_CASE("SLTrain: laws") {
  check_determinism(example<float>(300, 197, 24, 0.04), 133);
  check_no_allocation(SlTrain<float>(70, 130, {.rank = 8}), 90);
  check_bad_input(example(6, 9, 2, 0.3));
  check_float(example<double>(40, 30, 5, 0.1), example<float>(40, 30, 5, 0.1), 70);
  CHECK_THROWS_AS(SlTrain<float>(6, 9, {.density = 1.5}), std::invalid_argument);
  CHECK_THROWS_AS(SlTrain<float>(6, 0), std::invalid_argument);
}

TEST_CASE("SLTrain: bytes, and no m x n buffer") {
  const Index m = 512, n = 1376, r = 128, N = 256;
  const SlTrain<float> layer(m, n, {.rank = r, .density = 0.03});
  const Index entries = 21135;  // floor(0.03 m n)
  CHECK(layer.support().entries() == entries);
  CHECK(layer.bytes() == std::size_t(4 * r * (m + n) + 4 * entries + 2 * entries + 4 * (m + 1)));
  // with one thread: blocks of 256, panels of 64 tokens, B^T dY; far from m n
  CHECK(layer.workspace_bytes(N, {}, 1) < std::size_t(4 * (4 * 65536 + 10000 + (4 * (m + n) + n + 64) * 64 + r * N)));
  CHECK(layer.workspace_bytes(N, {.gradient = Gradient::Dense}, 1) > layer.workspace_bytes(N, {}, 1) + std::size_t(4 * m * n) - 64);
}

TEST_CASE("SLTrain: at first W is the sparse part, and B learns") {
  SlTrain<double> layer(20, 30, {.rank = 4, .density = 0.1});
  CHECK(map(layer.B().value).norm() == 0);
  CHECK(map(layer.A().value).cwiseAbs().maxCoeff() <= 1 / std::sqrt(30.0));
  Eigen::MatrixXd W(20, 30);
  Workspace workspace;
  layer.write_weight(W, workspace);
  CHECK((W.array() != 0).count() == 60);
  CHECK(W.cwiseAbs().maxCoeff() <= 1 / std::sqrt(30.0));
}
