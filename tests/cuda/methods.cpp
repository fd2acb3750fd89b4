// Trion and Dion on the device: the CPU library's steps, Trion's reference vectors, and their state.
#include <cuda/both.hpp>
#include <support/folder.hpp>
#include <support/golden.hpp>

#include <lowrank/exchange/device.hpp>

using namespace support;
using lowrank::Coupled;

namespace {

const std::vector<Case> cases = {{.rows = 20, .cols = 33, .steps = 5},
                                 {.rows = 45, .cols = 21, .weight_by_rows = true, .padding = 3, .steps = 5},
                                 {.rows = 24, .cols = 24, .gradient_by_rows = true, .steps = 5}};

template <class P>
void check_steps(const P& method) {
  for (const Case& c : cases) {
    INFO(c.rows << " x " << c.cols);
    CHECK(difference<double, double>(c, method, Coupled{}, Coupled{}) < 1e-6);
    CHECK(difference<float, float>(c, method, Coupled{}, Coupled{}) < 1e-2);
  }
}

template <class S>
void check_golden(const Golden& g, bool by_rows, double tolerance) {
  const std::string scaling = g.text("scaling");
  const bool left = g.matrix("W0").rows() < g.matrix("W0").cols();
  const lowrank::Trion trion{.rank = std::int64_t(g.number("rank")), .mu = g.number("mu"), .weight_decay = g.number("wd"),
                             .shape_scale = scaling == "kj" ? lowrank::ShapeScale::Tall : scaling == "kimi" ? lowrank::ShapeScale::Rms : scaling == "dion" ? lowrank::ShapeScale::Spectral : lowrank::ShapeScale::None,
                             .basis = left ? lowrank::DctBasis::Cosines : lowrank::DctBasis::Transposed};
  HostDevice machine;
  Padded<S> w(g.matrix("W0").rows(), g.matrix("W0").cols(), by_rows, 1), gradient(w.rows, w.cols, !by_rows);
  w.set(g.matrix("W0"));
  lc::Optimizer opt(machine, w.device(), trion, Coupled{}, Coupled{});
  for (lowrank::Index t = 0; t < lowrank::Index(g.number("steps")); ++t) {
    gradient.set(g.matrix("G", t));
    CHECK_FALSE(opt.step(w.device(), gradient.device(), {.lr = g.number("lr")}).skipped);
    CHECK(relative_error(w.values(), g.matrix("W", t)) < tolerance);
  }
}

}  // namespace

TEST_CASE("trion on the device takes the CPU's steps", "[cuda]") {
  check_steps(lowrank::Trion{.rank = 3, .weight_decay = 0.1});
  check_steps(lowrank::Trion{.rank = 4, .polynomial = lowrank::Polynomial::Tuned, .shape_scale = lowrank::ShapeScale::Rms, .basis = lowrank::DctBasis::Transposed});
}
TEST_CASE("dion on the device takes the CPU's steps", "[cuda]") {
  check_steps(lowrank::Dion{.rank = 3});
  check_steps(lowrank::Dion{.rank_fraction = 0.2, .weight_decay = 0});
}

TEST_CASE("Trion's reference vectors on the device's path", "[cuda][golden]") {
  for (const std::string shape : {"square", "tall", "wide"})
    for (const std::string scaling : {"kj", "kimi", "dion", "none"})
      for (const bool by_rows : {false, true}) {
        INFO(shape << ", " << scaling);
        const Golden g("trion." + shape + "." + scaling);
        check_golden<double>(g, by_rows, 1e-9);
        check_golden<float>(g, by_rows, 1e-4);
      }
}

TEST_CASE("Whole methods: a gradient that is not finite changes no bit, zeros decay, the state moves", "[cuda]") {
  const auto check = [](const auto& method) {
    const Folder folder("cuda_methods");
    HostDevice machine;
    Padded<double> w(15, 22, true), g(15, 22, false);
    w.set(noise(15, 22, 1));
    lc::Optimizer opt(machine, w.device(), method, Coupled{}, Coupled{});
    g.set(Eigen::MatrixXd::Zero(15, 22));
    CHECK_FALSE(opt.step(w.device(), g.device(), {.lr = 0.1}).skipped);
    CHECK(w.values().allFinite());
    for (std::uint64_t t = 0; t < 3; ++t) g.set(gradient(15, 22, t)), opt.step(w.device(), g.device(), {.lr = 0.1});
    const auto before = w.memory;
    const auto state = lowrank::exchange::to_cpu(opt);
    g(3, 4) = HUGE_VAL;
    CHECK(opt.step(w.device(), g.device(), {.lr = 0.1}).skipped);
    CHECK(before == w.memory);
    CHECK(lowrank::exchange::to_cpu(opt) == state);
    lowrank::exchange::save(opt, folder / "state.safetensors");
    lowrank::Optimizer cpu(w.cpu(), method, Coupled{}, Coupled{});
    cpu.load(folder / "state.safetensors");
    CHECK(cpu == state);
    Padded<double> v = w;
    lc::Optimizer loaded(machine, v.device(), method, Coupled{}, Coupled{});
    lowrank::exchange::load(loaded, folder / "state.safetensors");
    g.set(gradient(15, 22, 9));
    loaded.step(v.device(), g.device(), {.lr = 0.1});
    cpu.step(w.cpu(), g.cpu(), {.lr = 0.1});
    CHECK((w.values() - v.values()).cwiseAbs().maxCoeff() < 1e-9);
  };
  check(lowrank::Trion{.rank = 4});
  check(lowrank::Dion{.rank = 4});
}
