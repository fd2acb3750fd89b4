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

#include <lowrank/linalg/fft_passes.hpp>
#include <lowrank/linalg/prime_dft.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {
namespace fft {

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

  /// Outermost first; the last stage is the leaf: the longest prime, else 16 (which has code as a leaf only).
  void factor() {
    Index rest = n_;
    const auto divide = [&rest](Index f) {
      Index power = 0;
      while (rest % f == 0) rest /= f, ++power;
      return power;
    };
    Index twos = divide(2);
    const Index threes = divide(3), fives = divide(5), sevens = divide(7);
    std::vector<Index> leaf_first;
    for (Index f = 11; f <= rest; f += 2) {
      if (f * f > rest) f = rest;
      leaf_first.insert(leaf_first.begin(), std::size_t(divide(f)), f);
    }
    if (leaf_first.empty() && twos >= 4) leaf_first.push_back(16), twos -= 4;
    while (twos > 0) {
      const Index take = twos <= 2 ? twos : twos == 4 ? 2 : 3;
      leaf_first.push_back(Index(1) << take);
      twos -= take;
    }
    leaf_first.insert(leaf_first.end(), std::size_t(threes), 3);
    leaf_first.insert(leaf_first.end(), std::size_t(fives), 5);
    leaf_first.insert(leaf_first.end(), std::size_t(sevens), 7);
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
    const S* w = twiddles_.data() + s.twiddles;
    switch (s.radix) {
      case 2: return combine_by<2, V>(s.m, w, in, out);
      case 3: return combine_by<3, V>(s.m, w, in, out);
      case 4: return combine_by<4, V>(s.m, w, in, out);
      case 5: return combine_by<5, V>(s.m, w, in, out);
      case 7: return combine_by<7, V>(s.m, w, in, out);
      case 8: return combine_by<8, V>(s.m, w, in, out);
      default: return combine_prime<V>(primes_[std::size_t(s.prime)], s.m, w, in, out, scratch);
    }
  }
  template <class In>
  void split(const Stage& s, const In& in, S* out, S* scratch) const {
    const S* w = twiddles_.data() + s.twiddles;
    switch (s.radix) {
      case 2: return split_by<2, V>(s.m, w, in, out);
      case 3: return split_by<3, V>(s.m, w, in, out);
      case 4: return split_by<4, V>(s.m, w, in, out);
      case 5: return split_by<5, V>(s.m, w, in, out);
      case 7: return split_by<7, V>(s.m, w, in, out);
      case 8: return split_by<8, V>(s.m, w, in, out);
      default: return split_prime<V>(primes_[std::size_t(s.prime)], s.m, w, in, out, scratch);
    }
  }

  Index n_ = 0;
  std::vector<Stage> stages_;
  std::vector<PrimeDft<S, K>> primes_;
  Buffer<S> twiddles_;
};

}  // namespace fft
}  // namespace linalg
}  // namespace lowrank

#include <lowrank/linalg/rader.hpp>
