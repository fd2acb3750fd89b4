// Methods that change their rank or begin anew while they train: AdaLoRA, ReLoRA, Maestro.
#include "adapter/laws.hpp"
#include "adapter/surgery.hpp"

#include <lowrank/adapter/adalora.hpp>
#include <lowrank/adapter/maestro.hpp>
#include <lowrank/adapter/relora.hpp>

using namespace support;
using lowrank::AdaLora;
using lowrank::AdaLoraBudget;
using lowrank::Gradient;
using lowrank::Maestro;
using lowrank::Path;
using lowrank::Prune;
using lowrank::ReLora;
constexpr auto Factored = lowrank::Order::Factored, Composed = lowrank::Order::Composed;

static_assert(lowrank::Adapter<AdaLora<float>> && lowrank::Adapter<ReLora<float>> && lowrank::Layer<Maestro<float>>);

namespace {

constexpr Path paths[] = {{Factored, Factored, Gradient::Factored}, {Composed, Composed, Gradient::Factored}, {Composed, Composed, Gradient::Dense}};

template <class S = double>
AdaLora<S> adalora(Index m, Index n) {
  AdaLora<S> adapter(m, n, {.rank = 4, .alpha = 6, .micro_batches = 100});
  randomize(adapter, 4);
  return adapter;
}
template <class S = double>
Maestro<S> maestro(Index m, Index n, Index width) {
  Maestro<S> layer(random_matrix(m, n, 1).template cast<S>().eval());
  randomize(layer, 4);
  layer.set_width(width);
  return layer;
}

}  // namespace

TEST_CASE("gradients of AdaLoRA and Maestro are those of finite differences") {
  for (const auto& [m, n] : {std::pair<Index, Index>{12, 8}, {8, 12}})
    for (const Index samples : {1, 9})
      for (const Path& path : paths) {
        check_gradients(adalora(m, n), samples, {.path = path});
        check_gradients(maestro(m, n, 8), samples, {.path = path});
        check_gradients(maestro(m, n, 3), samples, {.path = path});
      }
}

TEST_CASE("laws of AdaLoRA and Maestro") {
  check_determinism(adalora<float>(97, 150), 133);
  check_determinism(maestro<float>(97, 50, 40), 133);
  check_no_allocation(adalora<float>(70, 130), 90);
  check_no_allocation(maestro<float>(70, 30, 20), 90);
  check_bad_input(adalora(6, 9));
  check_bad_input(maestro(6, 9, 6));
}

TEST_CASE("AdaLoRA: the penalty and its gradient") {
  AdaLora<double> a = adalora(9, 7);
  Workspace workspace;
  const double h = 1e-5;
  (void)a.add_orthogonality(1, workspace);
  const Eigen::MatrixXd dA = map(a.A().gradient), dB = map(a.B().gradient), D = random_matrix(4, 7, 3), E = random_matrix(9, 4, 5);
  const auto penalty = [&](double s, double t) {
    AdaLora<double> moved = adalora(9, 7);
    map(moved.A().value) += s * D;
    map(moved.B().value) += t * E;
    return moved.add_orthogonality(1, workspace);
  };
  CHECK(dA.cwiseProduct(D).sum() == Catch::Approx((penalty(h, 0) - penalty(-h, 0)) / (2 * h)).epsilon(1e-6));
  CHECK(dB.cwiseProduct(E).sum() == Catch::Approx((penalty(0, h) - penalty(0, -h)) / (2 * h)).epsilon(1e-6));
}

TEST_CASE("AdaLoRA: the budget keeps the triplets that matter, and a missing call is noticed") {
  const Index m = 6, n = 5;
  AdaLora<double> a(m, n, {.rank = 4, .seed = 1}), b(m, n, {.rank = 4, .seed = 2});
  AdaLora<double>* const both[] = {&a, &b};
  AdaLoraBudget<double> budget({.target_rank = 1, .warm_up = 2, .final_steps = 3, .total = 12});
  CHECK(budget.budget(2, 8, 2) == 8);
  CHECK(budget.budget(5, 8, 2) == 2 + Index(6 * std::pow(4.0 / 7.0, 3)));
  CHECK(budget.budget(9, 8, 2) == 2);

  const Eigen::MatrixXd W = random_matrix(m, n, 1), X = random_matrix(n, 7, 2);
  // triplet 2 of a and 0 of b have ten times everybody's gradient
  const auto pass = [&](AdaLora<double>& x, Index strong) {
    Trace<double> trace;
    Workspace workspace;
    Eigen::MatrixXd Y(m, 7);
    x.forward(W, X, Y, trace, workspace);
    x.backward(W, X, Y, lowrank::no_gradient, trace, workspace);
    x.E().value.set_zero();
    for (Index k = 0; k < 4; ++k) {
      x.E().value[k] = 0.1;
      x.E().gradient[k] = k == strong ? 10 : 1;
    }
    x.A().gradient.set_zero(), x.B().gradient.set_zero();
  };
  Index last = 8;
  for (std::uint64_t t = 1; t <= 9; ++t) {
    pass(a, 2), pass(b, 0);
    budget.step(t, both);
    CHECK(a.kept() + b.kept() == budget.budget(t, 8, 2));
    CHECK(a.kept() + b.kept() <= last);
    last = a.kept() + b.kept();
  }
  CHECK((a.kept() == 1 && a.kept(2) && b.kept() == 1 && b.kept(0)));
  CHECK((a.E().value[2] != 0 && a.E().value[0] == 0 && a.E().value[1] == 0 && a.E().value[3] == 0));
  // frozen: whatever the gradients say now, and E is held at zero
  pass(a, 0), pass(b, 3);
  budget.step(10, both);
  CHECK((a.kept(2) && b.kept(0) && a.E().value[0] == 0));
  // moments of what is out begin anew
  Optimizers state(a);
  const Moments before = state["E"];
  a.on_step(10, state.editors());
  CHECK((state["E"].first(0) == 0 && state["E"].first(2) == before.first(2)));

  pass(a, 2);
  CHECK_THROWS_AS(pass(a, 2), std::invalid_argument);  // a second backward, no budget between
  CHECK_THROWS_AS(AdaLoraBudget<double>({.total = 0}), std::invalid_argument);
}

