// sigmoid(x) = 1 / (1 + e^-x) and SiLU in registers of the kernel set, without the C library, so that the bits are this
// library's. e^y = 2^n e^r with n the nearest integer to y / ln 2 and |r| <= ln(2) / 2, where the series ends after 8 terms in
// float and 14 in double. Relative error below 3 units in the last place for |x| <= 87 (708 in double); beyond, the values at
// those ends.
#pragma once

#include <bit>      // std::bit_cast
#include <cstdint>  // std::int32_t, std::int64_t

#include <lowrank/linalg/vectors.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

template <class S, int Bytes>
LOWRANK_INLINE kernel::Vec<S, Bytes> sigmoid(kernel::Vec<S, Bytes> x) {
  using V = kernel::Vec<S, Bytes>;
  constexpr bool single = sizeof(S) == 4;
  using Bits = std::conditional_t<single, std::int32_t, std::int64_t>;
  typedef Bits BitVector __attribute__((vector_size(Bytes)));
  constexpr int terms = single ? 8 : 14, mantissa = single ? 23 : 52;
  const V limit = V::all(S(single ? 87 : 708)), least = V::all(S(single ? -87 : -708)), one = V::all(S(1));
  V y{-x.v};
  y.v = y.v > limit.v ? limit.v : y.v;
  y.v = y.v < least.v ? least.v : y.v;
  // adding 1.5 * 2^mantissa leaves n in the last bits
  const V magic = V::all(S(single ? 0x1.8p23 : 0x1.8p52));
  const V shifted = kernel::fma(y, V::all(S(1.4426950408889634074)), magic), n = shifted - magic;
  // ln 2 in two parts, the first with zeros at its end, so that its multiples are exact
  V r = kernel::fma(n, V::all(S(single ? -0x1.62e4p-1 : -0x1.62e42fee00000p-1)), y);
  r = kernel::fma(n, V::all(S(single ? -0x1.7f7d1cf8p-20 : -0x1.a39ef35793c76p-33)), r);
  double inverse_factorial = 1;
  for (int i = 2; i < terms; ++i) inverse_factorial /= i;
  V p = V::all(S(inverse_factorial));
  for (int i = terms - 1; i > 0; --i) {
    inverse_factorial *= i;
    p = kernel::fma(p, r, V::all(S(inverse_factorial)));
  }
  const BitVector power = (std::bit_cast<BitVector>(shifted.v) << mantissa) + std::bit_cast<BitVector>(one.v);
  return one / kernel::fma(p, V{std::bit_cast<decltype(p.v)>(power)}, one);
}

/// out = x sigmoid(x)
template <class K, class S>
void silu(Index n, const S* x, S* out) {
  using V = detail::Register<K, S>;
  detail::each_register<K, S>(n, [&](Index i, auto m) LOWRANK_LAMBDA_INLINE {
    const V a = detail::load<V>(x + i, m);
    detail::store(out + i, a * sigmoid(a), m);
  });
}

/// d <- d s (1 + x (1 - s)), s = sigmoid(x): through SiLU, backwards.
template <class K, class S>
void silu_backward(Index n, const S* x, S* d) {
  using V = detail::Register<K, S>;
  const V one = V::all(S(1));
  detail::each_register<K, S>(n, [&](Index i, auto m) LOWRANK_LAMBDA_INLINE {
    const V a = detail::load<V>(x + i, m), s = sigmoid(a);
    detail::store(d + i, detail::load<V>(d + i, m) * s * kernel::fma(a, one - s, one), m);
  });
}

}  // namespace linalg
}  // namespace lowrank
