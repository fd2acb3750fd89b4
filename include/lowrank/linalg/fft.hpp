// RealFft: the discrete Fourier transform of n reals and its transpose, any n >= 1, for `lanes` interleaved signals
// (element i of signal l at x[i * lanes + l]).
//
//   V_k = sum_j v_j e^(-2 pi i jk / n),   halfcomplex order: Re V_k at k, Im V_k at n - k,   k = 0 .. n/2
//
// Decimation in time over n = P m: P transforms of every P-th element, contiguous one after the other, then for each
// i = 0 .. m/2 one complex P-point transform of e^(-2 pi i iq / n) (V^q)_i, whose outputs V_(i + m s) take exactly the
// places of its inputs. So a pass is in place, the recursion goes depth first (a part that fits in the first-level cache
// is finished there), and odd n cost no more than even ones. The transpose is the same graph read backwards.
// Source: Sorensen, Jones, Heideman, Burrus, IEEE Trans. ASSP 35 (1987).
#pragma once

#include <lowrank/linalg/prime_dft.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {
namespace fft {

/// A spectrum in halfcomplex order: what a pass reads from and writes to.
template <class V, class S>
struct Halfcomplex {
  S* data;
  Index n;

  LOWRANK_INLINE void put(Index k, V re) const { re.store(data + k * V::lanes); }
  LOWRANK_INLINE void put(Index k, V re, V im) const {
    re.store(data + k * V::lanes);
    im.store(data + (n - k) * V::lanes);
  }
  LOWRANK_INLINE V get(Index k) const { return V::load(data + k * V::lanes); }
  LOWRANK_INLINE void get(Index k, V& re, V& im) const {
    re = V::load(data + k * V::lanes);
    im = V::load(data + (n - k) * V::lanes);
  }
};

template <class S, class K>
class RealFft {
 public:
  static constexpr Index L = K::template lanes<S>;
  using V = kernel::Vec<S, int(L * Index(sizeof(S)))>;

  RealFft() = default;
  explicit RealFft(Index n) : n_(n) {
    factor();
    Index rows = n, scalars = 0;
    for (Stage& s : stages_) {
      s.m = rows /= s.radix;
      s.twiddles = scalars;
      scalars += 2 * (s.m / 2) * (s.radix - 1);
    }
    twiddles_ = Buffer<S>(scalars, 1);
    for (const Stage& s : stages_) {
      S* w = twiddles_.data() + s.twiddles;
      for (Index i = 1; 2 * i <= s.m; ++i)
        for (Index q = 1; q < s.radix; ++q) {
          const Root r = root(i * q, s.radix * s.m);
          *w++ = S(r.re);
          *w++ = S(r.im);
        }
    }
  }

  Index size() const { return n_; }
  std::size_t table_bytes() const {
    std::size_t bytes = twiddles_.bytes();
    for (const auto& p : primes_) bytes += p.table_bytes();
    return bytes;
  }
  /// Scalars of scratch one call needs; the first n * lanes of them hold the parts.
  Index work_size() const { return n_ * L + scratch_size(); }

  /// at(j): where element j lies. out.put(k, re, im) for 0 < k < n/2 and out.put(k, re) for k = 0 and n/2, once each.
  template <class At, class Out>
  void forward(const At& at, const Out& out, S* work) const {
    if (stages_.size() > 1) {
      const Stage& s = stages_[0];
      for (Index q = 0; q < s.radix; ++q) part(1, at, q, s.radix, work + q * s.m * L, work + n_ * L);
      return combine(s, work, out, work + n_ * L);
    }
    leaf(stages_[0], at, 0, 1, work, work + n_ * L);
    const Halfcomplex<V, S> spectrum{work, n_};
    out.put(0, spectrum.get(0));
    for (Index k = 1; 2 * k < n_; ++k) out.put(k, spectrum.get(k), spectrum.get(n_ - k));
    if (n_ % 2 == 0) out.put(n_ / 2, spectrum.get(n_ / 2));
  }

