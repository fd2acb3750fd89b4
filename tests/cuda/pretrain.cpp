// pretrain with its optimizers on a device trains as on the CPU, and each goes on with what the other left. Here the device is
// HostDevice, behind the same interface as the GPU.
#include <fstream>
#include <sstream>

#include <support/catch.hpp>
#include <support/folder.hpp>
#include <support/host_device.hpp>

#include "examples/pretrain/device/machine.cuh"
#include "examples/pretrain/device/trainer.hpp"
#include "examples/pretrain/methods.hpp"

namespace {

using namespace pretrain;

Settings small() {
  Settings s;
  s.model = {.d_model = 12, .layers = 1, .heads = 2, .d_ff = 20, .context = 6};
  s.rank = 4, s.refresh_every = 2, s.steps = 8;
  return s;
}

/// A decoder in training, on the CPU or on a machine.
struct Session {
  Settings settings;
  RunSpec spec;
  Networks networks;
  Network& network;
  std::unique_ptr<Trainer> trainer;

  Session(const std::string& name, const Settings& s, Machine* machine)
      : settings(s), spec(spec_of(method(name), s)), networks(s.model, 3), network(networks.of(Weights::Dense)) {
    network.initialise(spec.seed);
    trainer = machine == nullptr ? make_trainer(spec, settings, network) : make_trainer_on(*machine, spec, settings, network);
  }
  Index steps(Index from, Index to) {
    Index refreshed = 0;
    for (Index t = from; t < to; ++t) {
      std::vector<Byte> bytes;
      for (Index i = 0; i < 3 * (settings.model.context + 1); ++i) bytes.push_back(Byte('a' + (i * i + t) % 11));
      network.zero_gradients();
      network.forward_backward(bytes, t);
      const Trainer::Outcome outcome = trainer->step(1.0 / double(1 + t), spec.clip);
      CHECK(outcome.skipped == 0);
      refreshed += outcome.refreshed;
    }
    return refreshed;
  }
  Eigen::VectorXf weights() const { return Eigen::Map<const Eigen::VectorXf>(network.weights(), network.layout().size()); }
};

/// Largest difference over the largest change.
double apart(const Eigen::VectorXf& a, const Eigen::VectorXf& b, const Eigen::VectorXf& before) {
  return double((a - b).cwiseAbs().maxCoeff() / (a - before).cwiseAbs().maxCoeff());
}

/// What rounding in R makes of entries near zero after Adam's division.
double tolerance(const std::string& name) { return name.find("8bit") != std::string::npos ? 0.1 : 1e-2; }

std::vector<std::string> on_device(Machine& machine) {
  std::vector<std::string> names;
  for (const std::string& name : method_names()) {
    try {
      Session(name, small(), &machine);
      names.push_back(name);
    } catch (const std::invalid_argument& e) {
      INFO(name);
      CHECK_THAT(e.what(), Catch::Matchers::ContainsSubstring("GPU") || Catch::Matchers::ContainsSubstring("on a device"));
    }
  }
  return names;
}

std::string bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("pretrain's optimizers on a device take the steps of the CPU's", "[cuda]") {
  support::HostDevice backend;
  const auto machine = machine_on(backend);
  const std::vector<std::string> names = on_device(*machine);
  CHECK(names == std::vector<std::string>{"adamw", "adamw_unclipped", "adam8bit", "adam_bf16", "galore", "galore_rotate", "galore_8bit", "fira", "dct_fira", "apollo", "apollo_mini",
                                          "apollo_svd", "dct_adamw", "dct_adamw_keep", "dct_adamw_feedback", "muon", "trion", "dion", "trion_short"});
  for (const std::string& name : names) {
    INFO(name);
    Session here(name, small(), nullptr), there(name, small(), machine.get());
    const Eigen::VectorXf before = here.weights();
    const MemoryUse cpu = here.trainer->memory(), device = there.trainer->memory();
    CHECK(device.state() == cpu.state());
    CHECK(device.formula == cpu.formula);
    CHECK(device.basis == cpu.basis);
    std::ostringstream plan, plan_there;
    here.trainer->print_plan(plan), there.trainer->print_plan(plan_there);
    CHECK(plan.str().substr(0, plan.str().find(" and ")) == plan_there.str().substr(0, plan_there.str().find(" and ")));
    CHECK(here.steps(0, 5) == there.steps(0, 5));
    CHECK(apart(here.weights(), there.weights(), before) < tolerance(name));
  }
}

TEST_CASE("a checkpoint of pretrain goes from a device to the CPU and back", "[cuda]") {
  support::HostDevice backend;
  const auto machine = machine_on(backend);
  for (const std::string name : {"adamw", "adam_bf16", "galore_rotate", "fira", "apollo", "dct_adamw_feedback", "trion", "dion"}) {
    INFO(name);
    const support::Folder folder("cuda_pretrain");
    Session whole(name, small(), machine.get());
    const Eigen::VectorXf before = whole.weights();
    whole.steps(0, 3);
    whole.trainer->save(folder / "device.safetensors");
    Session here(name, small(), nullptr);
    std::copy_n(whole.network.weights(), whole.network.layout().size(), here.network.weights());
    here.trainer->load(folder / "device.safetensors");
    here.trainer->save(folder / "cpu.safetensors");
    CHECK(bytes(folder / "cpu.safetensors") == bytes(folder / "device.safetensors"));
    const Index on_cpu = here.steps(3, 5);
    here.trainer->save(folder / "cpu.safetensors");
    Session back(name, small(), machine.get());
    std::copy_n(here.network.weights(), here.network.layout().size(), back.network.weights());
    back.trainer->load(folder / "cpu.safetensors");
    back.trainer->save(folder / "device.safetensors");
    CHECK(bytes(folder / "cpu.safetensors") == bytes(folder / "device.safetensors"));
    CHECK(whole.steps(3, 8) == on_cpu + back.steps(5, 8));
    here.steps(5, 8);
    CHECK(apart(whole.weights(), back.weights(), before) < tolerance(name));
    CHECK(apart(here.weights(), back.weights(), before) < tolerance(name));
  }
}

TEST_CASE("pretrain says what a device does not have", "[cuda]") {
  support::HostDevice backend;
  const auto machine = machine_on(backend);
  const auto refused = [&](const std::string& name, const Settings& s, const std::string& why) {
    CHECK_THROWS_WITH(Session(name, s, machine.get()), Catch::Matchers::ContainsSubstring(why));
  };
  refused("flora", small(), "--method flora: not on a GPU, which has adamw, adamw_unclipped, adam8bit, adam_bf16, galore");
  Settings watched = small();
  watched.watch = true;
  refused("galore", watched, "--watch");
  Settings adaptive = small();
  adaptive.options = {"adapt.energy=0.9"};
  refused("galore", adaptive, "ranks adapt on the CPU only");
  CHECK(backend.live() == 0);
}
