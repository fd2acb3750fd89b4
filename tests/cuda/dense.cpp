// Rules on the whole gradient: the device's kernels give the CPU library's bits, stochastic rounding included.
#include <cuda/both.hpp>
#include <lowrank/rule/adam8bit.hpp>
#include <lowrank/rule/adam_bf16.hpp>
#include <lowrank/rule/lion.hpp>

using namespace support;

namespace {

const std::vector<Case> cases = {
    {.rows = 20, .cols = 30},
    {.rows = 33, .cols = 65, .weight_by_rows = true},
    {.rows = 70, .cols = 41, .gradient_by_rows = true, .padding = 3},
    {.rows = 5, .cols = 700, .weight_by_rows = true, .gradient_by_rows = true, .padding = 1},
    {.rows = 1200, .cols = 2},
    {.rows = 1, .cols = 50},
    {.rows = 50, .cols = 1, .weight_by_rows = true},
    {.rows = 1, .cols = 1},
};

template <class T, class U, class R>
void check_equal(const R& rule, const lowrank::Step& step = {.lr = 0.01}) {
  for (Case c : cases) {
    c.step = step;
    c.steps = 3;
    INFO(c.rows << " x " << c.cols << ", rows " << c.weight_by_rows << c.gradient_by_rows);
    CHECK(difference<T, U>(c, lowrank::Identity{}, rule, lowrank::BackProject{}) == 0);
  }
}

using bf16 = Eigen::bfloat16;
using half = Eigen::half;

}  // namespace

TEST_CASE("adamw on the device has the CPU's bits", "[cuda]") {
  const lowrank::AdamW rule{.beta2 = 0.95, .weight_decay = 0.1};
  check_equal<float, float>(rule);
  check_equal<double, double>(rule);
  check_equal<float, float>(lowrank::AdamW{.eps = 1e-6, .weight_decay = 0.1, .epsilon = lowrank::Epsilon::BeforeCorrection,
                                           .decay_order = lowrank::DecayOrder::AfterUpdate},
                            {.lr = 0.01, .grad_scale = 0.3});
  check_equal<float, float>(rule, {.lr = 0.01, .grad_norm = 3.0});
}

TEST_CASE("lion on the device has the CPU's bits", "[cuda]") {
  check_equal<float, float>(lowrank::Lion{.weight_decay = 0.1});
  check_equal<double, double>(lowrank::Lion{});
}

TEST_CASE("Weights and gradients in 16 bits: nearest and stochastic rounding as on the CPU", "[cuda]") {
  const lowrank::AdamW rule{.weight_decay = 0.1};
  const lowrank::Step stochastic{.lr = 0.01, .rounding = lowrank::Rounding::Stochastic, .seed = 5};
  check_equal<bf16, bf16>(rule);
  check_equal<half, half>(rule);
  check_equal<bf16, float>(rule, stochastic);
  check_equal<half, bf16>(rule, stochastic);
  check_equal<float, half>(rule, stochastic);
}

TEST_CASE("Moments in bf16, rounded by the same stream", "[cuda]") {
  check_equal<float, float>(lowrank::AdamBf16{.seed = 3});
  check_equal<bf16, bf16>(lowrank::AdamBf16{.seed = 3}, {.lr = 0.01, .rounding = lowrank::Rounding::Stochastic});
}

TEST_CASE("Moments in 8 bits: the same codes", "[cuda]") {
  check_equal<float, float>(lowrank::Adam8bit{.weight_decay = 0.1, .seed = 3});
  check_equal<double, double>(lowrank::Adam8bit{.seed = 4});
  check_equal<bf16, half>(lowrank::Adam8bit{.epsilon = lowrank::Epsilon::BeforeCorrection, .seed = 3});
}

TEST_CASE("The order in which threads and blocks run changes nothing", "[cuda]") {
  for (const Schedule order : {Schedule::Backward, Schedule::Scattered})
    for (Case c : cases) {
      c.order = order;
      CHECK(difference<float, float>(c, lowrank::Identity{}, lowrank::AdamW{}, lowrank::BackProject{}) == 0);
    }
}

