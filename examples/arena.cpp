// A trainer in the style of llm.c (arena/trainer.hpp): all weights in one float arena, gradients in a second one. Trained twice, with its
// own AdamW over the whole arena and with GaLore on the matrices: what had to be written for that is between the marks.
// arena.cu is the same with the optimizer on a GPU.
#include <cmath>
#include <cstdio>
#include <vector>

#include <examples/arena/trainer.hpp>
#include <lowrank/lowrank.hpp>

using namespace arena;

namespace {

using Trainer = Net<std::vector<float>>;
void normal(float* out, int n, unsigned seed) { lowrank::fill_normal(out, n, seed, 0, 0); }

// The optimizer the trainer had: one pass over the arena, two moments of its size.
struct ArenaAdamW {
  std::vector<float> m = std::vector<float>(arena_size), v = std::vector<float>(arena_size);
  int t = 0;
  void update(Trainer& net, float lr) {
    ++t;
    const float c1 = 1 - std::pow(0.9f, float(t)), c2 = 1 - std::pow(0.95f, float(t));
    for (std::size_t i = 0; i < m.size(); ++i) {
      const float g = net.grads[i];
      m[i] = 0.9f * m[i] + 0.1f * g;
      v[i] = 0.95f * v[i] + 0.05f * g * g;
      net.params[i] -= lr * (m[i] / c1) / (std::sqrt(v[i] / c2) + 1e-8f);
    }
  }
};

// ---- GaLore: from here ... --------------------------------------------------------------------------------------------
std::vector<lowrank::Parameter<float>> parameters(Trainer& net) {
  const Tensors w = point_into(net.params.data()), d = point_into(net.grads.data());
  std::vector<lowrank::Parameter<float>> list;
  const auto add = [&](const char* kind, float* weight, const float* gradient, int rows, int cols) {
    for (int l = 0; l < L; ++l) {  // one matrix per layer of the stack, where it lies
      const int at = l * rows * cols;
      list.push_back({"layers." + std::to_string(l) + "." + kind, lowrank::view(weight + at, rows, cols), lowrank::view(gradient + at, rows, cols)});
    }
  };
  add("fc", w.fc, d.fc, F, C);
  add("bias", w.bias, d.bias, 1, F);
  add("proj", w.proj, d.proj, C, F);
  return list;
}

auto make_fleet(const std::vector<lowrank::Parameter<float>>& params) {
  using namespace lowrank;
  return Fleet(params, Group{named("*.fc", "*.proj"), galore({.rank = 32, .refresh_every = 20, .scale = 3, .transport = Transport::Rotate, .beta2 = 0.95})},
               Group{anything(), adamw({.beta2 = 0.95})});
}
// ---- ... to here; and in the loop, fleet.step(params, {.lr = lr}) -------------------------------------------------------

}  // namespace

int main() {
  Trainer teacher(1, normal), with_adamw(2, normal), with_galore(2, normal);
  std::vector<float> input(B * C);

  ArenaAdamW adamw;
  const auto params = parameters(with_galore);
  auto fleet = make_fleet(params);
  std::printf("AdamW keeps %zu KiB, GaLore %zu KiB\n", 2 * sizeof(float) * arena_size / 1024, fleet.state_bytes() / 1024);

  const int steps = 120;
  for (int t = 0; t <= steps; ++t) {
    lowrank::fill_normal(input.data(), B * C, 3, std::uint64_t(t), 0);
    teacher.forward(input.data());
    const float* target = &teacher.x[std::size_t(L * B * C)];
    const float lr = float(2e-3 * lowrank::cosine(t, steps, 0.1));

    with_adamw.forward(input.data());
    const float loss_adamw = with_adamw.backward(target);
    adamw.update(with_adamw, lr);

    with_galore.forward(input.data());
    const float loss_galore = with_galore.backward(target);
    fleet.step(params, {.lr = lr});
    if (t % 20 == 0) std::printf("step %3d  AdamW %.4f  GaLore %.4f\n", t, double(loss_adamw), double(loss_galore));
  }
}
