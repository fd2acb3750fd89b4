// One budget of bytes for all matrices: where gradients need many directions, ranks rise; where few are enough, they fall.
#include <lift/by_hand.hpp>
#include <support/catch.hpp>
#include <support/placed.hpp>

#include <lowrank/fleet.hpp>

using namespace support;
using namespace lowrank;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr Index d = 32, k = 48;

MatrixXd decaying(double q, int t) {
  Eigen::VectorXd s(d);
  for (Index i = 0; i < d; ++i) s[i] = std::pow(q, double(i) / 2);
  return orthonormal(d, d, 0) * s.asDiagonal() * orthonormal(k, d, t).transpose();
}

struct Layers {
  std::vector<MatrixXd> W, G;
  std::vector<double> decay{0.3, 0.9, 0.6, 0.6};

  Layers() {
    for (std::size_t i = 0; i < 4; ++i) W.push_back(MatrixXd::Zero(d, k)), G.push_back(MatrixXd::Zero(d, k));
  }
  std::vector<Parameter<double>> parameters(int t) {
    std::vector<Parameter<double>> list;
    const char* names[] = {"fast", "slow", "middle", "embed"};
    for (std::size_t i = 0; i < 4; ++i) {
      G[i] = decaying(decay[i], t);
      list.push_back({names[i], view(W[i]), view(std::as_const(G[i]))});
    }
    return list;
  }
};

auto make(Layers& model, double hysteresis = 0) {
  return Fleet(model.parameters(0), Group{named("embed"), adamw()},
               Group{anything(), Recipe{Subspace{.rank = 8, .side = Side::Left, .refresh_every = 5, .adapt = {.energy = 0.9, .hysteresis = hysteresis}}, AdamW{}, BackProject{}}});
}

template <class F>
std::vector<Index> ranks(const F& fleet) {
  std::vector<Index> all;
  fleet.each([&](const std::string& name, const auto& o) {
    if (name != "embed") all.push_back(o.rank());
  });
  return all;
}

/// What the ranks hold of three gradients of equal size.
double held(const Layers& model, const std::vector<Index>& ranks) {
  double sum = 0;
  for (std::size_t i = 0; i < 3; ++i)
    sum += (1 - std::pow(model.decay[i], double(ranks[i]))) / (1 - std::pow(model.decay[i], double(d))) / 3;
  return sum;
}

}  // namespace

TEST_CASE("A budget goes where gradients need it, and no other division of it holds more", "[fleet]") {
  Layers model;
  auto fleet = make(model);
  fleet.step(model.parameters(0), {.lr = 0.01});
  const std::size_t budget = fleet.state_bytes();
  const Index changed = fleet.rebalance(budget);
  CHECK(changed >= 2);
  const auto now = ranks(fleet);
  CHECK(fleet.state_bytes() <= budget);
  CHECK(now[0] + now[1] + now[2] == 24);
  CHECK((now[0] < now[2] && now[2] < now[1]));
  for (Index a = 1; a < 23; ++a)
    for (Index b = 1; a + b < 24; ++b) CHECK(held(model, {a, b, 24 - a - b}) <= held(model, now) + 1e-3);
  Index due = 0;
  fleet.each([&](const std::string& name, const auto& o) { due += name != "embed" && o.due(); });
  CHECK(due == changed);
  CHECK(fleet.step(model.parameters(1), {.lr = 0.01}).skipped == 0);
  // two gradients differ little: another call finds nothing to do
  CHECK(fleet.rebalance(budget) == 0);

  const std::size_t less = budget - budget / 8;
  CHECK(fleet.rebalance(less) > 0);
  CHECK(fleet.state_bytes() <= less);
  CHECK(fleet.rebalance(4 * budget) == 3);
  CHECK(ranks(fleet) == std::vector<Index>{d, d, d});
  for (int t = 2; t < 8; ++t) CHECK(fleet.step(model.parameters(t), {.lr = 0.01}).skipped == 0);
}

TEST_CASE("Hysteresis leaves ranks alone that would hardly change, as long as the budget holds", "[fleet]") {
  Layers model;
  auto fleet = make(model, 10);
  fleet.step(model.parameters(0), {.lr = 0.01});
  CHECK(fleet.rebalance(fleet.state_bytes()) == 0);
  const std::size_t less = fleet.state_bytes() * 7 / 8;
  CHECK(fleet.rebalance(less) > 0);
  CHECK(fleet.state_bytes() <= less);
}

TEST_CASE("A budget that cannot be met, and fleets without a choice, throw and change nothing", "[fleet]") {
  Layers model;
  auto fleet = make(model);
  CHECK_THROWS_WITH(fleet.rebalance(1 << 20), ContainsSubstring("without a basis"));
  fleet.step(model.parameters(0), {.lr = 0.01});
  const auto before = fleet;
  const std::size_t least = 2 * d * k * 8 + 3 * ((d + 2 * k) * 8 + 8);
  CHECK_THROWS_WITH(fleet.rebalance(least - 1), ContainsSubstring(std::to_string(least)));
  fleet.accumulate(3, model.parameters(1)[3]);
  CHECK_THROWS_WITH(fleet.rebalance(1 << 20), ContainsSubstring("accumulated"));
  CHECK(fleet == before);
  auto smallest = before;
  CHECK(smallest.rebalance(least) == 3);
  CHECK(ranks(smallest) == std::vector<Index>{1, 1, 1});
  Fleet fixed(model.parameters(0), Group{anything(), galore({.rank = 4})});
  fixed.step(model.parameters(0), {.lr = 0.01});
  CHECK_THROWS_WITH(fixed.rebalance(1 << 20), ContainsSubstring("adapt.energy"));
}
