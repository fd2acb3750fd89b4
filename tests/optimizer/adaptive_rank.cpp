// Ranks that adapt: what is reported, what survives a change, and that nothing else changes.
#include <cmath>

#include <lift/by_hand.hpp>
#include <support/catch.hpp>
#include <support/folder.hpp>
#include <support/malloc_counter.hpp>
#include <support/placed.hpp>

#include <lowrank/recipes.hpp>
#include <lowrank/rule/adam_bf16.hpp>
#include <lowrank/rule/lion.hpp>

using namespace support;
using namespace lowrank;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr Index d = 24, k = 60;

/// Cosine directions 0, 1, .. of energies 1, q, q^2, .. up to d.
MatrixXd decaying(double q, int t) {
  const MatrixXd P = orthonormal(d, d, 0), V = orthonormal(k, d, t);
  Eigen::VectorXd s(d);
  for (Index i = 0; i < d; ++i) s[i] = std::pow(q, double(i) / 2);
  return P * s.asDiagonal() * V.transpose();
}

template <class O>
MatrixXd moments(const O& optimizer, const std::string& name) {
  MatrixXd out;
  optimizer.visit([&](const char* field, const auto& value) {
    if constexpr (requires { value.column(0); })
      if constexpr (std::is_same_v<std::remove_cvref_t<decltype(value[0])>, double>)
        if (name == field) out = Eigen::Map<const MatrixXd>(value.data(), value.rows(), value.cols());
  });
  return out;
}

template <class P>
P adaptive(double energy, Index rank) {
  P p{.rank = rank, .side = Side::Left, .refresh_every = 4, .transport = Transport::Keep, .adapt = {.energy = energy, .hysteresis = 0}};
  p.phase = 0;
  return p;
}

}  // namespace

TEMPLATE_TEST_CASE("A step reports the least rank that holds the energy asked for", "[optimizer]", Subspace, Dct) {
  // shares of q^i (1 - q) / (1 - q^d): r of them hold (1 - q^r) / (1 - q^d)
  const double q = 0.7;
  const auto held = [&](Index r) { return (1 - std::pow(q, double(r))) / (1 - std::pow(q, double(d))); };
  for (const double energy : {0.5, 0.8, 0.95}) {
    Index expected = 1;
    while (held(expected) < energy) ++expected;
    MatrixXd W = MatrixXd::Zero(d, k);
    Optimizer enough(W, adaptive<TestType>(energy, 14), AdamW{}, BackProject{}), few(W, adaptive<TestType>(energy, 4), AdamW{}, BackProject{});
    for (int t = 0; t < 6; ++t) {
      const Report report = enough.step(W, decaying(q, t), {.lr = 0.01});
      CHECK(report.wants_rank == expected);
      // the rest is taken to fall geometrically, which it does
      CHECK(std::abs(few.step(W, decaying(q, t), {.lr = 0.01}).wants_rank - expected) <= (expected > 4 ? 1 : 0));
    }
    Optimizer calm(W, TestType{.rank = expected + 1, .side = Side::Left, .adapt = {.energy = energy, .hysteresis = 0.5}}, AdamW{}, BackProject{});
    CHECK(calm.step(W, decaying(q, 0), {.lr = 0.01}).wants_rank == expected + 1);
    Optimizer unasked(W, TestType{.rank = 4}, AdamW{}, BackProject{});
    CHECK(unasked.step(W, decaying(q, 0), {.lr = 0.01}).wants_rank == 0);
    CHECK(enough.state_bytes() == unasked.state_bytes_at(14) + 14 * 8);
  }
}

TEMPLATE_TEST_CASE("Smaller: the strongest coordinates stay, with their moments; larger: all stay, others are new", "[optimizer]", Subspace, Dct) {
  MatrixXd W = MatrixXd::Zero(d, k);
  Optimizer optimizer(W, adaptive<TestType>(0.9, 8), AdamW{}, BackProject{});
  for (int t = 0; t < 3; ++t) optimizer.step(W, decaying(0.7, t), {.lr = 0.01});
  const MatrixXd M = moments(optimizer, "exp_avg"), V = moments(optimizer, "exp_avg_sq");
  std::vector<Index> by_energy(8);
  for (Index i = 0; i < 8; ++i) by_energy[std::size_t(i)] = i;
  std::sort(by_energy.begin(), by_energy.end(), [&](Index a, Index b) { return optimizer.projection().energies()[a] > optimizer.projection().energies()[b]; });
  const std::uint64_t steps = optimizer.steps();

  auto smaller = optimizer;
  smaller.set_rank(5);
  std::sort(by_energy.begin(), by_energy.begin() + 5);
  CHECK((smaller.rank() == 5 && smaller.projector().rank == 5 && smaller.steps() == steps));
  CHECK(smaller.state_bytes() == optimizer.state_bytes_at(5));
  for (Index i = 0; i < 5; ++i) {
    CHECK(moments(smaller, "exp_avg").row(i) == M.row(by_energy[std::size_t(i)]));
    CHECK(moments(smaller, "exp_avg_sq").row(i) == V.row(by_energy[std::size_t(i)]));
  }
  auto larger = optimizer;
  larger.set_rank(30);  // clamped
  CHECK(larger.rank() == d);
  const MatrixXd grown = moments(larger, "exp_avg");
  for (Index i = 0; i < 8; ++i) {
    bool found = false;
    for (Index j = 0; j < d; ++j) found = found || grown.row(j) == M.row(i);
    CHECK(found);
  }
  CHECK(grown.squaredNorm() == Catch::Approx(M.squaredNorm()));
  for (auto* o : {&smaller, &larger}) {
    CHECK(o->due());
    CHECK(o->step(W, decaying(0.7, 3), {.lr = 0.01}).refreshed);
    if constexpr (std::is_same_v<TestType, Subspace>) {
      const auto& b = o->projection().basis();
      const auto P = Eigen::Map<const MatrixXd>(b.data(), b.rows(), b.cols());
      CHECK((P.transpose() * P - MatrixXd::Identity(P.cols(), P.cols())).cwiseAbs().maxCoeff() < 1e-12);
    }
  }
  CHECK(larger.step(W, decaying(0.7, 4), {.lr = 0.01}).captured == Catch::Approx(1));
}

