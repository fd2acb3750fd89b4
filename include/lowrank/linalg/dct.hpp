// Dct: the orthonormal cosine transform of any length n >= 1, for `lanes` interleaved signals (element i of signal l at
// x[i * lanes + l]), in place.
//
//   dct2:  C_k = s_k sum_j x_j cos(pi k (2j+1) / 2n),   s_0 = sqrt(1/n), s_k = sqrt(2/n)
//   dct3:  its transpose, which is its inverse
//
// One real DFT of n points (Makhoul, IEEE Trans. ASSP 28, 1980): V = DFT(x_0, x_2, x_4, .., x_5, x_3, x_1), theta = pi k / 2n,
//   C_k = s_k (Re V_k cos theta + Im V_k sin theta),   C_(n-k) = s_k (Re V_k sin theta - Im V_k cos theta),
// read in this order by the first pass and written by the last, so neither costs a sweep of its own.
// About 2.5 n log2 n flops per signal where n has no prime factor above 7.
#pragma once

#include <cmath>  // std::sqrt

#include <lowrank/linalg/fft.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

template <class S, class K>
class Dct {
  using Fft = fft::RealFft<S, K>;
  using V = typename Fft::V;
  static constexpr Index L = Fft::L;

 public:
  Dct() = default;
  /// Plans; allocates and computes the tables, about 3 n scalars.
  explicit Dct(Index n) : fft_(n), table_(n / 2 + 1, 2) {
    for (Index k = 0; 2 * k <= n; ++k) {
      const fft::Root w = fft::root(k, 4 * n);
      const double scale = k == 0 ? std::sqrt(1 / double(n)) : std::sqrt(2 / double(n));
      table_(k, 0) = S(scale * w.re);
      table_(k, 1) = S(scale * -w.im);
    }
  }

  Index size() const { return fft_.size(); }
  std::size_t table_bytes() const { return table_.bytes() + fft_.table_bytes(); }
  /// Scalars of scratch one call needs.
  Index work_size() const { return fft_.work_size(); }

  void dct2(S* x, S* work) const { fft_.forward(Shuffled{x, size()}, Turned{x, size(), table_}, work); }
  void dct3(S* x, S* work) const { fft_.adjoint(Turned{x, size(), table_}, Shuffled{x, size()}, work); }

 private:
  struct Shuffled {
    S* x;
    Index n;
    LOWRANK_INLINE S* operator()(Index j) const { return x + (2 * j < n ? 2 * j : 2 * (n - j) - 1) * L; }
  };
  /// Coefficients as a spectrum: V_k from C_k and C_(n-k), and the reverse.
  struct Turned {
    S* x;
    Index n;
    const Buffer<S>& table;

    LOWRANK_INLINE void put(Index k, V re) const { (re * cosine(k)).store(x + k * L); }
    LOWRANK_INLINE void put(Index k, V re, V im) const {
      const V c = cosine(k), s = sine(k);
      kernel::fma(im, s, re * c).store(x + k * L);
      kernel::fma(fft::negative(im), c, re * s).store(x + (n - k) * L);
    }
    LOWRANK_INLINE V get(Index k) const { return V::load(x + k * L) * cosine(k); }
    LOWRANK_INLINE void get(Index k, V& re, V& im) const {
      const V c = cosine(k), s = sine(k), a = V::load(x + k * L), b = V::load(x + (n - k) * L);
      re = kernel::fma(b, s, a * c);
      im = kernel::fma(fft::negative(b), c, a * s);
    }
    LOWRANK_INLINE V cosine(Index k) const { return V::all(table(k, 0)); }
    LOWRANK_INLINE V sine(Index k) const { return V::all(table(k, 1)); }
  };

  Fft fft_;
  Buffer<S> table_;
};

}  // namespace linalg
}  // namespace lowrank