TEST_CASE("ReLoRA: a restart changes the weight, not the function, and prunes the moments") {
  const Index m = 40, n = 50, N = 6;
  for (const Prune prune : {Prune::Random, Prune::Smallest, Prune::All}) {
    ReLora<double> lora(m, n, {.lora = {.rank = 8}, .every = 10, .prune = prune, .share = 0.9});
    randomize(lora, 3);
    Eigen::MatrixXd W = random_matrix(m, n, 1), X = random_matrix(n, N, 2), before(m, N), after(m, N);
    Trace<double> trace;
    Workspace workspace;
    lora.forward(W, X, before, trace, workspace);
    Optimizers state(lora);
    const Moments old = state["A"];
    CHECK((lora.due(10) && !lora.due(9) && !lora.due(0)));
    CHECK_THROWS_AS(lora.on_step(10, state.editors()), std::invalid_argument);
    lora.restart(W, 10, state.editors(), workspace);
    CHECK_NOTHROW(lora.on_step(10, state.editors()));
    lora.forward(W, X, after, trace, workspace);
    CHECK((after - before).norm() < 1e-12 * before.norm());
    CHECK(map(lora.B().value).norm() == 0);
    CHECK((map(lora.A().value).norm() > 0 && map(lora.A().value).cwiseAbs().maxCoeff() <= 1 / std::sqrt(double(n))));
    // not the dead start: B has a gradient
    lora.backward(W, X, before, lowrank::no_gradient, trace, workspace);
    CHECK(map(lora.B().gradient).norm() > 0);

    const Moments& now = state["A"];
    const auto zeros = (now.first.array() == 0).count();
    if (prune == Prune::All) CHECK((zeros == 400 && now.steps == 0));
    else CHECK(now.steps == 7);
    if (prune == Prune::Smallest) {
      CHECK((zeros == 360 && (now.second.array() == 0).count() == 360));
      CHECK((now.first.array() != 0).select(now.first.cwiseAbs(), 1e9).minCoeff() >= (now.first.array() == 0).select(old.first.cwiseAbs(), 0).maxCoeff());
    }
    if (prune == Prune::Random) CHECK((std::abs(double(zeros) - 360) < 30 && (now.first.array() == 0).count() != (now.second.array() * 0 + 1).count()));
    for (Index i = 0; i < now.first.size(); ++i) CHECK((now.first(i) == 0 || now.first(i) == old.first(i)));
  }
}

TEST_CASE("ReLoRA: the learning rate ramps up after each restart to the cosine it would have reached") {
  const lowrank::ReLoraRate rate{.total = 100, .warm_up = 10, .every = 25, .ramp = 5, .least = 0.1};
  const lowrank::ReLoraRate plain{.total = 100, .warm_up = 10, .every = 1000, .ramp = 5, .least = 0.1};
  CHECK(rate(0) == Catch::Approx(0.1));
  CHECK(rate(9) == 1);
  for (const std::uint64_t t : {12u, 24u, 30u, 40u, 55u, 99u}) CHECK(rate(t) == plain(t));
  for (const std::uint64_t begun : {25u, 50u, 75u}) {
    CHECK(rate(begun) == Catch::Approx(plain(begun + 5) / 6));
    for (std::uint64_t t = begun; t < begun + 5; ++t) CHECK(rate(t + 1) > rate(t));
    CHECK(rate(begun + 5) == plain(begun + 5));
  }
  CHECK(rate(100) == 0.1);
}

