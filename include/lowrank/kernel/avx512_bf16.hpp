// Avx512Bf16: Avx512, and bf16 numbers multiplied two by two by one instruction (AVX-512 BF16: Cooper Lake, Sapphire Rapids,
// Zen 4 and later). Everything that is not a product of bf16 numbers is Avx512's, to the bit. Zen 4 gives it twice the rate of floats;
// Emerald Rapids half of it, and there Avx512, which widens the numbers, makes the same bits in 0.9 of the time: name that set. Empty
// where the compiler may not use the instruction.
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
  /// WidenedPairs' but for numbers below 2^-126, which are rounded to zero.
  template <class Order>
  static LOWRANK_INLINE Vec<Bf16Pair, 64> paired(Vec<float, 64> x, Vec<float, 64> y) {
    return shuffled<Order>((Halves)_mm512_cvtne2ps_pbh((__m512)y.v, (__m512)x.v), std::make_index_sequence<32>{});
  }

 private:
  typedef std::uint16_t Halves __attribute__((vector_size(64)));
  template <class Order, std::size_t... I>
  static LOWRANK_INLINE Vec<Bf16Pair, 64> shuffled(Halves x, std::index_sequence<I...>) {
    return {(Vec<Bf16Pair, 64>::Raw)__builtin_shufflevector(x, x, (I % 2 == 0 ? Order::first(I / 2) : Order::second(I / 2))...)};
  }
};

struct Avx512Bf16 : Operations<64, DotInstruction>, Codes<64> {
  static constexpr const char* name = "avx512_bf16";
};

}  // namespace kernel
}  // namespace lowrank
#endif
