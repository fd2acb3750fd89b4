// The trainer of examples/arena.cpp and examples/arena.cu, in the style of llm.c: plain C but for one struct. All weights lie in one
// float arena, every kind of tensor stacked over the layers, (L, OC, C) row-major, gradients in a second arena of the same layout.
//
//   residual MLP  x_{l+1} = x_l + proj_l relu(fc_l x_l + bias_l),  mean squared error against a fixed random net
#pragma once

#include <algorithm>  // std::copy, std::fill_n
#include <cstddef>    // std::size_t
#include <vector>

namespace arena {

inline constexpr int L = 4, C = 128, F = 512, B = 32;  // layers, channels, hidden, batch

/// Where each kind of tensor begins in an arena.
struct Tensors {
  float *fc, *bias, *proj;  // (L, F, C), (L, F), (L, C, F)
};
inline constexpr int arena_size = L * (F * C + F + C * F);
inline Tensors point_into(float* arena) { return {arena, arena + L * F * C, arena + L * F * C + L * F}; }

// out (B, OC) += inp (B, C) weight^T (OC, C)
inline void matmul(float* out, const float* inp, const float* weight, int channels, int outputs) {
  for (int b = 0; b < B; ++b)
    for (int o = 0; o < outputs; ++o) {
      float sum = 0;
      for (int c = 0; c < channels; ++c) sum += inp[b * channels + c] * weight[o * channels + c];
      out[b * outputs + o] += sum;
    }
}
// dinp (B, C) += dout (B, OC) weight;  dweight += dout^T inp
inline void matmul_backward(float* dinp, float* dweight, const float* dout, const float* inp, const float* weight, int channels, int outputs) {
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

/// Floats: the memory of the two arenas, std::vector<float> or what is like it.
template <class Floats>
struct Net {
  Floats params = Floats(arena_size), grads = Floats(arena_size);
  std::vector<float> x = std::vector<float>((L + 1) * B * C), hidden = std::vector<float>(L * B * F);
  std::vector<float> dx = std::vector<float>(B * C), dhidden = std::vector<float>(B * F);

  /// normal(out, n, seed): n independent N(0, 1).
  template <class Normal>
  Net(unsigned seed, const Normal& normal) {
    normal(params.data(), arena_size, seed);
    for (int i = 0; i < arena_size; ++i) params.data()[i] *= 0.05f;
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
    std::fill_n(grads.data(), arena_size, 0.0f);
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

}  // namespace arena