  /// in.get(k, re, im) and in.get(k) are read once each, before anything is written to at(j).
  template <class In, class At>
  void adjoint(const In& in, const At& at, S* work) const {
    if (stages_.size() > 1) {
      const Stage& s = stages_[0];
      split(s, in, work, work + n_ * L);
      for (Index q = 0; q < s.radix; ++q) part_adjoint(1, at, q, s.radix, work + q * s.m * L, work + n_ * L);
      return;
    }
    const Halfcomplex<V, S> spectrum{work, n_};
    spectrum.put(0, in.get(0));
    for (Index k = 1; 2 * k < n_; ++k) {
      V re, im;
      in.get(k, re, im);
      spectrum.put(k, re, im);
    }
    if (n_ % 2 == 0) spectrum.put(n_ / 2, in.get(n_ / 2));
    leaf_adjoint(stages_[0], at, 0, 1, work, work + n_ * L);
  }

 private:
  struct Stage {
    Index radix = 1, prime = -1;       // prime: index into primes_ where the radix has no code of its own
    Index m = 0, twiddles = 0;
  };

  /// Outermost first; the last stage is the leaf, which the longest prime becomes.
  void factor() {
    Index rest = n_;
    std::vector<Index> leaf_first;
    for (Index f = 2; f <= 7; ++f) {  // 2, 3, 5, 7
      if (f == 4 || f == 6) continue;
      Index power = 0;
      while (rest % f == 0) rest /= f, ++power;
      if (f == 2) {
        if (power >= 4) leaf_first.push_back(16), power -= 4;
        while (power > 0) {
          const Index take = power == 1 || power == 2 ? power : power == 4 ? 2 : 3;
          leaf_first.push_back(Index(1) << take);
          power -= take;
        }
      } else {
        for (; power > 0; --power) leaf_first.push_back(f);
      }
    }
    std::vector<Index> long_primes;
    for (Index f = 11; rest > 1; f += 2) {
      if (f * f > rest) f = rest;
      while (rest % f == 0) rest /= f, long_primes.push_back(f);
    }
    leaf_first.insert(leaf_first.begin(), long_primes.rbegin(), long_primes.rend());
    if (leaf_first.empty()) leaf_first.push_back(1);
    for (auto f = leaf_first.rbegin(); f != leaf_first.rend(); ++f) {
      stages_.push_back({*f});
      if (*f < 11 || *f == 16) continue;
      if (primes_.empty() || primes_.back().length() != *f) primes_.emplace_back(*f);
      stages_.back().prime = Index(primes_.size()) - 1;
    }
  }

  Index scratch_size() const {
    Index most = 0;
    for (const auto& p : primes_) most = std::max(most, 4 * p.length() * L + p.work_size());
    return most;
  }

  template <class At>
  void part(std::size_t level, const At& at, Index start, Index stride, S* out, S* scratch) const {
    const Stage& s = stages_[level];
    if (level + 1 == stages_.size()) return leaf(s, at, start, stride, out, scratch);
    for (Index q = 0; q < s.radix; ++q)
      part(level + 1, at, start + q * stride, stride * s.radix, out + q * s.m * L, scratch);
    combine(s, out, Halfcomplex<V, S>{out, s.radix * s.m}, scratch);
  }
  template <class At>
  void part_adjoint(std::size_t level, const At& at, Index start, Index stride, S* in, S* scratch) const {
    const Stage& s = stages_[level];
    if (level + 1 == stages_.size()) return leaf_adjoint(s, at, start, stride, in, scratch);
    split(s, Halfcomplex<V, S>{in, s.radix * s.m}, in, scratch);
    for (Index q = 0; q < s.radix; ++q)
      part_adjoint(level + 1, at, start + q * stride, stride * s.radix, in + q * s.m * L, scratch);
  }