TEST_CASE("A gradient that is not finite changes no bit", "[cuda]") {
  for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL, 1e20})
    for (const bool by_rows : {false, true}) {
      HostDevice machine;
      Padded<float> w(9, 40, by_rows, 2), g(9, 40, !by_rows);
      w.set(noise(9, 40, 1));
      w(2, 3) = -0.0f;
      g.set(noise(9, 40, 2));
      lc::Optimizer opt(machine, w.device(), lowrank::Identity{}, lowrank::AdamW{.weight_decay = 1});
      opt.step(w.device(), g.device(), {.lr = 0.01});
      const auto before = w.memory;
      std::vector<float> moments;
      const auto copy = [&](const char*, const auto& x) { moments.insert(moments.end(), x.data(), x.data() + x.size()); };
      opt.visit(copy);
      const auto then = std::exchange(moments, {});
      g(4, 39) = float(bad);
      const auto report = opt.step(w.device(), g.device(), {.lr = 0.01});
      opt.visit(copy);
      CHECK(report.skipped);
      CHECK(std::memcmp(before.data(), w.memory.data(), before.size() * sizeof(float)) == 0);
      CHECK(std::memcmp(then.data(), moments.data(), then.size() * sizeof(float)) == 0);
      CHECK(opt.steps() == 1);
      // also when the norm is all that is known
      CHECK(opt.step(w.device(), g.device(), {.lr = 0.01, .grad_norm = bad}).skipped);
    }
}

TEST_CASE("Bad calls throw before anything is touched", "[cuda]") {
  HostDevice machine;
  Padded<float> w(4, 6, false), g(4, 6, false), other(6, 4, false);
  w.set(noise(4, 6, 1)), g.set(noise(4, 6, 2));
  const auto before = w.memory;
  lc::Optimizer opt(machine, w.device(), lowrank::Identity{}, lowrank::AdamW{});
  machine.calls();
  CHECK_THROWS_AS(opt.step(w.device(), other.device(), {.lr = 0.1}), std::invalid_argument);
  CHECK_THROWS_AS(opt.step(other.device(), g.device(), {.lr = 0.1}), std::invalid_argument);
  CHECK_THROWS_AS(opt.step(w.device(), w.device(), {.lr = 0.1}), std::invalid_argument);
  CHECK_THROWS_AS(opt.step(w.device(), g.device(), {.lr = -1}), std::invalid_argument);
  CHECK_THROWS_AS(opt.step(w.device(), g.device(), {.lr = std::nan("")}), std::invalid_argument);
  opt.rule().beta1 = 1;
  CHECK_THROWS_AS(opt.step(w.device(), g.device(), {.lr = 0.1}), std::invalid_argument);
  CHECK(machine.calls().empty());
  CHECK(before == w.memory);
  CHECK_THROWS_AS(lc::view(w.memory.data(), 4, 6, 2, 5), std::invalid_argument);
  CHECK_THROWS_AS(lc::view(static_cast<float*>(nullptr), 4, 6), std::invalid_argument);
  CHECK_THROWS_AS(lc::Optimizer(machine, w.device(), lowrank::Identity{}, lowrank::AdamW{.eps = 0}), std::invalid_argument);
}

TEST_CASE("After the first step nothing is allocated, and every step launches the same", "[cuda]") {
  HostDevice machine;
  Padded<float> w(40, 60, true), g(40, 60, true);
  {
    lc::Optimizer opt(machine, w.device(), lowrank::Identity{}, lowrank::AdamW{});
    g.set(noise(40, 60, 1));
    opt.step(w.device(), g.device(), {.lr = 0.1});
    const int allocations = machine.allocations();
    machine.calls();
    opt.step(w.device(), g.device(), {.lr = 0.2});
    const auto first = machine.calls();
    opt.step(w.device(), g.device(), {.lr = 0.3});
    CHECK(first == machine.calls());
    CHECK(machine.allocations() == allocations);
    CHECK(opt.state_bytes() == 2 * 40 * 60 * sizeof(float));
    machine.calls();
    opt.step(w.device(), g.device(), {.lr = 0.3, .grad_norm = 50});
    CHECK(machine.calls().size() == first.size() - 2);  // one pass over memory
  }
  CHECK(machine.live() == 0);
}
