// Counter-based random numbers: element i of stream c under a seed is a pure function of (seed, c, i). There is nothing
// to save but those three numbers, any part of a stream can be drawn alone, and threads need no agreement.
// Generator: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; SC 2011).
// Normals: Box-Muller on pairs of 32-bit words (G. E. P. Box, M. E. Muller 1958), |x| < 6.8. Logarithm, sine and cosine
// are series of our own, in double: libm differs from system to system.
#pragma once

#include <array>    // std::array
#include <bit>      // std::bit_cast
#include <cmath>    // std::sqrt
#include <cstdint>  // std::uint32_t, std::uint64_t

#include <lowrank/core/error.hpp>

namespace lowrank::inline LOWRANK_ABI {

/// Four random words from a 128-bit counter and a 64-bit key.
constexpr std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t(0xD2511F53) * counter[0], b = std::uint64_t(0xCD9E8D57) * counter[2];
    counter = {std::uint32_t(b >> 32) ^ counter[1] ^ key[0], std::uint32_t(b),
               std::uint32_t(a >> 32) ^ counter[3] ^ key[1], std::uint32_t(a)};
    key = {key[0] + 0x9E3779B9, key[1] + 0xBB67AE85};
  }
  return counter;
}

namespace detail {

/// Words 4 block .. 4 block + 3 of a stream.
constexpr std::array<std::uint32_t, 4> random_block(std::uint64_t seed, std::uint64_t stream, std::uint64_t block) {
  return philox({std::uint32_t(block), std::uint32_t(block >> 32), std::uint32_t(stream), std::uint32_t(stream >> 32)},
                {std::uint32_t(seed), std::uint32_t(seed >> 32)});
}

/// ln((word + 1/2) / 2^32). With x = 2^e m, m in [sqrt(1/2), sqrt(2)):  ln m = 2 artanh((m - 1) / (m + 1)).
inline double log_uniform(std::uint32_t word) {
  const auto bits = std::bit_cast<std::uint64_t>((double(word) + 0.5) * 0x1p-32);
  const std::uint64_t from_half = bits - 0x3FE6A09E667F3BCDu;  // sqrt(1/2)
  const auto exponent = std::int32_t(std::int64_t(from_half) >> 52);
  const double m = std::bit_cast<double>(bits - (from_half & 0xFFF0000000000000u));
  const double s = (m - 1) / (m + 1), q = s * s;
  const double sum = 1 + q * (1.0 / 3 + q * (1.0 / 5 + q * (1.0 / 7 + q * (1.0 / 9 + q * (1.0 / 11 + q * (1.0 / 13 +
                     q * (1.0 / 15 + q * (1.0 / 17))))))));
  return double(exponent) * 0.69314718055994530942 + 2 * s * sum;
}

/// cos and sin of 2 pi word / 2^32: the nearest quarter turn is taken off exactly, in integers.
struct CosSin {
  double cos, sin;
};
inline CosSin turn(std::uint32_t word) {
  const std::uint32_t quarter = (word + (1u << 29)) >> 30;
  const double x = double(std::int32_t(word - (quarter << 30))) * (6.28318530717958647693 * 0x1p-32), q = x * x;
  // Taylor, |x| <= pi / 4; each term is the one before times -q / (n (n + 1))
  const double s = x * (1 - q * (1.0 / 6) * (1 - q * (1.0 / 20) * (1 - q * (1.0 / 42) * (1 - q * (1.0 / 72) *
                   (1 - q * (1.0 / 110) * (1 - q * (1.0 / 156) * (1 - q * (1.0 / 210))))))));
  const double c = 1 - q * (1.0 / 2) * (1 - q * (1.0 / 12) * (1 - q * (1.0 / 30) * (1 - q * (1.0 / 56) *
                   (1 - q * (1.0 / 90) * (1 - q * (1.0 / 132) * (1 - q * (1.0 / 182)))))));
  const double along = quarter & 1 ? s : c, across = quarter & 1 ? c : s;
  return {(quarter + 1) & 2 ? -along : along, quarter & 2 ? -across : across};
}

}  // namespace detail

/// 32 uniform bits.
constexpr std::uint32_t uniform_bits(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return detail::random_block(seed, stream, index / 4)[index % 4];
}

namespace detail {
/// A uniform number in [0, 1) of 24 bits, from 32.
constexpr float unit(std::uint32_t word) { return float(word >> 8) * 0x1p-24f; }
}  // namespace detail

/// Elements first, first + 1, .. first + n - 1 of a stream of independent N(0, 1).
template <class S>
void fill_normal(S* out, Index n, std::uint64_t seed, std::uint64_t stream, std::uint64_t first) {
  constexpr std::uint64_t batch = 16;  // blocks; separate loops over arrays so that each becomes vector code
  std::uint32_t radius[2 * batch], angle[2 * batch];
  double length[2 * batch], even[2 * batch], odd[2 * batch];
  const std::uint64_t end = first + std::uint64_t(n);
  for (std::uint64_t block = first / 4; 4 * block < end; block += batch) {
    for (std::uint64_t b = 0; b < batch; ++b) {
      const auto words = detail::random_block(seed, stream, block + b);
      radius[2 * b] = words[0], angle[2 * b] = words[1];
      radius[2 * b + 1] = words[2], angle[2 * b + 1] = words[3];
    }
    for (std::uint64_t p = 0; p < 2 * batch; ++p) {
      const detail::CosSin t = detail::turn(angle[p]);
      even[p] = t.cos;
      odd[p] = t.sin;
      length[p] = -2 * detail::log_uniform(radius[p]);
    }
    for (std::uint64_t p = 0; p < 2 * batch; ++p) length[p] = std::sqrt(length[p]);  // alone, because it may set errno
    for (std::uint64_t p = 0; p < 2 * batch; ++p) {
      const std::uint64_t at = 4 * block + 2 * p;
      if (at >= first && at < end) out[at - first] = S(length[p] * even[p]);
      if (at + 1 >= first && at + 1 < end) out[at + 1 - first] = S(length[p] * odd[p]);
    }
  }
}

}  // namespace lowrank
