// Random numbers without state: value number `counter` of stream (seed, stream) is a hash of the three. A run that
// stops and goes on needs to remember nothing, and no draw depends on how many were made before it.
#pragma once

#include <cmath>    // std::log, std::sqrt, std::cos
#include <cstdint>  // std::uint64_t
#include <numbers>  // std::numbers::pi

namespace pretrain {

class Random {
 public:
  Random(std::uint64_t seed, std::uint64_t stream) : key_(mix(mix(seed) + stream)) {}

  std::uint64_t bits(std::uint64_t counter) const { return mix(key_ + mix(counter)); }
  /// Uniform on (0, 1), 53 bits, never 0.
  double uniform(std::uint64_t counter) const { return (double(bits(counter) >> 11) + 0.5) * 0x1p-53; }
  /// Standard normal (Box and Muller).
  double normal(std::uint64_t counter) const {
    const double radius = std::sqrt(-2 * std::log(uniform(2 * counter)));
    return radius * std::cos(2 * std::numbers::pi * uniform(2 * counter + 1));
  }
  /// Uniform on {0 ... n-1}; n far below 2^64, so that the bias of the remainder does not matter.
  std::uint64_t below(std::uint64_t n, std::uint64_t counter) const { return bits(counter) % n; }

 private:
  // a bijection of 64 bits in which every input bit reaches every output bit: odd multiplications spread upwards,
  // shifts bring the high bits down again
  static std::uint64_t mix(std::uint64_t x) {
    x += 0x9e3779b97f4a7c15u;  // 2^64 / golden ratio: consecutive counters start far apart
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }
  std::uint64_t key_;
};

}  // namespace pretrain
