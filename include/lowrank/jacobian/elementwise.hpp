// Products and sums of equally long arrays, in registers of the kernel set. n may be any number; outputs may be inputs.
#pragma once

#include <lowrank/linalg/vectors.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace jacobian::detail {

/// out = a o b
template <class K, class S>
void multiply(Index n, const S* a, const S* b, S* out) {
  using V = linalg::detail::Register<K, S>;
  linalg::detail::each_register<K, S>(n, [&](Index i, auto m) LOWRANK_LAMBDA_INLINE {
    linalg::detail::store(out + i, linalg::detail::load<V>(a + i, m) * linalg::detail::load<V>(b + i, m), m);
  });
}

/// out = a o b o c
template <class K, class S>
void multiply(Index n, const S* a, const S* b, const S* c, S* out) {
  using V = linalg::detail::Register<K, S>;
  linalg::detail::each_register<K, S>(n, [&](Index i, auto m) LOWRANK_LAMBDA_INLINE {
    const V ab = linalg::detail::load<V>(a + i, m) * linalg::detail::load<V>(b + i, m);
    linalg::detail::store(out + i, ab * linalg::detail::load<V>(c + i, m), m);
  });
}

/// out += a o b o c
template <class K, class S>
void multiply_add(Index n, const S* a, const S* b, const S* c, S* out) {
  using V = linalg::detail::Register<K, S>;
  linalg::detail::each_register<K, S>(n, [&](Index i, auto m) LOWRANK_LAMBDA_INLINE {
    const V ab = linalg::detail::load<V>(a + i, m) * linalg::detail::load<V>(b + i, m);
    linalg::detail::store(out + i, fma(ab, linalg::detail::load<V>(c + i, m), linalg::detail::load<V>(out + i, m)), m);
  });
}

/// y += a x
template <class K, class S>
void add(Index n, double a, const S* x, S* y) {
  K::combine(n, a, x, 1.0, y, y);
}

}  // namespace jacobian::detail
}  // namespace lowrank
