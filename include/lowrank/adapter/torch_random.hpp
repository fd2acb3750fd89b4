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

  /// T(a + (b - a) u), u with as many bits as T has digits: 24, 11 or 8. a and b are rounded to T first, the sum once.
  template <class T>
  T uniform(double a, double b) {
    constexpr int digits = std::is_same_v<T, float> ? 24 : std::is_same_v<T, Eigen::half> ? 11 : 8;
    const float u = float(engine_() & ((1u << digits) - 1)) * (1.0f / float(1u << digits));
    const float from = float(T(float(a))), to = float(T(float(b)));
    return T(std::fma(u, to - from, from));
  }

 private:
  std::mt19937 engine_;
};

}  // namespace detail
}  // namespace lowrank
