// Vec: one SIMD register of scalars, 16, 32 or 64 bytes wide, from the compiler's vector extension. The lines that name an
// instruction set, here and in convert.hpp, say the same again without one, so the same source runs on any machine.
//
// Every multiply that feeds an add goes through fma(), and no expression leaves the compiler a choice of which product
// to fuse: the bits do not depend on how a loop was unrolled, only on the width.
#pragma once

#include <cmath>        // std::sqrt
#include <cstdint>      // std::uint32_t, std::uint64_t
#include <cstring>      // std::memcpy
#include <type_traits>  // std::is_same_v
#include <utility>      // std::index_sequence

#include <lowrank/core/error.hpp>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace lowrank::inline LOWRANK_ABI {
namespace kernel {

template <class S, int Bytes>
struct Vec {
  static constexpr Index lanes = Bytes / Index(sizeof(S));
  typedef S Raw __attribute__((vector_size(Bytes)));
  Raw v;

  static LOWRANK_INLINE Vec zero() { return {Raw{}}; }
  // x - 0 is x for every x, -0 included, so this is a broadcast and nothing else
  static LOWRANK_INLINE Vec all(S x) { return {x - Raw{}}; }
  static LOWRANK_INLINE Vec load(const S* p) {
    Vec r;
    std::memcpy(&r.v, p, sizeof(Raw));
    return r;
  }
  /// The first n values, the other lanes 0.
  static LOWRANK_INLINE Vec load(const S* p, Index n) {
    Vec r{Raw{}};
    std::memcpy(&r.v, p, std::size_t(n) * sizeof(S));
    return r;
  }
  using Word = std::conditional_t<sizeof(S) == 4, std::uint32_t, std::uint64_t>;
  typedef Word Bits __attribute__((vector_size(Bytes)));
  LOWRANK_INLINE Bits bits() const { return (Bits)v; }
  static LOWRANK_INLINE Vec from_bits(Bits b) { return {(Raw)b}; }
  static LOWRANK_INLINE Bits sign_bits() { return Bits{} + (Word(1) << (8 * sizeof(S) - 1)); }
  LOWRANK_INLINE void store(S* p) const { std::memcpy(p, &v, sizeof(Raw)); }
  LOWRANK_INLINE void store(S* p, Index n) const { std::memcpy(p, &v, std::size_t(n) * sizeof(S)); }

  /// To a p of Bytes' alignment, past the caches where the machine can; end_streams() before another thread reads it.
  LOWRANK_INLINE void stream(S* p) const {
#if defined(__AVX512F__)
    if constexpr (Bytes == 64) return _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v);
#endif
#if defined(__AVX__)
    if constexpr (Bytes == 32) return _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
#endif
#if defined(__SSE2__)
    if constexpr (Bytes == 16) return _mm_stream_si128(reinterpret_cast<__m128i*>(p), (__m128i)v);
#endif
    store(p);
  }

  friend LOWRANK_INLINE Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
  friend LOWRANK_INLINE Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
  friend LOWRANK_INLINE Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
  friend LOWRANK_INLINE Vec operator/(Vec a, Vec b) { return {a.v / b.v}; }
};

inline void end_streams() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

/// n numbers of type T side by side.
template <class T, Index n>
struct Pack {
  typedef T Raw __attribute__((vector_size(n * Index(sizeof(T)))));
};

/// a * b + c, rounded once where the machine can.
template <class S, int Bytes>
LOWRANK_INLINE Vec<S, Bytes> fma(Vec<S, Bytes> a, Vec<S, Bytes> b, Vec<S, Bytes> c) {
#if defined(__AVX512F__)
  if constexpr (Bytes == 64 && std::is_same_v<S, float>)
    return {(typename Vec<S, Bytes>::Raw)_mm512_fmadd_ps((__m512)a.v, (__m512)b.v, (__m512)c.v)};
  if constexpr (Bytes == 64 && std::is_same_v<S, double>)
    return {(typename Vec<S, Bytes>::Raw)_mm512_fmadd_pd((__m512d)a.v, (__m512d)b.v, (__m512d)c.v)};
#endif
#if defined(__FMA__)
  if constexpr (Bytes == 32 && std::is_same_v<S, float>)
    return {(typename Vec<S, Bytes>::Raw)_mm256_fmadd_ps((__m256)a.v, (__m256)b.v, (__m256)c.v)};
  if constexpr (Bytes == 32 && std::is_same_v<S, double>)
    return {(typename Vec<S, Bytes>::Raw)_mm256_fmadd_pd((__m256d)a.v, (__m256d)b.v, (__m256d)c.v)};
  if constexpr (Bytes == 16 && std::is_same_v<S, float>)
    return {(typename Vec<S, Bytes>::Raw)_mm_fmadd_ps((__m128)a.v, (__m128)b.v, (__m128)c.v)};
  if constexpr (Bytes == 16 && std::is_same_v<S, double>)
    return {(typename Vec<S, Bytes>::Raw)_mm_fmadd_pd((__m128d)a.v, (__m128d)b.v, (__m128d)c.v)};
#endif
  return {a.v * b.v + c.v};
}

