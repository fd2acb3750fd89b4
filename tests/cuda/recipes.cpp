// Recipe functions on the device: from the CPU's option aggregates, the CPU's steps.
#include <cuda/both.hpp>
#include <lowrank/cuda/fleet.cuh>
#include <lowrank/cuda/recipes.cuh>
#include <lowrank/recipes.hpp>
#include <lowrank/rule/lion.hpp>

using namespace support;

namespace {

/// Six steps of both: the largest difference over the largest change. make(w) and make(machine, w) give the two optimizers.
template <class Make>
double apart(const Make& make) {
  HostDevice machine;
  Padded<double> w(20, 33, true, 1), v = w, g(20, 33, false);
  w.set(noise(20, 33, 3)), v.set(noise(20, 33, 3));
  const Eigen::MatrixXd before = w.values();
  auto here = make(w.cpu());
  auto there = make(machine, v.device());
  for (std::uint64_t t = 0; t < 6; ++t) {
    g.set(gradient(20, 33, t));
    CHECK(here.step(w.cpu(), g.cpu(), {.lr = 0.01}).refreshed == there.step(v.device(), g.device(), {.lr = 0.01}).refreshed);
  }
  const Eigen::MatrixXd moved = w.values() - before;
  CHECK(moved.cwiseAbs().maxCoeff() > 0);
  return (w.values() - v.values()).cwiseAbs().maxCoeff() / moved.cwiseAbs().maxCoeff();
}

}  // namespace

TEST_CASE("a recipe function of the device takes the steps of the CPU's", "[cuda]") {
  using namespace lowrank;
  using namespace lowrank::cuda;
  const auto full_rank = [](auto&&... at) { return adamw(at..., AdamW{.weight_decay = 0.1}); };
  CHECK(apart(full_rank) == 0);
  const auto in_subspace = [](auto&&... at) {
    return galore(at..., GaloreOptions{.rank = 4, .refresh_every = 3, .scale = 0.5, .side = Side::Left, .transport = Transport::Rotate, .weight_decay = 0.1});
  };
  CHECK(apart(in_subspace) < 1e-8);
  CHECK(apart([](auto&&... at) { return galore<Gaussian>(at..., GaloreOptions{.rank = 4, .refresh_every = 3, .seed = 7}); }) < 1e-8);
  CHECK(apart([](auto&&... at) { return galore_8bit(at..., GaloreOptions{.rank = 4, .refresh_every = 3}); }) < 0.02);
  const auto limited = [](auto&&... at) {
    return fira(at..., FiraOptions{.rank = 4, .refresh_every = 3, .form = FiraForm::Paper, .limiter = {.gamma = 1.001}});
  };
  CHECK(apart(limited) < 1e-8);
  const auto scaled = [](auto&&... at) {
    return apollo(at..., ApolloOptions{.rank = 4, .refresh_every = 3, .scale = 2, .scale_order = ScaleOrder::BeforeLimiter, .seed = 3});
  };
  CHECK(apart(scaled) < 1e-8);
  CHECK(apart([](auto&&... at) { return apollo_mini(at...); }) < 1e-8);
  CHECK(apart([](auto&&... at) { return dct_adamw(at..., DctAdamwOptions{.rank = 4, .refresh_every = 2, .score = Score::L2}); }) < 1e-8);
  CHECK(apart([](auto&&... at) { return dct_adamw(at..., DctAdamwOptions{.rank = 4}, ErrorFeedback{}); }) < 1e-8);
  CHECK(apart([](auto&&... at) { return muon(at..., Orthogonal{.weight_decay = 0.1}); }) < 1e-8);
  CHECK(apart([](auto&&... at) { return trion(at..., Trion{.rank = 4}); }) < 1e-8);
  CHECK(apart([](auto&&... at) { return dion(at..., Dion{.rank = 4}); }) < 1e-6);
}

TEST_CASE("one recipe makes optimizers on either machine, and fleets", "[cuda]") {
  CHECK(apart(lowrank::galore({.rank = 4, .refresh_every = 3})) < 1e-8);
  CHECK(apart(lowrank::lion({.weight_decay = 0.1})) == 0);
  CHECK(apart(lowrank::Recipe{lowrank::Dct{.rank = 4}, lowrank::Lion{}, lowrank::BackProject{.scale = 0.5}}) < 1e-8);

  HostDevice machine;
  Padded<float> w(12, 30, true), v = w, g(12, 30, true);
  g.set(gradient(12, 30, 1));
  const auto from = g.device();
  const std::vector<lc::Parameter<float>> params{{"fc", v.device(), {from.data, from.rows, from.cols, from.row_stride, from.col_stride}}};
  lc::Fleet fleet(machine, params, lowrank::galore({.rank = 3}));
  auto alone = lc::galore(machine, w.device(), {.rank = 3});
  CHECK_FALSE(fleet.step(params, {.lr = 0.1})[0].skipped);
  alone.step(w.device(), g.device(), {.lr = 0.1});
  CHECK(w.memory == v.memory);
}

TEST_CASE("what a device does not have is refused in words", "[cuda]") {
  HostDevice machine;
  Padded<float> w(12, 30, true);
  const auto says = [](const char* why) { return Catch::Matchers::ContainsSubstring(why); };
  CHECK_THROWS_WITH(lc::galore_8bit(machine, w.device(), {.rank = 3, .transport = lowrank::Transport::Rotate}), says("Transport::Keep, or fp32 moments"));
  CHECK_THROWS_WITH(lc::galore(machine, w.device(), {.rank = 3, .adapt = {.energy = 0.9}}), says("ranks adapt on the CPU only"));
  CHECK_THROWS_WITH(lc::dct_adamw(machine, w.device(), {.rank = 3}, lowrank::ErrorFeedback{.storage = lowrank::Storage::Int8}), says("Storage::Full on a device"));
  CHECK(machine.live() == 0);
}
