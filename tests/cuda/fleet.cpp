// A fleet on a device is its optimizers one by one, with one workspace and without an allocation once all have been stepped.
#include <cuda/both.hpp>
#include <lowrank/cuda/fleet.cuh>

using namespace support;

TEST_CASE("Many matrices step as each would alone", "[cuda]") {
  HostDevice machine;
  const lowrank::Subspace subspace{.rank = 3, .refresh_every = 4};
  std::vector<Padded<float>> w, g, v;
  for (const auto& [m, n] : {std::pair<lc::Index, lc::Index>{12, 30}, {30, 12}, {12, 30}, {9, 9}}) {
    w.emplace_back(m, n, true);
    g.emplace_back(m, n, true);
    w.back().set(noise(m, n, w.size()));
  }
  v = w;
  std::vector<lc::Parameter<float>> params;
  for (std::size_t i = 0; i < w.size(); ++i) {
    const auto view = g[i].device();
    params.push_back({"layer." + std::to_string(i), w[i].device(), {view.data, view.rows, view.cols, view.row_stride, view.col_stride}});
  }
  {
    lc::Fleet fleet(machine, params, subspace, lowrank::AdamW{}, lowrank::BackProject{.scale = 0.25});
    std::vector<lc::Optimizer<float, lowrank::Subspace, lowrank::AdamW, lowrank::BackProject, HostDevice>> alone;
    for (std::size_t i = 0; i < v.size(); ++i) {
      lowrank::Subspace mine = subspace;
      mine.phase = std::int64_t(i) % 4;
      alone.emplace_back(machine, v[i].device(), mine, lowrank::AdamW{}, lowrank::BackProject{.scale = 0.25});
    }
    int allocations = 0;
    for (std::uint64_t t = 0; t < 9; ++t) {
      if (t == 4) allocations = machine.allocations();
      for (std::size_t i = 0; i < g.size(); ++i) g[i].set(gradient(g[i].rows, g[i].cols, t + i));
      const auto reports = fleet.step(params, {.lr = 0.01});
      for (std::size_t i = 0; i < v.size(); ++i) {
        const auto report = alone[i].step(v[i].device(), g[i].device(), {.lr = 0.01});
        CHECK(report.captured == reports[i].captured);
        CHECK(report.refreshed == (t == 0 || (t + i) % 4 == 0));
        CHECK(v[i].memory == w[i].memory);
      }
    }
    CHECK(machine.allocations() == allocations);
    CHECK(fleet.workspace_bytes() == std::max(fleet[0].workspace_bytes(), fleet[3].workspace_bytes()));

    // one bad matrix, and none is touched
    const auto before = w[0].memory;
    auto bad = params;
    bad[3].gradient = bad[0].gradient;
    CHECK_THROWS_AS(fleet.step(bad, {.lr = 0.01}), std::invalid_argument);
    bad.pop_back();
    CHECK_THROWS_AS(fleet.step(bad, {.lr = 0.01}), std::invalid_argument);
    CHECK(before == w[0].memory);

    // and one gradient that is not finite skips its own matrix only
    g[1](2, 3) = HUGE_VALF;
    const auto reports = fleet.step(params, {.lr = 0.01});
    CHECK((!reports[0].skipped && reports[1].skipped && !reports[2].skipped && !reports[3].skipped));
  }
  CHECK(machine.live() == 0);
}
