// Avx512Bf16: Avx512, and bf16 numbers multiplied two by two by one instruction (AVX-512 BF16: Cooper Lake, Sapphire Rapids,
// Zen 4 and later). On Zen 4 that is twice the rate of floats; on Emerald Rapids half of it, and Avx512, which widens the numbers, makes
// the same bits in 0.9 of the time (bench/bf16.cpp): there it is the set to name. Everything that is not a product of bf16 numbers is Avx512's, to the bit. Empty where the compiler may not use them.
#pragma once

#include <lowrank/kernel/codes.hpp>
#include <lowrank/kernel/operations.hpp>

#if defined(LOWRANK_BF16)
namespace lowrank::inline LOWRANK_ABI {
namespace kernel {

/// vdpbf16ps: numbers and sums below 2^-126 are zero, whatever the rounding mode and flags of the thread.
struct DotInstruction {
  static LOWRANK_INLINE Vec<float, 64> dot(Vec<Bf16Pair, 64> a, Vec<Bf16Pair, 64> b, Vec<float, 64> c) {
    return {(Vec<float, 64>::Raw)_mm512_dpbf16_ps((__m512)c.v, (__m512bh)a.v, (__m512bh)b.v)};
  }
};

struct Avx512Bf16 : Operations<64, DotInstruction>, Codes<64> {
  static constexpr const char* name = "avx512_bf16";
};

}  // namespace kernel
}  // namespace lowrank
#endif
