// LOST and SST: layers that begin as a decomposition of a dense weight.
#include "adapter/laws.hpp"
#include "adapter/surgery.hpp"

#include <lowrank/adapter/lost.hpp>
#include <lowrank/adapter/sst.hpp>

using namespace support;
using lowrank::Activation;
using lowrank::Lost;
using lowrank::SpectralGradient;
using lowrank::Sst;

static_assert(lowrank::Layer<Lost<float>> && lowrank::Layer<Sst<float>>);

namespace {

template <class S = double>
Lost<S> lost(Index m, Index n, Activation activation = Activation::Silu) {
  Lost<S> layer(random_matrix(m, n, 1).template cast<S>().eval(), {.rank = 3, .density = 0.3, .mix = 0.6, .activation = activation});
  randomize(layer, 4);
  return layer;
}
template <class S = double>
Sst<S> sst(Index m, Index n, SpectralGradient gradient = SpectralGradient::Exact) {
  Sst<S> layer(random_matrix(m, n, 1).template cast<S>().eval(), {.rank = 3, .gradient = gradient});
  randomize(layer, 4);
  map(layer.sigma().value) = map(layer.sigma().value).cwiseAbs() + Matrix<S>::Constant(layer.full(), 1, S(0.1));
  return layer;
}

}  // namespace

TEST_CASE("gradients of LOST and SST are those of finite differences") {
  for (const auto& [m, n] : {std::pair<Index, Index>{12, 8}, {8, 12}})
    for (const Index samples : {1, 9}) {
      check_gradients(lost(m, n), samples, {});
      check_gradients(lost(m, n, Activation::Identity), samples, {});
      check_gradients(sst(m, n), samples, {});
    }
}

TEST_CASE("laws of LOST and SST") {
  check_determinism(lost<float>(97, 150), 133);
  check_determinism(sst<float>(60, 90), 133);
  check_no_allocation(lost<float>(70, 130), 90);
  check_no_allocation(sst<float>(70, 40), 90);
  check_bad_input(lost(6, 9));
  check_bad_input(sst(6, 9));
  CHECK_THROWS_AS(Lost<double>(random_matrix(4, 5, 1), {.rank = 5}), std::invalid_argument);
  CHECK_THROWS_AS(Sst<double>(random_matrix(4, 5, 1), {.rank = 5}), std::invalid_argument);
}

TEST_CASE("LOST: the low-rank part is the dominant spectrum, the columns those with most of the rest") {
  const Index m = 20, n = 15, r = 3;
  // rank r plus two strong columns outside it
  Eigen::MatrixXd W = 10 * random_matrix(m, r, 1) * random_matrix(r, n, 2);
  W.col(4) += 8 * random_matrix(m, 1, 3);
  W.col(11) += 8 * random_matrix(m, 1, 4);
  Lost<double> layer(W, {.rank = r, .density = 2.0 / 15, .mix = 0.25, .activation = Activation::Identity});
  REQUIRE(layer.columns().size() == 2);
  CHECK((layer.columns()[0] == 4 && layer.columns()[1] == 11));
  CHECK((map(layer.dense().value).col(0) == W.col(4) && map(layer.dense().value).col(1) == W.col(11)));
  const Eigen::MatrixXd low = map(layer.B().value) * map(layer.A().value);
  CHECK((W - low).norm() < 0.2 * W.norm());
  CHECK((map(layer.B().value).transpose() * (W - low)).norm() < 1e-9 * W.norm());
  Eigen::MatrixXd dense(m, n), expected = 0.25 * low;
  expected.col(4) += 0.75 * W.col(4), expected.col(11) += 0.75 * W.col(11);
  Workspace workspace;
  layer.write_weight(dense, workspace);
  CHECK((dense - expected).norm() < 1e-12 * W.norm());
  CHECK_THROWS_AS(lost(6, 9).write_weight(dense, workspace), std::invalid_argument);
}

