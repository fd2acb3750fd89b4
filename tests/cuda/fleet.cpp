// A fleet on a device is its optimizers one by one, bit by bit, with fewer launches, one workspace and without an allocation once all
// have been stepped.
#include <cuda/both.hpp>
#include <lowrank/cuda/fleet.cuh>
#include <lowrank/rule/lion.hpp>

using namespace support;

static_assert(lc::Backend<lc::Batching<HostDevice>>);

namespace {

/// Weights with their gradients, of shapes that repeat; the third is stored the other way round.
template <class T>
struct Model {
  std::vector<Padded<T>> w, g;

  Model() {
    for (const auto& [m, n] : {std::pair<lc::Index, lc::Index>{12, 30}, {30, 12}, {12, 30}, {9, 9}, {12, 30}, {12, 30}, {30, 12}}) {
      w.emplace_back(m, n, w.size() != 2, w.size() == 4 ? 1 : 0);
      g.emplace_back(m, n, true);
      w.back().set(noise(m, n, w.size()));
    }
  }
  void draw(std::uint64_t t) {
    for (std::size_t i = 0; i < g.size(); ++i) g[i].set(gradient(g[i].rows, g[i].cols, t + i));
  }
  auto parameters() {
    using D = typename DeviceScalar<T>::type;
    std::vector<lc::Parameter<D>> params;
    for (std::size_t i = 0; i < w.size(); ++i) params.push_back({"layer." + std::to_string(i), w[i].device(), lc::View<const D>(g[i].device())});
    return params;
  }
};

/// Launches, batched or not.
std::size_t launches(HostDevice& machine) { return machine.calls().size(); }

/// The same steps by a fleet and by an optimizer for each matrix: equal bits and reports, also where a gradient is not finite.
template <class T, class P, class R, class L>
void check_alone(const P& projector, const R& rule, const L& lift, const lowrank::Step& step = {.lr = 0.01}) {
  using S = lc::compute_t<typename DeviceScalar<T>::type>;
  HostDevice together, apart(Schedule::Scattered);
  Model<T> model, other;
  auto params = model.parameters();
  {
    lc::Fleet fleet(together, params, projector, rule, lift);
    std::vector<lc::Optimizer<S, P, R, L, HostDevice>> alone;
    for (std::size_t i = 0; i < other.w.size(); ++i) {
      P mine = projector;
      if constexpr (requires { mine.phase; mine.refresh_every; })
        if (mine.refresh_every > 1) mine.phase = (projector.phase + std::int64_t(i)) % mine.refresh_every;
      alone.emplace_back(apart, other.w[i].device(), mine, rule, lift);
    }
    int allocations = 0;
    std::size_t fewer = 0, more = 0;
    for (std::uint64_t t = 0; t < 10; ++t) {
      if (t == 5) allocations = together.allocations();
      model.draw(t), other.draw(t);
      if (t == 6) model.g[4](2, 3) = other.g[4](2, 3) = T(std::nanf(""));
      together.calls(), apart.calls();
      params[5].lr_scale = t == 3 ? 0 : 2;  // frozen once
      const auto reports = fleet.step(params, step);
      fewer += launches(together);
      for (std::size_t i = 0; i < alone.size(); ++i) {
        if (params[i].lr_scale == 0) continue;
        lowrank::Step mine = step;
        mine.lr *= params[i].lr_scale;
        mine.seed += 0x9E3779B97F4A7C15u * (i + 1);
        const auto report = alone[i].step(other.w[i].device(), other.g[i].device(), mine);
        CHECK(report.captured == reports[i].captured);
        CHECK(report.refreshed == reports[i].refreshed);
        CHECK(report.grad_norm == reports[i].grad_norm);
        CHECK(report.skipped == reports[i].skipped);
        CHECK(report.skipped == (t == 6 && i == 4));
        CHECK(std::memcmp(model.w[i].memory.data(), other.w[i].memory.data(), model.w[i].memory.size() * sizeof(T)) == 0);
        CHECK(alone[i].steps() == fleet[i].steps());
      }
      more += launches(apart);
    }
    CHECK(together.allocations() == allocations);
    INFO(fewer << " calls together, " << more << " apart");
    CHECK(10 * fewer < 9 * more);  // most of those of a refresh stay apart
  }
  CHECK(together.live() == 0);
}

}  // namespace