template <class S, int Bytes>
LOWRANK_INLINE Vec<S, Bytes> sqrt(Vec<S, Bytes> a) {
#if defined(__AVX512F__)
  if constexpr (Bytes == 64 && std::is_same_v<S, float>)
    return {(typename Vec<S, Bytes>::Raw)_mm512_maskz_sqrt_ps(__mmask16(-1), (__m512)a.v)};
  if constexpr (Bytes == 64 && std::is_same_v<S, double>)
    return {(typename Vec<S, Bytes>::Raw)_mm512_maskz_sqrt_pd(__mmask8(-1), (__m512d)a.v)};
#endif
#if defined(__AVX__)
  if constexpr (Bytes == 32 && std::is_same_v<S, float>)
    return {(typename Vec<S, Bytes>::Raw)_mm256_sqrt_ps((__m256)a.v)};
  if constexpr (Bytes == 32 && std::is_same_v<S, double>)
    return {(typename Vec<S, Bytes>::Raw)_mm256_sqrt_pd((__m256d)a.v)};
#endif
#if defined(__SSE2__)
  if constexpr (Bytes == 16 && std::is_same_v<S, float>)
    return {(typename Vec<S, Bytes>::Raw)_mm_sqrt_ps((__m128)a.v)};
  if constexpr (Bytes == 16 && std::is_same_v<S, double>)
    return {(typename Vec<S, Bytes>::Raw)_mm_sqrt_pd((__m128d)a.v)};
#endif
  Vec<S, Bytes> r;
  for (Index i = 0; i < Vec<S, Bytes>::lanes; ++i) r.v[i] = std::sqrt(a.v[i]);
  return r;
}

/// Per 64-bit lane the product of the lower 32 bits of a and b.
template <class U>
LOWRANK_INLINE U multiply_low_halves(U a, U b) {
#if defined(__AVX512F__)
  if constexpr (sizeof(U) == 64) return (U)_mm512_maskz_mul_epu32(__mmask8(-1), (__m512i)a, (__m512i)b);
#endif
#if defined(__AVX2__)
  if constexpr (sizeof(U) == 32) return (U)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#endif
#if defined(__SSE2__)
  if constexpr (sizeof(U) == 16) return (U)_mm_mul_epu32((__m128i)a, (__m128i)b);
#endif
  return (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu);
}

/// a ^ b ^ key
template <class U>
LOWRANK_INLINE U exclusive_or(U a, U b, std::uint64_t key) {
#if defined(__AVX512F__)
  if constexpr (sizeof(U) == 64) return (U)_mm512_ternarylogic_epi64((__m512i)a, (__m512i)b, _mm512_set1_epi64((long long)key), 0x96);
#endif
  return a ^ b ^ key;
}

/// The smaller and the larger number of each lane, b where they are equal. Written as a choice, g++ 12 often compares and blends.
template <class S, int Bytes>
LOWRANK_INLINE Vec<S, Bytes> min(Vec<S, Bytes> a, Vec<S, Bytes> b) {
#if defined(__AVX512F__)
  if constexpr (Bytes == 64 && std::is_same_v<S, float>)
    return {(typename Vec<S, Bytes>::Raw)_mm512_maskz_min_ps(__mmask16(-1), (__m512)a.v, (__m512)b.v)};
#endif
#if defined(__AVX__)
  if constexpr (Bytes == 32 && std::is_same_v<S, float>) return {(typename Vec<S, Bytes>::Raw)_mm256_min_ps((__m256)a.v, (__m256)b.v)};
#endif
  return {a.v < b.v ? a.v : b.v};
}
template <class S, int Bytes>
LOWRANK_INLINE Vec<S, Bytes> max(Vec<S, Bytes> a, Vec<S, Bytes> b) {
#if defined(__AVX512F__)
  if constexpr (Bytes == 64 && std::is_same_v<S, float>)
    return {(typename Vec<S, Bytes>::Raw)_mm512_maskz_max_ps(__mmask16(-1), (__m512)a.v, (__m512)b.v)};
#endif
#if defined(__AVX__)
  if constexpr (Bytes == 32 && std::is_same_v<S, float>) return {(typename Vec<S, Bytes>::Raw)_mm256_max_ps((__m256)a.v, (__m256)b.v)};
#endif
  return {a.v > b.v ? a.v : b.v};
}

