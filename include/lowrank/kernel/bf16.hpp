// Products of bf16 numbers with float sums. Operands come in pairs, two numbers that are neighbours along the inner dimension
// of the product, since that is what the instruction vdpbf16ps takes:
//
//   c <- fma(a.first, b.first, fma(a.second, b.second, c)),   each rounded to nearest even
//
// A product of two bf16 numbers is exact in float but for its exponent, so all rounding is that of the additions. The
// instruction takes numbers below 2^-126 for zero, and its sums too; the other kernel sets do not, and agree to the bit otherwise.
#pragma once

#include <cstdint>  // std::uint32_t

#include <lowrank/kernel/vector.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace kernel {

/// Two bf16 numbers, the first in the lower half.
using Bf16Pair = std::uint32_t;

namespace detail {

/// The bits of x rounded to bf16, nearest even, in the upper halves (the lower ones are not cleared); NaN stays NaN.
template <int Bytes>
LOWRANK_INLINE typename Vec<Bf16Pair, Bytes>::Raw rounded_bits(Vec<float, Bytes> x) {
  typename Vec<Bf16Pair, Bytes>::Raw bits;
  std::memcpy(&bits, &x.v, sizeof bits);
  return (bits & 0x7fffffffu) > 0x7f800000u ? bits | 0x00400000u : bits + 0x7fffu + (bits >> 16 & 1u);
}

template <class Order, int Bytes, std::size_t... I>
LOWRANK_INLINE Vec<Bf16Pair, Bytes> paired(Vec<float, Bytes> x, Vec<float, Bytes> y, std::index_sequence<I...>) {
  const auto a = rounded_bits(x), b = rounded_bits(y);
  const auto low = __builtin_shufflevector(a, b, Order::first(I)...), high = __builtin_shufflevector(a, b, Order::second(I)...);
  return {(low >> 16) | (high & 0xffff0000u)};
}

/// Neighbours; numbers of two arrays; numbers of two rows of `cols`, rows following each other.
struct Neighbours {
  static constexpr std::size_t first(std::size_t i) { return 2 * i; }
  static constexpr std::size_t second(std::size_t i) { return 2 * i + 1; }
};
template <std::size_t lanes>
struct OneOfEach {
  static constexpr std::size_t first(std::size_t i) { return i; }
  static constexpr std::size_t second(std::size_t i) { return lanes + i; }
};
template <std::size_t cols>
struct RowByRow {
  static constexpr std::size_t first(std::size_t i) { return i / cols * 2 * cols + i % cols; }
  static constexpr std::size_t second(std::size_t i) { return first(i) + cols; }
};

}  // namespace detail

/// Pairs without an instruction for them: both halves widened, two fused multiply-adds.
struct WidenedPairs {
  template <int Bytes>
  static LOWRANK_INLINE Vec<float, Bytes> dot(Vec<Bf16Pair, Bytes> a, Vec<Bf16Pair, Bytes> b, Vec<float, Bytes> c) {
    return fma(first(a), first(b), fma(second(a), second(b), c));
  }
  /// Lane i pairs numbers Order::first(i) and Order::second(i) of x followed by y, rounded to nearest even; NaN stays NaN.
  template <class Order, int Bytes>
  static LOWRANK_INLINE Vec<Bf16Pair, Bytes> paired(Vec<float, Bytes> x, Vec<float, Bytes> y) {
    return detail::paired<Order>(x, y, std::make_index_sequence<std::size_t(Bytes / 4)>{});
  }

 private:
  // a bf16 number is the upper half of a float
  template <int Bytes>
  static LOWRANK_INLINE Vec<float, Bytes> first(Vec<Bf16Pair, Bytes> x) { return as_floats<Bytes>(x.v << 16); }
  template <int Bytes>
  static LOWRANK_INLINE Vec<float, Bytes> second(Vec<Bf16Pair, Bytes> x) { return as_floats<Bytes>(x.v & 0xffff0000u); }
  template <int Bytes>
  static LOWRANK_INLINE Vec<float, Bytes> as_floats(typename Vec<Bf16Pair, Bytes>::Raw bits) {
    Vec<float, Bytes> x;
    std::memcpy(&x.v, &bits, sizeof bits);
    return x;
  }
};

}  // namespace kernel
}  // namespace lowrank