TEST_CASE("Maestro: it begins as the dense weight, and every prefix is the best of its rank") {
  const Index m = 14, n = 10;
  const Eigen::MatrixXd W = random_matrix(m, n, 1);
  Maestro<double> layer(W);
  Eigen::MatrixXd whole(m, n), part(m, n);
  Workspace workspace;
  layer.write_weight(whole, workspace);
  CHECK((whole - W).norm() < 1e-12 * W.norm());
  double last = W.norm();
  for (Index q = 0; q <= n; ++q) {
    layer.set_width(q);
    layer.write_weight(part, workspace);
    if (q == 0) CHECK(part.norm() == 0);
    CHECK((part - W).norm() <= last + 1e-12);
    last = (part - W).norm();
  }
  CHECK_THROWS_AS(layer.set_width(n + 1), std::invalid_argument);
}

TEST_CASE("Maestro: the group lasso and its gradient, also where a tail is zero") {
  const auto make = [] {
    Maestro<double> layer = maestro(7, 6, 6);
    for (Index k = 4; k < 6; ++k) {
      for (Index j = 0; j < 6; ++j) layer.F().value(k, j) = 0;
      for (Index i = 0; i < 7; ++i) layer.C().value(i, k) = 0;
    }
    return layer;
  };
  Maestro<double> layer = make();
  layer.add_lasso(0.5);
  CHECK(map(layer.F().gradient).allFinite());
  Eigen::MatrixXd D = random_matrix(6, 6, 3), E = random_matrix(7, 6, 5);
  D.bottomRows(2).setZero(), E.rightCols(2).setZero();
  const double h = 1e-4;
  const auto value = [&](double s, double t) {
    Maestro<double> moved = make();
    map(moved.F().value) += s * D;
    map(moved.C().value) += t * E;
    return moved.add_lasso(0);
  };
  CHECK(map(layer.F().gradient).cwiseProduct(D).sum() == Catch::Approx(0.5 * (value(h, 0) - value(-h, 0)) / (2 * h)).epsilon(1e-6));
  CHECK(map(layer.C().gradient).cwiseProduct(E).sum() == Catch::Approx(0.5 * (value(0, h) - value(0, -h)) / (2 * h)).epsilon(1e-6));
}

TEST_CASE("Maestro: shrinking keeps the function of what stays, and its moments") {
  const Index m = 14, n = 10, N = 5;
  const Eigen::MatrixXd U = random_matrix(m, 4, 1) * random_matrix(4, n, 2) + 1e-6 * random_matrix(m, n, 3);
  Maestro<double> layer(U);
  Optimizers state(layer);
  const Moments f = state["F"], c = state["C"];
  const double edge = layer.importance(4);
  CHECK(edge < 1e-4);
  CHECK(layer.shrink(10 * edge, state.editors()) == 4);
  CHECK((layer.kept() == 4 && layer.full() == 10 && layer.width() == 4));
  CHECK(state["F"].first.topRows(4) == f.first.topRows(4));
  CHECK(state["F"].first.bottomRows(6).norm() == 0);
  CHECK((state["C"].second.leftCols(4) == c.second.leftCols(4) && state["C"].second.rightCols(6).norm() == 0));
  const Eigen::MatrixXd X = random_matrix(n, N, 4);
  Eigen::MatrixXd Y(m, N);
  Trace<double> trace;
  Workspace workspace;
  layer.forward(X, Y, trace, workspace);
  CHECK((Y - U * X).norm() < 1e-4 * Y.norm());
  layer.backward(X, Y, lowrank::no_gradient, trace, workspace);
  CHECK(map(layer.F().gradient).bottomRows(6).norm() == 0);
  CHECK(layer.shrink(0, state.editors()) == 4);
  CHECK_FALSE(layer.fold_back());
}

TEST_CASE("Maestro: a width that changes between forward and backward does not matter") {
  Maestro<double> layer = maestro(9, 7, 3);
  const Eigen::MatrixXd X = random_matrix(7, 4, 1), dY = random_matrix(9, 4, 2);
  Eigen::MatrixXd Y(9, 4), dX(7, 4), other(7, 4);
  Trace<double> trace;
  Workspace workspace;
  layer.forward(X, Y, trace, workspace);
  layer.backward(X, dY, dX, trace, workspace);
  layer.set_width(7);
  layer.backward(X, dY, other, trace, workspace);
  CHECK(dX == other);
}

TEST_CASE("the rank sampler uses every pair once a round") {
  const Index ranks[] = {3, 1, 5};
  lowrank::RankSampler sample(ranks, 4);
  std::vector<std::pair<std::size_t, Index>> first;
  for (int round = 0; round < 3; ++round) {
    std::vector<std::pair<std::size_t, Index>> seen;
    for (int i = 0; i < 9; ++i) {
      const auto [layer, width] = sample();
      CHECK((width >= 1 && width <= ranks[layer]));
      seen.emplace_back(layer, width);
    }
    if (round == 0) first = seen;
    else CHECK(seen != first);
    std::sort(seen.begin(), seen.end());
    CHECK(std::adjacent_find(seen.begin(), seen.end()) == seen.end());
  }
  CHECK_THROWS_AS(lowrank::RankSampler(std::span<const Index>()), std::invalid_argument);
}
