// The counter-based random numbers of lowrank/core/rng.hpp on a device: element i of stream c under a seed is a pure function of
// (seed, c, i), the same number on both machines (normals: to the last bits of a device's sqrt and rounding, which are IEEE's).
// Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC 2011); Box-Muller with series of our own for logarithm, sine and cosine.
#pragma once

#include <lowrank/cuda/device.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

struct RandomBlock {
  std::uint32_t word[4];
};

/// Words 4 block .. 4 block + 3 of a stream.
LOWRANK_HOST_DEVICE inline RandomBlock random_block(std::uint64_t seed, std::uint64_t stream, std::uint64_t block) {
  std::uint32_t c[4] = {std::uint32_t(block), std::uint32_t(block >> 32), std::uint32_t(stream), std::uint32_t(stream >> 32)};
  std::uint32_t key[2] = {std::uint32_t(seed), std::uint32_t(seed >> 32)};
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t(0xD2511F53) * c[0], b = std::uint64_t(0xCD9E8D57) * c[2];
    c[0] = std::uint32_t(b >> 32) ^ c[1] ^ key[0];
    c[1] = std::uint32_t(b);
    c[2] = std::uint32_t(a >> 32) ^ c[3] ^ key[1];
    c[3] = std::uint32_t(a);
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return {{c[0], c[1], c[2], c[3]}};
}

/// A uniform number in [0, 1) of 24 bits, from 32.
LOWRANK_HOST_DEVICE inline float unit(std::uint32_t word) { return float(word >> 8) * 0x1p-24f; }
/// The same, element `index` of a stream.
LOWRANK_HOST_DEVICE inline float uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return unit(random_block(seed, stream, index / 4).word[index % 4]);
}

/// Half `index` (16 bits) of a stream, the lower one of each word first.
LOWRANK_HOST_DEVICE inline std::uint32_t random_half(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return random_block(seed, stream, index / 8).word[index / 2 % 4] >> 16 * (index % 2) & 0xFFFFu;
}

/// Two independent N(0, 1).
struct NormalPair {
  double even, odd;
};
LOWRANK_HOST_DEVICE inline NormalPair normal_pair(std::uint32_t radius, std::uint32_t angle) {
  // ln((radius + 1/2) / 2^32). With x = 2^e m, m in [sqrt(1/2), sqrt(2)):  ln m = 2 artanh((m - 1) / (m + 1))
  const auto bits = bit_cast<std::uint64_t>((double(radius) + 0.5) * 0x1p-32);
  const std::uint64_t from_half = bits - 0x3FE6A09E667F3BCDu;  // sqrt(1/2)
  const auto exponent = std::int32_t(std::int64_t(from_half) >> 52);
  const double m = bit_cast<double>(bits - (from_half & 0xFFF0000000000000u));
  const double p = (m - 1) / (m + 1), pp = p * p;
  const double sum = 1 + pp * (1.0 / 3 + pp * (1.0 / 5 + pp * (1.0 / 7 + pp * (1.0 / 9 + pp * (1.0 / 11 + pp * (1.0 / 13 +
                     pp * (1.0 / 15 + pp * (1.0 / 17))))))));
  const double length = std::sqrt(-2 * (double(exponent) * 0.69314718055994530942 + 2 * p * sum));
  // cos and sin of 2 pi angle / 2^32: the nearest quarter turn is taken off exactly, then Taylor, |x| <= pi / 4
  const std::uint32_t quarter = (angle + (1u << 29)) >> 30;
  const double x = double(std::int32_t(angle - (quarter << 30))) * (6.28318530717958647693 * 0x1p-32), q = x * x;
  const double s = x * (1 - q * (1.0 / 6) * (1 - q * (1.0 / 20) * (1 - q * (1.0 / 42) * (1 - q * (1.0 / 72) *
                   (1 - q * (1.0 / 110) * (1 - q * (1.0 / 156) * (1 - q * (1.0 / 210))))))));
  const double c = 1 - q * (1.0 / 2) * (1 - q * (1.0 / 12) * (1 - q * (1.0 / 30) * (1 - q * (1.0 / 56) *
                   (1 - q * (1.0 / 90) * (1 - q * (1.0 / 132) * (1 - q * (1.0 / 182)))))));
  const double along = quarter & 1 ? s : c, across = quarter & 1 ? c : s;
  return {length * ((quarter + 1) & 2 ? -along : along), length * (quarter & 2 ? -across : across)};
}

/// out[i] = factor * (element i of a stream of N(0, 1)), i < n; the stream is `stream`, plus *offset where there is one.
template <class S>
struct FillNormal {
  S* out;
  Index n;
  std::uint64_t seed, stream;
  double factor = 1;
  const std::uint64_t* offset = nullptr;

  LOWRANK_HOST_DEVICE Index size() const { return ceil_div(n, 4); }
  LOWRANK_DEVICE void operator()(Index b) const {
    const RandomBlock r = random_block(seed, stream + (offset == nullptr ? 0 : *offset), std::uint64_t(b));
    const NormalPair low = normal_pair(r.word[0], r.word[1]), high = normal_pair(r.word[2], r.word[3]);
    const double x[4] = {low.even, low.odd, high.even, high.odd};
    for (Index q = 0; q < least<Index>(4, n - 4 * b); ++q) out[4 * b + q] = S(factor) * S(x[q]);
  }
};

}  // namespace cuda
}  // namespace lowrank
