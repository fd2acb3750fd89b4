// The GaLore of examples/arena.cpp on a GPU. A device has one fleet per recipe, and the rest is the same: one matrix per layer of the
// stack, where it lies. The trainer's loops stay what they are; its arenas are memory that both machines see.
#pragma once

#include <cmath>   // std::cos
#include <cstdio>
#include <string>

#include <examples/arena/trainer.hpp>
#include <lowrank/cuda/fleet.cuh>

namespace arena {

/// The numbers of lowrank::fill_normal(out, n, seed, stream, 0).
inline void normal(float* out, int n, unsigned seed, std::uint64_t stream = 0) {
  for (int i = 0; i < n; ++i) {
    const auto block = lowrank::cuda::random_block(seed, stream, std::uint64_t(i / 4));
    const auto pair = lowrank::cuda::normal_pair(block.word[i % 4 / 2 * 2], block.word[i % 4 / 2 * 2 + 1]);
    out[i] = float(i % 2 == 0 ? pair.even : pair.odd);
  }
}

/// Both fleets' matrices: those that GaLore takes, and the biases.
struct Parameters {
  std::vector<lowrank::cuda::Parameter<float>> matrices, biases;
};
template <class Floats>
Parameters parameters(Net<Floats>& net) {
  const Tensors w = point_into(net.params.data()), d = point_into(net.grads.data());
  Parameters p;
  const auto add = [&](auto& list, const char* kind, float* weight, const float* gradient, int rows, int cols) {
    for (int l = 0; l < L; ++l) {
      const int at = l * rows * cols;
      list.push_back({"layers." + std::to_string(l) + "." + kind, lowrank::cuda::view(weight + at, rows, cols), lowrank::cuda::view(gradient + at, rows, cols)});
    }
  };
  add(p.matrices, "fc", w.fc, d.fc, F, C);
  add(p.biases, "bias", w.bias, d.bias, 1, F);
  add(p.matrices, "proj", w.proj, d.proj, C, F);
  return p;
}

/// Trains on a machine's optimizer for so many steps of the schedule; the last loss. Floats: memory that this machine and the CPU see.
template <class Floats, class Machine>
float train(Machine& machine, int until, int steps = 120) {
  using namespace lowrank;
  Net<std::vector<float>> teacher(1, [](float* out, int n, unsigned seed) { normal(out, n, seed); });
  Net<Floats> net(2, [](float* out, int n, unsigned seed) { normal(out, n, seed); });
  std::vector<float> input(B * C);

  const Parameters params = parameters(net);
  cuda::Fleet matrices(machine, params.matrices, Subspace{.rank = 32, .refresh_every = 20, .transport = Transport::Rotate},
                       AdamW{.beta2 = 0.95, .eps = 1e-6, .weight_decay = 0, .epsilon = Epsilon::BeforeCorrection, .decay_order = DecayOrder::AfterUpdate},
                       BackProject{.scale = 3});
  cuda::Fleet biases(machine, params.biases, Identity{}, AdamW{.beta2 = 0.95});
  std::printf("GaLore keeps %zu KiB\n", (matrices.state_bytes() + biases.state_bytes()) / 1024);

  float loss = 0;
  for (int t = 0; t <= until; ++t) {
    normal(input.data(), B * C, 3, std::uint64_t(t));
    teacher.forward(input.data());
    net.forward(input.data());
    loss = net.backward(&teacher.x[std::size_t(L * B * C)]);
    const double lr = 2e-3 * (0.1 + 0.9 * 0.5 * (1 + std::cos(3.14159265358979323846 * t / steps)));
    matrices.step(params.matrices, {.lr = lr});  // and waits, so that the CPU may go on
    biases.step(params.biases, {.lr = lr});
    if (t % 20 == 0) std::printf("step %3d  GaLore %.4f\n", t, double(loss));
  }
  return loss;
}

}  // namespace arena
