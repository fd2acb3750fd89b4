// Rader's convolution for long primes: the part of PrimeDft that needs RealFft, which in turn needs PrimeDft.
#pragma once

#include <lowrank/linalg/fft.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {
namespace fft {

/// Elements one after the other. A type of its own: a lambda here would be another type at every level of the recursion
/// between PrimeDft and RealFft, and the compiler would never be done.
template <class S, Index L>
struct Packed {
  S* data;
  LOWRANK_INLINE S* operator()(Index j) const { return data + j * L; }
};

template <class S, class K>
std::size_t PrimeDft<S, K>::table_bytes() const {
  const std::size_t own = table_.bytes() + element_.bytes() + place_.bytes();
  return inner_.empty() ? own : own + inner_[0].table_bytes();
}
template <class S, class K>
Index PrimeDft<S, K>::work_size() const {
  return inner_.empty() ? p_ * L : 2 * inner_[0].size() * L + inner_[0].work_size();
}

template <class S, class K>
void PrimeDft<S, K>::plan_rader() {
  const Index units = p_ - 1;
  Index length = units;
  if (largest_factor(units) > 13)
    for (length = 2 * units - 1; largest_factor(length) > 7;) ++length;
  inner_.emplace_back(length);

  Index g = 2;
  for (Index order = 0; order < units; ++g) {  // the order of g divides p - 1
    Index x = g;
    for (order = 1; x != 1; ++order) x = x * g % p_;
    if (order == units) break;
  }
  Buffer<Index> power(units, 1);
  for (Index s = 0, x = 1; s < units; ++s, x = x * g % p_) power[s] = x;
  element_ = Buffer<Index>(units, 1);
  place_ = Buffer<Index>(h_, 1);
  for (Index s = 0; s < units; ++s) {
    element_[s] = power[(units - s) % units];
    if (power[s] <= h_) place_[power[s] - 1] = s;
  }

  // spectrum of (cos - sin)(2 pi g^t / p), wrapped into `length`; a half for r, 1 / length for the inverse transform, and
  // 2 where a coefficient stands for its conjugate too
  RealFft<double, K> exact(length);
  constexpr Index D = RealFft<double, K>::L;
  Buffer<double> x(length * D, 1), spectrum(length * D, 1), work(exact.work_size(), 1);
  const auto set = [&](Index t, Index s) {
    const Root w = root(power[s], p_);
    x[t * D] = (w.re + w.im) / (2 * double(length));
  };
  for (Index s = 0; s < units; ++s) set(s, s);
  for (Index s = 1; s < units && length > units; ++s) set(length - s, units - s);
  exact.forward(Packed<double, D>{x.data()},
                Halfcomplex<typename RealFft<double, K>::V, double>{spectrum.data(), length}, work.data());
  table_ = Buffer<S>(length, 1);
  for (Index k = 0; k < length; ++k) table_[k] = S(spectrum[k * D] * (k == 0 || 2 * k == length ? 1 : 2));
}

/// Times the convolution's spectrum, sign 1, or its conjugate, sign -1 (the transposed convolution).
template <class S, class K>
void PrimeDft<S, K>::multiply(S* spectrum, S sign) const {
  const Index n = inner_[0].size();
  const auto at = [&](Index k) { return spectrum + k * L; };
  (V::load(at(0)) * V::all(table_[0])).store(at(0));
  for (Index k = 1; 2 * k < n; ++k) {
    V re = V::load(at(k)), im = V::load(at(n - k));
    rotate(re, im, V::all(table_[k]), V::all(sign * table_[n - k]));
    re.store(at(k));
    im.store(at(n - k));
  }
  if (n % 2 == 0) (V::load(at(n / 2)) * V::all(table_[n / 2])).store(at(n / 2));
}

/// a_q = x_(g^-q), r = a * b, and for k = g^s <= h:  X_k = x_0 + (r_s + r_(s+h)) + i (r_s - r_(s+h)).
template <class S, class K>
template <class At>
void PrimeDft<S, K>::rader_forward(const At& at, S* out, S* work) const {
  const RealFft<S, K>& fft = inner_[0];
  const Index n = fft.size(), units = p_ - 1;
  S *a = work, *spectrum = a + n * L, *rest = spectrum + n * L;
  const Packed<S, L> element{a};
  const V first = V::load(at(0));
  V total = first;
  for (Index q = 0; q < units; ++q) {
    const V x = V::load(at(element_[q]));
    total = total + x;
    x.store(element(q));
  }
  for (Index q = units; q < n; ++q) V::zero().store(element(q));
  fft.forward(element, Halfcomplex<V, S>{spectrum, n}, rest);
  multiply(spectrum, S(1));
  fft.adjoint(Halfcomplex<V, S>{spectrum, n}, element, rest);
  total.store(out);
  for (Index k = 1; k <= h_; ++k) {
    const Index s = place_[k - 1];
    const V r = V::load(element(s)), t = V::load(element((s + h_) % units));
    (first + (r + t)).store(out + k * L);
    (r - t).store(out + (p_ - k) * L);
  }
}

/// The transpose: u_s = Re X_k + Im X_k, u_(s+h) = Re X_k - Im X_k,  x_(g^-q) = X_0 + sum_s u_s b_(s-q).
template <class S, class K>
template <class At>
void PrimeDft<S, K>::rader_adjoint(const S* in, const At& at, S* work) const {
  const RealFft<S, K>& fft = inner_[0];
  const Index n = fft.size(), units = p_ - 1;
  S *u = work, *spectrum = u + n * L, *rest = spectrum + n * L;
  const Packed<S, L> element{u};
  const V first = V::load(in);
  V total = first;
  for (Index k = 1; k <= h_; ++k) {
    const Index s = place_[k - 1];
    const V re = V::load(in + k * L), im = V::load(in + (p_ - k) * L);
    total = total + re;
    (re + im).store(element(s));
    (re - im).store(element((s + h_) % units));
  }
  for (Index q = units; q < n; ++q) V::zero().store(element(q));
  fft.forward(element, Halfcomplex<V, S>{spectrum, n}, rest);
  multiply(spectrum, S(-1));
  fft.adjoint(Halfcomplex<V, S>{spectrum, n}, element, rest);
  total.store(at(0));
  for (Index q = 0; q < units; ++q) (first + V::load(element(q))).store(at(element_[q]));
}

}  // namespace fft
}  // namespace linalg
}  // namespace lowrank
