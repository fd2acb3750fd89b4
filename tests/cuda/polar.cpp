// Muon on the device: the CPU library's steps, in either order, and a polar factor that is one.
#include <cuda/both.hpp>

using namespace support;

TEST_CASE("muon on the device takes the CPU's steps", "[cuda]") {
  for (const Case& c : {Case{.rows = 20, .cols = 33}, Case{.rows = 45, .cols = 21, .weight_by_rows = true, .padding = 3}, Case{.rows = 24, .cols = 24, .gradient_by_rows = true},
                        Case{.rows = 1, .cols = 40}}) {
    INFO(c.rows << " x " << c.cols);
    for (const auto polynomial : {lowrank::Polynomial::Quintic, lowrank::Polynomial::Tuned, lowrank::Polynomial::PolarExpress}) {
      const lowrank::Orthogonal muon{.weight_decay = 0.1, .polynomial = polynomial};
      CHECK(difference<double, double>(c, lowrank::Identity{}, muon, lowrank::BackProject{}) < 1e-8);
      CHECK(difference<float, float>(c, lowrank::Identity{}, muon, lowrank::BackProject{}) < 5e-3);
    }
    CHECK(difference<double, double>(c, lowrank::Subspace{.rank = 3, .refresh_every = 3}, lowrank::Orthogonal{.form = lowrank::Momentum::Heavy}, lowrank::BackProject{}) < 1e-6);
  }
}

TEST_CASE("Zeros have no direction, and a gradient that is not finite changes no bit", "[cuda]") {
  HostDevice machine;
  Padded<float> w(12, 30, true), g(12, 30, true);
  w.set(noise(12, 30, 1));
  const auto before = w.memory;
  lc::Optimizer opt(machine, w.device(), lowrank::Identity{}, lowrank::Orthogonal{});
  g.set(Eigen::MatrixXd::Zero(12, 30));
  CHECK_FALSE(opt.step(w.device(), g.device(), {.lr = 0.1}).skipped);
  CHECK(before == w.memory);
  g(3, 4) = std::nanf("");
  CHECK(opt.step(w.device(), g.device(), {.lr = 0.1}).skipped);
  CHECK(before == w.memory);
}