TEST_CASE("Every rule's state comes along", "[optimizer]") {
  MatrixXd W = random_matrix(d, k, 1);
  const auto check = [&](const auto& rule) {
    // the step after a change to the same coordinates is the step without: 6 of 8 stay, and 6 of 8 moved
    Optimizer a(W, Dct{.rank = 8, .side = Side::Left, .refresh_every = 0, .adapt = {.energy = 0.9}}, rule, BackProject{});
    MatrixXd Wa = W;
    for (int t = 0; t < 3; ++t) a.step(Wa, decaying(0.7, t), {.lr = 0.01});
    auto b = a;
    b.set_rank(6);
    b.set_rank(8);
    MatrixXd Wb = Wa;
    CHECK(b.step(Wb, decaying(0.7, 3), {.lr = 0.01}).skipped == false);
    a.step(Wa, decaying(0.7, 3), {.lr = 0.01});
    // cosine frequencies are rows of the transform: those that stayed moved alike
    const MatrixXd T = orthonormal(d, d, 0);
    return ((T.transpose() * (Wa - Wb)).topRows(6)).cwiseAbs().maxCoeff();
  };
  CHECK(check(AdamW{}) < 1e-14);
  CHECK(check(Lion{}) < 1e-14);
  CHECK(check(RmsProp{.momentum = 0.9}) < 1e-14);
  CHECK(check(Adam8bit{}) < 2e-3);  // decoded and encoded again twice, at lr 0.01
  CHECK(check(AdamBf16{}) < 2e-4);
}

TEST_CASE("A changed rank is saved, loaded and stepped with like any other, and steps go on without allocating", "[optimizer]") {
  const Folder folder("adaptive_rank");
  MatrixXd W = MatrixXd::Zero(d, k);
  const auto make = [&] { return Optimizer(W, adaptive<Subspace>(0.9, 8), AdamW{}, Residual{}); };
  auto a = make();
  for (int t = 0; t < 3; ++t) a.step(W, decaying(0.7, t), {.lr = 0.01});
  a.set_rank(11);
  a.save(folder.path() / "state.safetensors");
  auto b = make();
  b.load(folder.path() / "state.safetensors");
  CHECK((a == b && b.rank() == 11));
  MatrixXd V = W;
  for (int t = 3; t < 9; ++t) {
    const MatrixXd G = decaying(0.7, t);
    a.step(W, G, {.lr = 0.01});
    b.step(V, G, {.lr = 0.01});
  }
  CHECK((W == V && a == b));
  if (AllocationCount::counted) {
    const MatrixXd G = decaying(0.7, 9);
    const AllocationCount count;
    for (int t = 0; t < 5; ++t) a.step(W, G, {.lr = 0.01});
    CHECK(count.since() == 0);
  }
}

TEST_CASE("Ranks that make no sense, and changes at the wrong time, throw and change nothing", "[optimizer]") {
  MatrixXd W = MatrixXd::Zero(d, k);
  Optimizer optimizer(W, adaptive<Subspace>(0.9, 8), AdamW{}, BackProject{});
  optimizer.step(W, decaying(0.7, 0), {.lr = 0.01});
  const auto before = optimizer;
  CHECK_THROWS_WITH(optimizer.set_rank(0), ContainsSubstring("rank"));
  optimizer.accumulate(decaying(0.7, 1));
  CHECK_THROWS_WITH(optimizer.set_rank(3), ContainsSubstring("accumulated"));
  CHECK(optimizer == before);
  optimizer.discard();
  optimizer.projector().adapt.energy = 0;
  CHECK_THROWS_WITH(optimizer.step(W, decaying(0.7, 1), {.lr = 0.01}), ContainsSubstring("adapt.energy"));
  for (const double energy : {-0.1, 1.5, double(NAN)})
    CHECK_THROWS_WITH(Optimizer(W, Dct{.rank = 2, .adapt = {.energy = energy}}, AdamW{}, BackProject{}), ContainsSubstring("adapt.energy"));
}
