// Vectors: the inner loops of factorisations, one pass each over contiguous columns in registers of the kernel set K.
// Sums have a fixed order, so the bits depend on n and the values alone.
#pragma once

#include <algorithm>  // std::min

#include <lowrank/kernel/kernel.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {
namespace detail {

template <class K, class S>
using Register = kernel::Vec<S, int(sizeof(S)) * int(K::template lanes<S>)>;

/// f(i, m) for each register of [0, n); m is its number of lanes in use, a constant for all but the last.
template <class K, class S, class F>
LOWRANK_INLINE void each_register(Index n, const F& f) {
  constexpr Index L = K::template lanes<S>;
  Index i = 0;
  for (; i + L <= n; i += L) f(i, std::integral_constant<Index, L>{});
  if (i < n) f(i, n - i);
}

template <class V, class S, class N>
LOWRANK_INLINE V load(const S* p, N n) {
  if constexpr (std::is_same_v<N, Index>)
    return V::load(p, n);
  else
    return V::load(p);
}
template <class V, class S, class N>
LOWRANK_INLINE void store(S* p, V x, N n) {
  if constexpr (std::is_same_v<N, Index>)
    x.store(p, n);
  else
    x.store(p);
}

/// Lane l of the result is lane l + half of x, as far as there is one.
template <std::size_t half, class V, std::size_t... I>
LOWRANK_INLINE V shifted(V x, std::index_sequence<I...>) {
  return {__builtin_shufflevector(x.v, x.v, ((I + half) % sizeof...(I))...)};
}

/// The lanes of x added in halves.
template <std::size_t half, class V>
LOWRANK_INLINE V fold(V x) {
  if constexpr (half == 0) return x;
  else return fold<half / 2>(x + shifted<half>(x, std::make_index_sequence<std::size_t(V::lanes)>{}));
}
template <class V>
LOWRANK_INLINE double total(V x) {
  return double(fold<std::size_t(V::lanes) / 2>(x).v[0]);
}

}  // namespace detail

/// x . y: four registers over at most 1024 elements at a time, those sums added in double.
template <class K, class S>
double dot(Index n, const S* x, const S* y) {
  using V = detail::Register<K, S>;
  constexpr Index L = V::lanes;
  double sum = 0;
  for (Index begin = 0; begin < n; begin += 1024) {
    const Index end = std::min<Index>(n, begin + 1024);
    V acc[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
    Index i = begin;
    for (; i + 4 * L <= end; i += 4 * L)
      for (Index u = 0; u < 4; ++u) acc[u] = fma(V::load(x + i + u * L), V::load(y + i + u * L), acc[u]);
    detail::each_register<K, S>(end - i, [&](Index k, auto m) LOWRANK_LAMBDA_INLINE {
      acc[0] = fma(detail::load<V>(x + i + k, m), detail::load<V>(y + i + k, m), acc[0]);
    });
    sum += detail::total((acc[0] + acc[1]) + (acc[2] + acc[3]));
  }
  return sum;
}

/// max |x_i|, 0 for n = 0.
template <class K, class S>
S largest(Index n, const S* x) {
  using V = detail::Register<K, S>;
  V most = V::zero();
  detail::each_register<K, S>(n, [&](Index i, auto m) LOWRANK_LAMBDA_INLINE {
    const V a = abs(detail::load<V>(x + i, m));
    most = V{a.v > most.v ? a.v : most.v};
  });
  S result = 0;
  for (Index l = 0; l < V::lanes; ++l) result = std::max(result, S(most.v[l]));
  return result;
}

/// (x, y) <- (c x - s y, s x + c y)
template <class K, class S>
void rotate(Index n, double cosine, double sine, S* x, S* y) {
  using V = detail::Register<K, S>;
  const V c = V::all(S(cosine)), s = V::all(S(sine)), minus = V::all(S(-sine));
  detail::each_register<K, S>(n, [&](Index i, auto m) LOWRANK_LAMBDA_INLINE {
    const V a = detail::load<V>(x + i, m), b = detail::load<V>(y + i, m);
    detail::store(x + i, fma(minus, b, c * a), m);
    detail::store(y + i, fma(s, a, c * b), m);
  });
}

/// a <- a - alpha v - beta w; returns a . x
template <class K, class S>
double subtract_and_dot(Index n, S* a, double alpha, const S* v, double beta, const S* w, const S* x) {
  using V = detail::Register<K, S>;
  const V p = V::all(S(-alpha)), q = V::all(S(-beta));
  V acc[2] = {V::zero(), V::zero()};
  Index turn = 0;
  detail::each_register<K, S>(n, [&](Index i, auto m) LOWRANK_LAMBDA_INLINE {
    const V r = fma(q, detail::load<V>(w + i, m), fma(p, detail::load<V>(v + i, m), detail::load<V>(a + i, m)));
    detail::store(a + i, r, m);
    acc[turn] = fma(r, detail::load<V>(x + i, m), acc[turn]);
    turn = 1 - turn;
  });
  return detail::total(acc[0] + acc[1]);
}

}  // namespace linalg
}  // namespace lowrank