/// The fourth root of a >= 0, to within 6e-4 of itself: a guess to start from, which no result may depend on.
template <class S, int Bytes>
LOWRANK_INLINE Vec<S, Bytes> near_fourth_root(Vec<S, Bytes> a) {
#if defined(__AVX512F__)
  if constexpr (Bytes == 64 && std::is_same_v<S, float>)
    return {(typename Vec<S, Bytes>::Raw)_mm512_maskz_rsqrt14_ps(__mmask16(-1), _mm512_maskz_rsqrt14_ps(__mmask16(-1), (__m512)a.v))};
#endif
#if defined(__AVX__)
  if constexpr (Bytes == 32 && std::is_same_v<S, float>) return {(typename Vec<S, Bytes>::Raw)_mm256_rsqrt_ps(_mm256_rsqrt_ps((__m256)a.v))};
#endif
#if defined(__SSE2__)
  if constexpr (Bytes == 16 && std::is_same_v<S, float>) return {(typename Vec<S, Bytes>::Raw)_mm_rsqrt_ps(_mm_rsqrt_ps((__m128)a.v))};
#endif
  return sqrt(sqrt(a));
}

/// |a|, and a >= 0 with the sign of b: bit by bit.
template <class S, int Bytes>
LOWRANK_INLINE Vec<S, Bytes> abs(Vec<S, Bytes> a) {
  return Vec<S, Bytes>::from_bits(a.bits() & ~Vec<S, Bytes>::sign_bits());
}
template <class S, int Bytes>
LOWRANK_INLINE Vec<S, Bytes> with_sign_of(Vec<S, Bytes> a, Vec<S, Bytes> b) {
  return Vec<S, Bytes>::from_bits(a.bits() | (b.bits() & Vec<S, Bytes>::sign_bits()));
}

/// -1, 0 or +1 per lane.
template <class S, int Bytes>
LOWRANK_INLINE Vec<S, Bytes> sign(Vec<S, Bytes> a) {
  const auto zero = Vec<S, Bytes>::zero().v, one = Vec<S, Bytes>::all(S(1)).v;
  return {a.v > zero ? one : (a.v < zero ? -one : zero)};
}

namespace detail {
/// The lower half of the lanes, or the upper one, in double.
template <std::size_t from, class Raw, std::size_t... I>
LOWRANK_INLINE auto half_of(Raw v, std::index_sequence<I...>) {
  using Doubles = typename Pack<double, Index(sizeof...(I))>::Raw;
  return __builtin_convertvector(__builtin_shufflevector(v, v, (from + I)...), Doubles);
}
}  // namespace detail

/// All lanes added in double, the upper half to the lower one until one is left.
template <Index lanes, class Raw>
LOWRANK_INLINE double sum_lanes(Raw v) {
  if constexpr (lanes == 2) {
    return double(v[0]) + double(v[1]);
  } else {
    constexpr std::make_index_sequence<std::size_t(lanes / 2)> half;
    return sum_lanes<lanes / 2>(detail::half_of<0>(v, half) + detail::half_of<std::size_t(lanes / 2)>(v, half));
  }
}
template <class S, int Bytes>
LOWRANK_INLINE double sum_lanes(Vec<S, Bytes> a) {
  return sum_lanes<Vec<S, Bytes>::lanes>(a.v);
}

namespace detail {
template <class S, int Bytes, std::size_t... I>
LOWRANK_INLINE void interleave(const Vec<S, Bytes>& a, const Vec<S, Bytes>& b, Vec<S, Bytes>& low, Vec<S, Bytes>& high,
                               std::index_sequence<I...>) {
  constexpr std::size_t n = sizeof...(I);  // lanes; low = a0 b0 a1 b1 ..., high continues at a[n/2]
  low.v = __builtin_shufflevector(a.v, b.v, (I / 2 + (I % 2) * n)...);
  high.v = __builtin_shufflevector(a.v, b.v, (n / 2 + I / 2 + (I % 2) * n)...);
}
}  // namespace detail

/// Transposes the lanes x lanes block x[0..lanes): log2(lanes) rounds of perfect shuffles.
template <class S, int Bytes>
LOWRANK_INLINE void transpose(Vec<S, Bytes>* x) {
  constexpr Index n = Vec<S, Bytes>::lanes;
  Vec<S, Bytes> y[n];
  for (Index round = 1; round < n; round *= 2) {
    for (Index i = 0; i < n / 2; ++i)
      detail::interleave(x[i], x[i + n / 2], y[2 * i], y[2 * i + 1], std::make_index_sequence<std::size_t(n)>{});
    for (Index i = 0; i < n; ++i) x[i] = y[i];
  }
}

}  // namespace kernel
}  // namespace lowrank
