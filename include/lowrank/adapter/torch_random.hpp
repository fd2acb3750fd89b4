// The random numbers of torch on a CPU, bit for bit, for bases that a PEFT file names by their seed only (RandLoRA with
// save_projection = false, VeRA). Only what these need: uniform numbers in float, bf16 and half. Everything else here
// draws from the counter generator of core/rng.hpp.
#pragma once

#include <cmath>   // std::fma
#include <random>  // std::mt19937

#include <Eigen/Core>
#include <lowrank/core/error.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

class TorchRandom {
 public:
  explicit TorchRandom(std::uint64_t seed) : engine_(std::uint32_t(seed)) {}

  /// T(a + (b - a) u), computed in float, u of 24 random bits.
  template <class T>
  T uniform(double a, double b) {
    return T(stretch(24, float(a), float(b)));
  }
  /// As torch 1.13 did it for 16-bit types: u of as many bits as T has digits, 8 or 11, a and b rounded to T first.
  template <class T>
  T old_uniform(double a, double b) {
    constexpr int digits = std::is_same_v<T, Eigen::half> ? 11 : 8;
    return T(stretch(digits, float(T(float(a))), float(T(float(b)))));
  }

 private:
  float stretch(int bits, float from, float to) {
    const float u = float(engine_() & ((1u << bits) - 1)) * (1.0f / float(1u << bits));
    return std::fma(u, to - from, from);
  }
  std::mt19937 engine_;
};

}  // namespace detail
}  // namespace lowrank