TEST_CASE("SST: it begins as the dense weight; the enhanced gradient leaves sigma out") {
  const Index m = 12, n = 9, N = 5;
  const Eigen::MatrixXd W = random_matrix(m, n, 1), X = random_matrix(n, N, 2), dY = random_matrix(m, N, 3);
  Sst<double> exact(W, {.rank = 4, .gradient = SpectralGradient::Exact}), enhanced(W, {.rank = 4});
  Eigen::MatrixXd Y(m, N), dense(m, n);
  Trace<double> trace;
  Workspace workspace;
  for (Sst<double>* layer : {&exact, &enhanced}) {
    layer->write_weight(dense, workspace);
    CHECK((dense - W).norm() < 1e-12 * W.norm());
    layer->forward(X, Y, trace, workspace);
    CHECK((Y - W * X).norm() < 1e-12 * Y.norm());
    layer->backward(X, dY, lowrank::no_gradient, trace, workspace);
  }
  for (Index q = 0; q < 4; ++q) {
    const double s = exact.sigma().value[exact.active()[q]];
    CHECK((s * map(enhanced.left().gradient).col(q) - map(exact.left().gradient).col(q)).norm() < 1e-11);
    CHECK((s * map(enhanced.right().gradient).col(q) - map(exact.right().gradient).col(q)).norm() < 1e-11);
  }
}

TEST_CASE("SST: steps, swaps and new decompositions") {
  const Index m = 12, n = 9;
  Sst<double> layer(random_matrix(m, n, 1), {.rank = 3, .iteration = 4, .round = 2, .seed = 5});
  Workspace workspace;
  Eigen::MatrixXd before(m, n), after(m, n);
  std::vector<std::int32_t> first(layer.active().data(), layer.active().data() + 3);
  bool moved = false;
  for (std::uint64_t t = 1; t <= 16; ++t) {
    // an "optimizer": everything moves a little, one singular value below zero
    map(layer.left().value) += 0.1 * random_matrix(m, 3, unsigned(t));
    map(layer.right().value) += 0.1 * random_matrix(n, 3, unsigned(t + 50));
    map(layer.sigma().value) += 0.02 * random_matrix(n, 1, unsigned(t + 100));
    layer.sigma().value[8] = -1;
    Optimizers state(layer);
    // what on_step keeps is the weight after clamping and normalising
    Sst<double> expected = layer;
    for (Index l = 0; l < n; ++l) expected.sigma().value[l] = std::max(expected.sigma().value[l], 0.0);
    for (Index q = 0; q < 3; ++q) {
      map(expected.left().value).col(q).normalize();
      map(expected.right().value).col(q).normalize();
    }
    expected.write_weight(before, workspace);
    layer.on_step(t, state.editors());
    layer.write_weight(after, workspace);
    CHECK((after - before).norm() < 1e-11 * before.norm());
    CHECK(map(layer.sigma().value).minCoeff() >= 0);
    CHECK((map(layer.left().value).colwise().norm().array() - 1).abs().maxCoeff() < 1e-12);
    const bool swap = t % 4 == 0, decomposed = t % 8 == 0;
    CHECK((state["U"].steps == 0) == swap);
    CHECK((state["V"].first.norm() == 0) == swap);
    CHECK((state["sigma"].steps == 0) == decomposed);
    moved = moved || !std::equal(first.begin(), first.end(), layer.active().data());
    if (decomposed) {  // the columns are orthonormal again, sigma in order
      for (Index l = 1; l < n; ++l) CHECK(layer.sigma().value[l] <= layer.sigma().value[l - 1]);
      CHECK((map(layer.left().value).transpose() * map(layer.left().value) - Eigen::MatrixXd::Identity(3, 3)).norm() < 1e-12);
    }
  }
  CHECK(moved);
  const AllocationCount count;
  for (std::uint64_t t = 17; t <= 24; ++t) layer.on_step(t, [](const char*) { return lowrank::NoState{}; });
  CHECK(count.since() == 0);
}

TEST_CASE("SST: columns are drawn in proportion to a mixture of uniform and sigma") {
  const Index n = 6;
  Eigen::MatrixXd W = Eigen::MatrixXd::Zero(n, n);
  for (Index l = 0; l < n; ++l) W(l, l) = l == 0 ? 5 : 1;  // p_0 = (1/6 + 1/2) / 2, the others (1/6 + 1/10) / 2
  Eigen::VectorXd hits = Eigen::VectorXd::Zero(n);
  const int rounds = 4000;
  for (int seed = 0; seed < rounds; ++seed) ++hits[Sst<double>(W, {.rank = 1, .seed = std::uint64_t(seed)}).active()[0]];
  CHECK(std::abs(hits[0] / rounds - 1.0 / 3) < 0.03);
  for (Index l = 1; l < n; ++l) CHECK(std::abs(hits[l] / rounds - 2.0 / 15) < 0.022);
}
