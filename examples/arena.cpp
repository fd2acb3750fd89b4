// A trainer in the style of llm.c, plain C but for one struct: all weights in one float arena, every kind of tensor
// stacked over the layers, (L, OC, C) row-major, gradients in a second arena of the same layout. Trained twice, with its
// own AdamW over the whole arena and with GaLore on the matrices: what had to be written for that is between the marks.
//
//   residual MLP  x_{l+1} = x_l + proj_l relu(fc_l x_l + bias_l),  mean squared error against a fixed random net
#include <cmath>
#include <cstdio>
#include <vector>

#include <lowrank/lowrank.hpp>

namespace {

constexpr int L = 4, C = 128, F = 512, B = 32;  // layers, channels, hidden, batch

/// Where each kind of tensor begins in an arena.
struct Tensors {
  float *fc, *bias, *proj;  // (L, F, C), (L, F), (L, C, F)
};
constexpr int arena_size = L * (F * C + F + C * F);
Tensors point_into(float* arena) { return {arena, arena + L * F * C, arena + L * F * C + L * F}; }

// out (B, OC) += inp (B, C) weight^T (OC, C)
void matmul(float* out, const float* inp, const float* weight, int channels, int outputs) {
  for (int b = 0; b < B; ++b)
    for (int o = 0; o < outputs; ++o) {
      float sum = 0;
      for (int c = 0; c < channels; ++c) sum += inp[b * channels + c] * weight[o * channels + c];
      out[b * outputs + o] += sum;
    }
}
// dinp (B, C) += dout (B, OC) weight;  dweight += dout^T inp
void matmul_backward(float* dinp, float* dweight, const float* dout, const float* inp, const float* weight, int channels, int outputs) {
  for (int b = 0; b < B; ++b)
    for (int o = 0; o < outputs; ++o) {
      const float d = dout[b * outputs + o];
      if (d == 0) continue;
      for (int c = 0; c < channels; ++c) {
        dinp[b * channels + c] += d * weight[o * channels + c];
        dweight[o * channels + c] += d * inp[b * channels + c];
      }
    }
}

struct Net {
  std::vector<float> params = std::vector<float>(arena_size), grads = std::vector<float>(arena_size);
  std::vector<float> x = std::vector<float>((L + 1) * B * C), hidden = std::vector<float>(L * B * F);
  std::vector<float> dx = std::vector<float>(B * C), dhidden = std::vector<float>(B * F);

  explicit Net(unsigned seed) {
    lowrank::fill_normal(params.data(), arena_size, seed, 0, 0);
    for (float& w : params) w *= 0.05f;
  }
  void forward(const float* input) {
    const Tensors w = point_into(params.data());
    std::copy(input, input + B * C, x.begin());
    for (int l = 0; l < L; ++l) {
      float* h = &hidden[std::size_t(l * B * F)];
      for (int i = 0; i < B * F; ++i) h[i] = w.bias[l * F + i % F];
      matmul(h, &x[std::size_t(l * B * C)], w.fc + l * F * C, C, F);
      for (int i = 0; i < B * F; ++i) h[i] = h[i] > 0 ? h[i] : 0;
      std::copy_n(&x[std::size_t(l * B * C)], B * C, &x[std::size_t((l + 1) * B * C)]);
      matmul(&x[std::size_t((l + 1) * B * C)], h, w.proj + l * C * F, F, C);
    }
  }
  /// Mean squared error against `target`; its gradient into grads.
  float backward(const float* target) {
    const Tensors w = point_into(params.data()), d = point_into(grads.data());
    std::fill(grads.begin(), grads.end(), 0.0f);
    float loss = 0;
    for (int i = 0; i < B * C; ++i) {
      const float error = x[std::size_t(L * B * C + i)] - target[i];
      loss += error * error / (B * C);
      dx[std::size_t(i)] = 2 * error / (B * C);
    }
    for (int l = L - 1; l >= 0; --l) {
      const float* h = &hidden[std::size_t(l * B * F)];
      std::fill(dhidden.begin(), dhidden.end(), 0.0f);
      matmul_backward(dhidden.data(), d.proj + l * C * F, dx.data(), h, w.proj + l * C * F, F, C);
      for (int i = 0; i < B * F; ++i) {
        if (h[i] <= 0) dhidden[std::size_t(i)] = 0;
        d.bias[l * F + i % F] += dhidden[std::size_t(i)];
      }
      matmul_backward(dx.data(), d.fc + l * F * C, dhidden.data(), &x[std::size_t(l * B * C)], w.fc + l * F * C, C, F);
    }
    return loss;
  }
};

// The optimizer the trainer had: one pass over the arena, two moments of its size.
struct ArenaAdamW {
  std::vector<float> m = std::vector<float>(arena_size), v = std::vector<float>(arena_size);
  int t = 0;
  void update(Net& net, float lr) {
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
std::vector<lowrank::Parameter<float>> parameters(Net& net) {
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
  Net teacher(1), with_adamw(2), with_galore(2);
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