  template <class At>
  void leaf(const Stage& s, const At& at, Index start, Index stride, S* out, S* scratch) const {
    const auto element = [&](Index j) LOWRANK_LAMBDA_INLINE { return at(start + stride * j); };
    switch (s.radix) {
      case 1: return leaf_of<1>(element, out);
      case 2: return leaf_of<2>(element, out);
      case 3: return leaf_of<3>(element, out);
      case 4: return leaf_of<4>(element, out);
      case 5: return leaf_of<5>(element, out);
      case 7: return leaf_of<7>(element, out);
      case 8: return leaf_of<8>(element, out);
      case 16: return leaf_of<16>(element, out);
      default: return primes_[std::size_t(s.prime)].forward(element, out, scratch);
    }
  }
  template <class At>
  void leaf_adjoint(const Stage& s, const At& at, Index start, Index stride, const S* in, S* scratch) const {
    const auto element = [&](Index j) LOWRANK_LAMBDA_INLINE { return at(start + stride * j); };
    switch (s.radix) {
      case 1: return leaf_adjoint_of<1>(in, element);
      case 2: return leaf_adjoint_of<2>(in, element);
      case 3: return leaf_adjoint_of<3>(in, element);
      case 4: return leaf_adjoint_of<4>(in, element);
      case 5: return leaf_adjoint_of<5>(in, element);
      case 7: return leaf_adjoint_of<7>(in, element);
      case 8: return leaf_adjoint_of<8>(in, element);
      case 16: return leaf_adjoint_of<16>(in, element);
      default: return primes_[std::size_t(s.prime)].adjoint(in, element, scratch);
    }
  }
  template <Index P, class At>
  static void leaf_of(const At& at, S* out) {
    V x[P];
    each<P>([&](auto j) LOWRANK_LAMBDA_INLINE { x[j] = V::load(at(j)); });
    real_dft<P>(x);
    each<P>([&](auto j) LOWRANK_LAMBDA_INLINE { x[j].store(out + j * L); });
  }
  template <Index P, class At>
  static void leaf_adjoint_of(const S* in, const At& at) {
    V x[P];
    each<P>([&](auto j) LOWRANK_LAMBDA_INLINE { x[j] = V::load(in + j * L); });
    real_adjoint<P>(x);
    each<P>([&](auto j) LOWRANK_LAMBDA_INLINE { x[j].store(at(j)); });
  }

  /// P spectra of length m, one after the other -> the spectrum of length P m.
  template <class Out>
  void combine(const Stage& s, const S* in, const Out& out, S* scratch) const {
    switch (s.radix) {
      case 2: return combine_by<2>(s, in, out);
      case 3: return combine_by<3>(s, in, out);
      case 4: return combine_by<4>(s, in, out);
      case 5: return combine_by<5>(s, in, out);
      case 7: return combine_by<7>(s, in, out);
      case 8: return combine_by<8>(s, in, out);
      default: return combine_prime(s, in, out, scratch);
    }
  }
  template <class In>
  void split(const Stage& s, const In& in, S* out, S* scratch) const {
    switch (s.radix) {
      case 2: return split_by<2>(s, in, out);
      case 3: return split_by<3>(s, in, out);
      case 4: return split_by<4>(s, in, out);
      case 5: return split_by<5>(s, in, out);
      case 7: return split_by<7>(s, in, out);
      case 8: return split_by<8>(s, in, out);
      default: return split_prime(s, in, out, scratch);
    }
  }

  template <Index P, class Out>
  void combine_by(const Stage& s, const S* in, const Out& out) const {
    const Index m = s.m;
    V re[P], im[P];
    each<P>([&](auto q) LOWRANK_LAMBDA_INLINE { re[q] = V::load(in + q * m * L); });
    real_dft<P>(re);
    out.put(0, re[0]);
    each<(P - 1) / 2>([&](auto q) LOWRANK_LAMBDA_INLINE { out.put(m * (q + 1), re[q + 1], re[P - 1 - q]); });
    if constexpr (P % 2 == 0) out.put(m * P / 2, re[P / 2]);

    const S* w = twiddles_.data() + s.twiddles;
    for (Index i = 1; 2 * i < m; ++i, w += 2 * (P - 1)) {
      each<P>([&](auto q) LOWRANK_LAMBDA_INLINE {
        re[q] = V::load(in + (q * m + i) * L);
        im[q] = V::load(in + (q * m + m - i) * L);
        if constexpr (q > 0) rotate(re[q], im[q], V::all(w[2 * q - 2]), V::all(w[2 * q - 1]));
      });
      dft<P>(re, im);
      each<P>([&](auto q) LOWRANK_LAMBDA_INLINE {
        if constexpr (2 * q < P)
          out.put(i + m * q, re[q], im[q]);
        else
          out.put(m * (P - q) - i, re[q], negative(im[q]));
      });
    }
    if (m % 2 != 0) return;
    const Index i = m / 2;
    each<P>([&](auto q) LOWRANK_LAMBDA_INLINE {
      re[q] = V::load(in + (q * m + i) * L);
      im[q] = V::zero();
      if constexpr (q > 0) rotate(re[q], im[q], V::all(w[2 * q - 2]), V::all(w[2 * q - 1]));
    });
    dft<P>(re, im);
    each<P / 2>([&](auto q) LOWRANK_LAMBDA_INLINE { out.put(i + m * q, re[q], im[q]); });
    if constexpr (P % 2 != 0) out.put(i + m * (P / 2), re[P / 2]);
  }

