// Blocks of weights: read into the computing scalar, written back with the rounding that was asked for.
#pragma once

#include <cmath>  // std::floor, std::ldexp, std::ilogb

#include <lowrank/core/rng.hpp>
#include <lowrank/linalg/operand.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

/// How to round, and the counter that stochastic rounding is keyed by: (seed, step, element of the user's matrix).
struct RoundingKey {
  bool stochastic = false;
  std::uint64_t seed = 0, step = 0;
  Index row_weight = 1, col_weight = 0;  // element (i, j) of the canonical matrix has number i row_weight + j col_weight
};

namespace detail {

/// x rounded to a neighbour in T, up with probability proportional to the distance: floor(x / ulp + u) ulp.
template <class T>
T round_stochastically(float x, float u) {
  constexpr bool brain = std::is_same_v<T, Eigen::bfloat16>;
  constexpr int mantissa = brain ? 7 : 10, smallest = brain ? -126 : -14;
  if (x == 0 || !lowrank::detail::is_finite(double(x))) return T(x);
  const int exponent = std::max(std::ilogb(x), smallest);
  const double ulp = std::ldexp(1.0, exponent - mantissa);
  return T(float(std::floor(double(x) / ulp + double(u)) * ulp));
}

/// The upper half of x, rounded to nearest, ties to even; a quiet NaN for NaN. Without a branch, for whole registers.
LOWRANK_INLINE std::uint16_t nearest_bfloat16(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16, nan = (bits >> 16 & 0x8000u) | 0x7fc0u;
  return std::uint16_t((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

}  // namespace detail

/// S block <- W(i0.., j0..); column-major, leading dimension ld.
template <class K, class S, class Void>
void load_block(const Memory<Void>& w, Index i0, Index m, Index j0, Index n, S* block, Index ld) {
  with_scalar(w.dtype, [&]<class T>(T*) {
    detail::load_block<S, K, T>(w.template at<T>(i0, j0), w.row_stride, w.col_stride, m, n, block, ld);
  });
}

/// W(i0.., j0..) <- S block.
template <class K, class S>
void store_block(const S* block, Index ld, const Memory<void>& w, Index i0, Index m, Index j0, Index n,
                 const RoundingKey& key) {
  with_scalar(w.dtype, [&]<class T>(T*) {
    T* out = w.template at<T>(i0, j0);
    if constexpr (std::is_same_v<S, T>) {
      if (w.row_stride == 1)
        for (Index j = 0; j < n; ++j) std::memcpy(out + j * w.col_stride, block + j * ld, std::size_t(m) * sizeof(S));
      else
        K::transpose(m, n, block, ld, out, w.row_stride);
    } else {
      if constexpr (std::is_same_v<T, Eigen::bfloat16>)
        if (!key.stochastic) {
          constexpr Index high = K::template lanes<S>, wide = 64;
          S strip[high * wide];
          if (w.row_stride == 1)
            for (Index j = 0; j < n; ++j)
              for (Index i = 0; i < m; ++i) out[i + j * w.col_stride].value = detail::nearest_bfloat16(float(block[i + j * ld]));
          else
            for (Index p0 = 0; p0 < m; p0 += high)
              for (Index q0 = 0; q0 < n; q0 += wide) {
                const Index rows = std::min(high, m - p0), cols = std::min(wide, n - q0);
                K::transpose(rows, cols, block + p0 + q0 * ld, ld, strip, wide);
                for (Index i = 0; i < rows; ++i)
                  for (Index j = 0; j < cols; ++j)
                    out[(p0 + i) * w.row_stride + q0 + j].value = detail::nearest_bfloat16(float(strip[j + i * wide]));
              }
          return;
        }
      constexpr bool narrow = sizeof(T) == 2;
      for (Index j = 0; j < n; ++j)
        for (Index i = 0; i < m; ++i) {
          const float x = float(block[i + j * ld]);
          T& to = out[i * w.row_stride + j * w.col_stride];
          to = T(x);
          if constexpr (narrow) {
            if (!key.stochastic) continue;
            const Index element = (i0 + i) * key.row_weight + (j0 + j) * key.col_weight;
            const float u = lowrank::detail::unit(uniform_bits(key.seed, key.step, std::uint64_t(element)));
            to = detail::round_stochastically<T>(x, u);
          }
        }
    }
  });
}

}  // namespace linalg
}  // namespace lowrank
