// State moves between the CPU library and a device, and into the same file.
#include <fstream>

#include <cuda/both.hpp>
#include <support/folder.hpp>

#include <lowrank/exchange/device.hpp>

using namespace support;

namespace {

std::string bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Four steps here, then four here and there: the states and weights agree; the files are the same bytes.
template <class T, class P, class R, class L>
void check_moves(const P& projector, const R& rule, const L& lift, bool by_rows, double most) {
  const Folder folder("cuda_state");
  HostDevice machine;
  Padded<T> w(14, 23, by_rows), g(14, 23, !by_rows);
  w.set(noise(14, 23, 1));
  const auto take = [&](auto& opt, auto&& weight, auto&& grad, std::uint64_t from) {
    for (std::uint64_t t = from; t < from + 4; ++t) {
      g.set(gradient(14, 23, t));
      opt.step(weight, grad, lowrank::Step{.lr = 0.01});
    }
  };
  lowrank::Optimizer cpu(w.cpu(), projector, rule, lift);
  take(cpu, w.cpu(), g.cpu(), 0);
  Padded<T> v = w;

  lc::Optimizer device(machine, v.device(), projector, rule, lift);
  lowrank::exchange::to_device(cpu, device);
  CHECK(device.steps() == 4);
  CHECK(device.due() == (decltype(cpu)::projected && cpu.due()));
  CHECK(lowrank::exchange::to_cpu(device) == cpu);
  cpu.save(folder / "cpu.safetensors");
  lowrank::exchange::save(device, folder / "device.safetensors");
  CHECK(bytes(folder / "cpu.safetensors") == bytes(folder / "device.safetensors"));

  Padded<T> u = w;  // a third one, from the file
  lc::Optimizer loaded(machine, u.device(), projector, rule, lift);
  lowrank::exchange::load(loaded, folder / "cpu.safetensors");
  take(device, v.device(), g.device(), 4);
  take(loaded, u.device(), g.device(), 4);
  CHECK(u.memory == v.memory);
  take(cpu, w.cpu(), g.cpu(), 4);
  CHECK((w.values() - v.values()).cwiseAbs().maxCoeff() <= most);

  // and back: saved on the device, resumed on the CPU
  lowrank::exchange::save(device, folder / "device.safetensors");
  lowrank::Optimizer resumed(v.cpu(), projector, rule, lift);
  resumed.load(folder / "device.safetensors");
  CHECK(resumed.steps() == 8);
  take(resumed, v.cpu(), g.cpu(), 8);
  take(cpu, w.cpu(), g.cpu(), 8);
  CHECK((w.values() - v.values()).cwiseAbs().maxCoeff() <= most);
}

const lowrank::Subspace subspace{.rank = 3, .refresh_every = 3, .transport = lowrank::Transport::Keep};

}  // namespace

TEST_CASE("A run goes from the CPU to a device and back, through memory and through files", "[cuda]") {
  for (const bool by_rows : {false, true}) {
    check_moves<float>(lowrank::Identity{}, lowrank::AdamW{}, lowrank::BackProject{}, by_rows, 0);
    check_moves<float>(lowrank::Identity{}, lowrank::AdamBf16{}, lowrank::BackProject{}, by_rows, 0);
    check_moves<float>(lowrank::Identity{}, lowrank::Adam8bit{.seed = 2}, lowrank::BackProject{}, by_rows, 0);
    check_moves<double>(lowrank::Dct{.rank = 4}, lowrank::AdamW{}, lowrank::ErrorFeedback{}, by_rows, 1e-10);
    check_moves<double>(subspace, lowrank::Adam8bit{}, lowrank::Residual{}, by_rows, 0.02);  // where R differs a code may
    check_moves<float>(lowrank::Identity{}, lowrank::Lion{}, lowrank::BackProject{}, by_rows, 0);
    check_moves<double>(subspace, lowrank::AdamW{}, lowrank::BackProject{}, by_rows, 1e-10);
    check_moves<double>(subspace, lowrank::AdamW{}, lowrank::Residual{}, by_rows, 1e-10);
    check_moves<double>(lowrank::Gaussian{.rank = 4, .refresh_every = 3}, lowrank::AdamW{}, lowrank::ChannelScale{}, by_rows, 1e-10);
    check_moves<float>(lowrank::Gaussian{.rank = 4, .refresh_every = 3}, lowrank::AdamBf16{}, lowrank::ChannelScale{}, by_rows, 1e-2);
  }
}

TEST_CASE("A state of another shape or rank is refused and changes nothing", "[cuda]") {
  const Folder folder("cuda_state");
  HostDevice machine;
  Padded<float> w(14, 23, false), other(23, 14, false);
  lc::Optimizer device(machine, w.device(), subspace, lowrank::AdamW{}, lowrank::BackProject{});
  const auto before = lowrank::exchange::to_cpu(device);
  lowrank::Subspace four = subspace;
  four.rank = 4;
  const lowrank::Optimizer more(w.cpu(), four, lowrank::AdamW{}, lowrank::BackProject{}), turned(other.cpu(), subspace, lowrank::AdamW{}, lowrank::BackProject{});
  CHECK_THROWS_AS(lowrank::exchange::to_device(more, device), std::invalid_argument);
  CHECK_THROWS_AS(lowrank::exchange::to_device(turned, device), std::invalid_argument);
  more.save(folder / "more.safetensors");
  CHECK_THROWS_AS(lowrank::exchange::load(device, folder / "more.safetensors"), std::runtime_error);
  CHECK(lowrank::exchange::to_cpu(device) == before);
}