  template <Index P, class In>
  void split_by(const Stage& s, const In& in, S* out) const {
    const Index m = s.m;
    V re[P], im[P];
    re[0] = in.get(0);
    each<(P - 1) / 2>([&](auto q) LOWRANK_LAMBDA_INLINE { in.get(m * (q + 1), re[q + 1], re[P - 1 - q]); });
    if constexpr (P % 2 == 0) re[P / 2] = in.get(m * P / 2);
    real_adjoint<P>(re);
    each<P>([&](auto q) LOWRANK_LAMBDA_INLINE { re[q].store(out + q * m * L); });

    const S* w = twiddles_.data() + s.twiddles;
    for (Index i = 1; 2 * i < m; ++i, w += 2 * (P - 1)) {
      each<P>([&](auto q) LOWRANK_LAMBDA_INLINE {
        if constexpr (2 * q < P) {
          in.get(i + m * q, re[q], im[q]);
        } else {
          in.get(m * (P - q) - i, re[q], im[q]);
          im[q] = negative(im[q]);
        }
      });
      dft<P>(im, re);
      each<P>([&](auto q) LOWRANK_LAMBDA_INLINE {
        if constexpr (q > 0) rotate(im[q], re[q], V::all(w[2 * q - 2]), V::all(w[2 * q - 1]));
        re[q].store(out + (q * m + i) * L);
        im[q].store(out + (q * m + m - i) * L);
      });
    }
    if (m % 2 != 0) return;
    const Index i = m / 2;
    each<P>([&](auto q) LOWRANK_LAMBDA_INLINE { re[q] = im[q] = V::zero(); });
    each<P / 2>([&](auto q) LOWRANK_LAMBDA_INLINE { in.get(i + m * q, re[q], im[q]); });
    if constexpr (P % 2 != 0) re[P / 2] = in.get(i + m * (P / 2));
    dft<P>(im, re);
    each<P>([&](auto q) LOWRANK_LAMBDA_INLINE {
      if constexpr (q > 0) rotate(im[q], re[q], V::all(w[2 * q - 2]), V::all(w[2 * q - 1]));
      re[q].store(out + (q * m + i) * L);
    });
  }

