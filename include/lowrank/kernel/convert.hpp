// Numbers of one kind in registers of another. Masks of all lanes (maskz) stand where g++ 12 warns of the plain form's own header.
#pragma once

#include <lowrank/kernel/vector.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace kernel {

/// The nearest whole numbers, ties to even, |a| < 2^31.
template <class S, int Bytes>
LOWRANK_INLINE typename Pack<std::int32_t, Vec<S, Bytes>::lanes>::Raw nearest_int(Vec<S, Bytes> a) {
  using Out = typename Pack<std::int32_t, Vec<S, Bytes>::lanes>::Raw;
#if defined(__AVX512F__)
  if constexpr (Bytes == 64 && std::is_same_v<S, float>) return (Out)_mm512_maskz_cvtps_epi32(__mmask16(-1), (__m512)a.v);
  if constexpr (Bytes == 64 && std::is_same_v<S, double>) return (Out)_mm512_maskz_cvtpd_epi32(__mmask8(-1), (__m512d)a.v);
#endif
#if defined(__AVX__)
  if constexpr (Bytes == 32 && std::is_same_v<S, float>) return (Out)_mm256_cvtps_epi32((__m256)a.v);
  if constexpr (Bytes == 32 && std::is_same_v<S, double>) return (Out)_mm256_cvtpd_epi32((__m256d)a.v);
#endif
#if defined(__SSE2__)
  if constexpr (Bytes == 16 && std::is_same_v<S, float>) return (Out)_mm_cvtps_epi32((__m128)a.v);
#endif
  Out r;
  for (Index i = 0; i < Vec<S, Bytes>::lanes; ++i) r[i] = std::int32_t(std::nearbyint(a.v[i]));
  return r;
}
template <class S, int Bytes>
LOWRANK_INLINE Vec<S, Bytes> nearest(Vec<S, Bytes> a) {
  return {__builtin_convertvector(nearest_int(a), typename Vec<S, Bytes>::Raw)};
}

/// Numbers of 8 or 16 bits in 32, which g++ 12 does in steps.
template <class T, Index n>
LOWRANK_INLINE typename Pack<std::int32_t, n>::Raw widen(typename Pack<T, n>::Raw x) {
  using Out = typename Pack<std::int32_t, n>::Raw;
#if defined(__AVX512F__)
  if constexpr (n == 16 && std::is_same_v<T, std::int8_t>) return (Out)_mm512_maskz_cvtepi8_epi32(__mmask16(-1), (__m128i)x);
  if constexpr (n == 16 && std::is_same_v<T, std::uint8_t>) return (Out)_mm512_maskz_cvtepu8_epi32(__mmask16(-1), (__m128i)x);
  if constexpr (n == 16 && std::is_same_v<T, std::uint16_t>) return (Out)_mm512_maskz_cvtepu16_epi32(__mmask16(-1), (__m256i)x);
#endif
#if defined(__AVX2__)
  if constexpr (n == 8 && std::is_same_v<T, std::uint16_t>) return (Out)_mm256_cvtepu16_epi32((__m128i)x);
  if constexpr (n == 8 && sizeof(T) == 1) {
    std::int64_t low;
    std::memcpy(&low, &x, sizeof(low));
    if constexpr (std::is_signed_v<T>) return (Out)_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(low));
    else return (Out)_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(low));
  }
#endif
  using Middle = typename Pack<std::conditional_t<std::is_signed_v<T>, std::int16_t, std::uint16_t>, n>::Raw;
  return __builtin_convertvector(__builtin_convertvector(x, Middle), Out);
}
/// Four registers of n numbers each that fit into a T of 8 bits, one after the other at p.
template <class T, Index n>
LOWRANK_INLINE void store_narrow(const typename Pack<std::int32_t, n>::Raw (&x)[4], T* p) {
  static_assert(sizeof(T) == 1);
  [[maybe_unused]] constexpr bool sign = std::is_signed_v<T>;
#if defined(__AVX512BW__)
  if constexpr (n == 16) {  // packing goes by quarters of a register
    const __m512i a = _mm512_packs_epi32((__m512i)x[0], (__m512i)x[1]), b = _mm512_packs_epi32((__m512i)x[2], (__m512i)x[3]);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_storeu_si512(p, _mm512_maskz_permutexvar_epi32(__mmask16(-1), order, sign ? _mm512_packs_epi16(a, b) : _mm512_packus_epi16(a, b)));
  }
#endif
#if defined(__AVX2__)
  if constexpr (n == 8) {
    const __m256i a = _mm256_packs_epi32((__m256i)x[0], (__m256i)x[1]), b = _mm256_packs_epi32((__m256i)x[2], (__m256i)x[3]);
    const __m256i bytes = sign ? _mm256_packs_epi16(a, b) : _mm256_packus_epi16(a, b);
    return _mm256_storeu_si256(reinterpret_cast<__m256i_u*>(p), _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
  }
#endif
#if defined(__SSE2__)
  if constexpr (n == 4) {
    const __m128i a = _mm_packs_epi32((__m128i)x[0], (__m128i)x[1]), b = _mm_packs_epi32((__m128i)x[2], (__m128i)x[3]);
    return _mm_storeu_si128(reinterpret_cast<__m128i_u*>(p), sign ? _mm_packs_epi16(a, b) : _mm_packus_epi16(a, b));
  }
#endif
  for (Index t = 0; t < 4; ++t)
    for (Index l = 0; l < n; ++l) p[t * n + l] = T(x[t][l]);
}

}  // namespace kernel
}  // namespace lowrank