TEST_CASE("Many matrices step as each would alone, in fewer launches", "[cuda]") {
  check_alone<float>(lowrank::Identity{}, lowrank::AdamW{}, lowrank::BackProject{});
  check_alone<float>(lowrank::Identity{}, lowrank::Adam8bit{.seed = 3}, lowrank::BackProject{});
  check_alone<Eigen::bfloat16>(lowrank::Identity{}, lowrank::Lion{}, lowrank::BackProject{}, {.lr = 0.01, .rounding = lowrank::Rounding::Stochastic, .seed = 4});
  check_alone<double>(lowrank::Identity{}, lowrank::Orthogonal{}, lowrank::BackProject{});
  check_alone<float>(lowrank::Subspace{.rank = 3, .refresh_every = 4}, lowrank::AdamW{}, lowrank::BackProject{.scale = 0.25});
  check_alone<Eigen::bfloat16>(lowrank::Subspace{.rank = 3, .refresh_every = 50}, lowrank::AdamW{}, lowrank::BackProject{});
  check_alone<double>(lowrank::Subspace{.rank = 3, .refresh_every = 4, .transport = lowrank::Transport::Rotate}, lowrank::AdamW{}, lowrank::Residual{}, {.lr = 0.01, .grad_scale = 0.5});
  check_alone<float>(lowrank::Gaussian{.rank = 3, .refresh_every = 50}, lowrank::AdamW{}, lowrank::ChannelScale{});
  check_alone<float>(lowrank::Dct{.rank = 3}, lowrank::AdamW{}, lowrank::ErrorFeedback{});
  check_alone<float>(lowrank::Trion{.rank = 3}, lowrank::Coupled{}, lowrank::Coupled{});
  check_alone<float>(lowrank::Dion{.rank = 3}, lowrank::Coupled{}, lowrank::Coupled{});
}

TEST_CASE("Sixteen dense steps of one shape are one, with one product for sixteen", "[cuda]") {
  HostDevice machine;
  std::vector<Padded<float>> w(40, Padded<float>(12, 30, true)), g(40, Padded<float>(12, 30, true));
  std::vector<lc::Parameter<float>> params;
  for (std::size_t i = 0; i < w.size(); ++i) params.push_back({"w", w[i].device(), lc::View<const float>(g[i].device())});
  const auto calls = [&](auto& fleet) {
    fleet.step(params, {.lr = 0.01}), fleet.step(params, {.lr = 0.01});
    machine.calls();
    fleet.step(params, {.lr = 0.01});
    return machine.calls();
  };
  const auto count = [](const std::vector<std::string>& all, const std::string& name) {
    return std::count_if(all.begin(), all.end(), [&](const std::string& call) { return call.rfind(name, 0) == 0; });
  };
  lc::Fleet dense(machine, params, lowrank::Identity{}, lowrank::AdamW{}, lowrank::BackProject{});
  // batches of 16, 16 and 8: the numbers, two sums of squares, the decision, the sweep, the report; then one download
  CHECK(calls(dense).size() == 3 * 6 + 1);
  lc::Fleet fira(machine, params, lowrank::Gaussian{.rank = 2, .refresh_every = 0}, lowrank::AdamW{}, lowrank::Residual{});
  const auto projected = calls(fira);
  CHECK(count(projected, "gemm_batch ") == 3);
  CHECK(count(projected, "gemm ") == 40);  // W <- alpha P N + beta W, each with its own factors
  CHECK(count(projected, "upload ") == 3);
}

TEST_CASE("A fleet says what is wrong and touches nothing", "[cuda]") {
  HostDevice machine;
  Model<float> model;
  model.draw(0);
  auto params = model.parameters();
  lc::Fleet fleet(machine, params, lowrank::Subspace{.rank = 3, .refresh_every = 4}, lowrank::AdamW{}, lowrank::BackProject{});
  CHECK(fleet.workspace_bytes() == std::max(4 * ((fleet[0].workspace_bytes() + 255) / 256 * 256), 2 * ((fleet[1].workspace_bytes() + 255) / 256 * 256)));
  CHECK(machine.workspace_bytes() == fleet.workspace_bytes());
  fleet.step(params, {.lr = 0.01});
  CHECK(machine.workspace_bytes() == fleet.workspace_bytes());
  const auto before = model.w[0].memory;
  auto bad = params;
  bad[3].gradient = bad[0].gradient;
  CHECK_THROWS_AS(fleet.step(bad, {.lr = 0.01}), std::invalid_argument);
  bad.pop_back();
  CHECK_THROWS_AS(fleet.step(bad, {.lr = 0.01}), std::invalid_argument);
  CHECK_THROWS_AS(fleet.step(params, {.lr = -1}), std::invalid_argument);
  params[6].lr_scale = -1;
  CHECK_THROWS_AS(fleet.step(params, {.lr = 0.01}), std::invalid_argument);
  CHECK(before == model.w[0].memory);
}