  /// The same for a prime P > 7, with the complex transform made of two real ones: X = R + i I, and for k = 1 .. (P-1)/2
  /// X_k = (Re R_k - Im I_k) + i (Im R_k + Re I_k), X_(P-k) = (Re R_k + Im I_k) + i (Re I_k - Im R_k).
  template <class Out>
  void combine_prime(const Stage& s, const S* in, const Out& out, S* scratch) const {
    const PrimeDft<S, K>& prime = primes_[std::size_t(s.prime)];
    const Index P = s.radix, m = s.m;
    S *re = scratch, *im = re + P * L, *R = im + P * L, *I = R + P * L, *work = I + P * L;
    prime.forward([&](Index q) LOWRANK_LAMBDA_INLINE { return in + q * m * L; }, R, work);
    out.put(0, V::load(R));
    for (Index q = 1; 2 * q < P; ++q) out.put(m * q, V::load(R + q * L), V::load(R + (P - q) * L));

    const S* w = twiddles_.data() + s.twiddles;
    for (Index i = 1; 2 * i <= m; ++i) {
      for (Index q = 0; q < P; ++q) {
        V x = V::load(in + (q * m + i) * L), y = 2 * i < m ? V::load(in + (q * m + m - i) * L) : V::zero();
        if (q > 0) rotate(x, y, V::all(w[0]), V::all(w[1])), w += 2;
        x.store(re + q * L);
        y.store(im + q * L);
      }
      prime.forward([&](Index q) LOWRANK_LAMBDA_INLINE { return re + q * L; }, R, work);
      prime.forward([&](Index q) LOWRANK_LAMBDA_INLINE { return im + q * L; }, I, work);
      out.put(i, V::load(R), V::load(I));
      for (Index q = 1; 2 * q < P; ++q) {
        const V a = V::load(R + q * L), b = V::load(R + (P - q) * L);
        const V c = V::load(I + q * L), d = V::load(I + (P - q) * L);
        if (2 * i < m || 2 * q + 1 < P)
          out.put(i + m * q, a - d, b + c);
        else
          out.put(i + m * q, a - d);
        if (2 * i < m) out.put(m * q - i, a + d, b - c);  // the conjugate of X_(P-q)
      }
    }
  }
  template <class In>
  void split_prime(const Stage& s, const In& in, S* out, S* scratch) const {
    const PrimeDft<S, K>& prime = primes_[std::size_t(s.prime)];
    const Index P = s.radix, m = s.m;
    S *re = scratch, *im = re + P * L, *R = im + P * L, *I = R + P * L, *work = I + P * L;
    in.get(0).store(R);
    for (Index q = 1; 2 * q < P; ++q) {
      V a, b;
      in.get(m * q, a, b);
      a.store(R + q * L);
      b.store(R + (P - q) * L);
    }
    prime.adjoint(R, [&](Index q) LOWRANK_LAMBDA_INLINE { return out + q * m * L; }, work);

    const S* w = twiddles_.data() + s.twiddles;
    for (Index i = 1; 2 * i <= m; ++i) {
      V x, y;
      in.get(i, x, y);
      x.store(R);
      y.store(I);
      for (Index q = 1; 2 * q < P; ++q) {
        V xr, xi = V::zero(), yr = V::zero(), yi = V::zero();
        if (2 * i < m || 2 * q + 1 < P)
          in.get(i + m * q, xr, xi);
        else
          xr = in.get(i + m * q);
        if (2 * i < m) in.get(m * q - i, yr, yi);
        (xr + yr).store(R + q * L);
        (xi + yi).store(R + (P - q) * L);
        (xi - yi).store(I + q * L);
        (yr - xr).store(I + (P - q) * L);
      }
      prime.adjoint(R, [&](Index q) LOWRANK_LAMBDA_INLINE { return re + q * L; }, work);
      prime.adjoint(I, [&](Index q) LOWRANK_LAMBDA_INLINE { return im + q * L; }, work);
      for (Index q = 0; q < P; ++q) {
        x = V::load(re + q * L), y = V::load(im + q * L);
        if (q > 0) rotate(y, x, V::all(w[0]), V::all(w[1])), w += 2;
        x.store(out + (q * m + i) * L);
        if (2 * i < m) y.store(out + (q * m + m - i) * L);
      }
    }
  }

  Index n_ = 0;
  std::vector<Stage> stages_;
  std::vector<PrimeDft<S, K>> primes_;
  Buffer<S> twiddles_;
};

// --- Rader's convolution ---

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
  RealFft<double, Widened> exact(length);
  constexpr Index D = RealFft<double, Widened>::L;
  Buffer<double> x(length * D, 1), spectrum(length * D, 1), work(exact.work_size(), 1);
  const auto set = [&](Index t, Index s) {
    const Root w = root(power[s], p_);
    x[t * D] = (w.re + w.im) / (2 * double(length));
  };
  for (Index s = 0; s < units; ++s) set(s, s);
  for (Index s = 1; s < units && length > units; ++s) set(length - s, units - s);
  exact.forward([&](Index j) { return x.data() + j * D; },
                Halfcomplex<typename RealFft<double, Widened>::V, double>{spectrum.data(), length}, work.data());
  table_ = Buffer<S>(length, 1);
  for (Index k = 0; k < length; ++k) table_[k] = S(spectrum[k * D] * (k == 0 || 2 * k == length ? 1 : 2));
}
