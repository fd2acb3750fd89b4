// PrimeDft: the real DFT of odd prime length p > 7, halfcomplex order (Re X_k at k, Im X_k at p - k), and its transpose,
// for `lanes` interleaved signals.
//
// Short p, directly: with a_j = x_j + x_(p-j), b_j = x_j - x_(p-j) and h = (p-1)/2,
//   Re X_k = x_0 + sum_j a_j cos(2 pi jk/p),   Im X_k = -sum_j b_j sin(2 pi jk/p),   j = 1 .. h:   (p-1)^2 / 2 FMA.
// Long p, Rader (Proc. IEEE 56, 1968): with g a generator of the units mod p, for k = g^s
//   X_k - x_0 = sum_q x_(g^-q) e^(-2 pi i g^(s-q) / p)
// is a cyclic convolution of length p - 1. Since g^(t+h) = -g^t, the cosines repeat after h and the sines change sign:
// one REAL convolution r with cos - sin gives both, Re = (r_s + r_(s+h)) / 2 and Im = (r_s - r_(s+h)) / 2. Where p - 1 has
// large prime factors itself, the convolution is embedded in a longer one of smooth length. Against Bluestein's chirp,
// which needs complex transforms of at least 2p points, this is half to a quarter of the work.
#pragma once

#include <vector>

#include <lowrank/core/buffer.hpp>
#include <lowrank/linalg/dft.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {
namespace fft {

template <class S, class K>
class RealFft;

/// Largest prime factor of n >= 2.
inline Index largest_factor(Index n) {
  Index largest = 1;
  for (Index f = 2; f * f <= n; ++f)
    while (n % f == 0) largest = f, n /= f;
  return n > 1 ? n : largest;
}

template <class S, class K>
class PrimeDft {
  static constexpr Index L = K::template lanes<S>;
  using V = kernel::Vec<S, int(L * Index(sizeof(S)))>;
  static constexpr Index longest_direct = 97;

 public:
  explicit PrimeDft(Index p) : p_(p), h_((p - 1) / 2) {
    if (p > longest_direct)
      plan_rader();
    else
      plan_direct();
  }

  Index length() const { return p_; }
  std::size_t table_bytes() const;
  /// Scalars of scratch one call needs.
  Index work_size() const;

  /// at(j): where element j of the signals is; out: p registers, apart from the input.
  template <class At>
  void forward(const At& at, S* out, S* work) const {
    if (!inner_.empty()) return rader_forward(at, out, work);
    // halfcomplex order for a and b as well: what follows is the same sum as in the transpose
    V total = V::load(at(0));
    total.store(work);
    for (Index j = 1; j <= h_; ++j) {
      const V x = V::load(at(j)), y = V::load(at(p_ - j));
      total = total + (x + y);
      (x + y).store(work + j * L);
      (y - x).store(work + (p_ - j) * L);
    }
    total.store(out);
    sums(work, [&](Index k, V c, V s) LOWRANK_LAMBDA_INLINE {
      c.store(out + k * L);
      s.store(out + (p_ - k) * L);
    });
  }
  template <class At>
  void adjoint(const S* in, const At& at, S* work) const {
    if (!inner_.empty()) return rader_adjoint(in, at, work);
    V total = V::load(in);
    for (Index k = 1; k <= h_; ++k) total = total + V::load(in + k * L);
    total.store(at(0));
    sums(in, [&](Index j, V c, V s) LOWRANK_LAMBDA_INLINE {
      (c - s).store(at(j));
      (c + s).store(at(p_ - j));
    });
  }

 private:
  /// emit(k, u_0 + sum_j cos(2 pi jk/p) u_j, sum_j sin(2 pi jk/p) u_(p-j)) for k = 1 .. h
  template <class Emit>
  void sums(const S* u, const Emit& emit) const {
    switch (block_) {
      case 5: return sums_by<5>(u, emit);
      case 6: return sums_by<6>(u, emit);
      case 7: return sums_by<7>(u, emit);
      default: return sums_by<8>(u, emit);
    }
  }
  template <Index B, class Emit>
  void sums_by(const S* u, const Emit& emit) const {
    const S* w = table_.data();
    for (Index k0 = 1; k0 <= h_; k0 += B) {
      V c[B], s[B];
      each<B>([&](auto i) LOWRANK_LAMBDA_INLINE { c[i] = V::load(u), s[i] = V::zero(); });
      for (Index j = 1; j <= h_; ++j, w += 2 * B) {
        const V a = V::load(u + j * L), b = V::load(u + (p_ - j) * L);
        each<B>([&](auto i) LOWRANK_LAMBDA_INLINE {
          c[i] = kernel::fma(V::all(w[i]), a, c[i]);
          s[i] = kernel::fma(V::all(w[B + i]), b, s[i]);
        });
      }
      each<B>([&](auto i) LOWRANK_LAMBDA_INLINE {
        if (k0 + i <= h_) emit(k0 + i, c[i], s[i]);
      });
    }
  }

  void plan_direct() {
    const Index blocks = (h_ + 7) / 8;
    block_ = std::max<Index>(5, (h_ + blocks - 1) / blocks);
    table_ = Buffer<S>(2 * block_ * h_, (h_ + block_ - 1) / block_);
    for (Index n = 0; n < table_.cols(); ++n)
      for (Index j = 1; j <= h_; ++j)
        for (Index i = 0; i < block_; ++i) {
          const Root w = root(j * (n * block_ + i + 1), p_);
          table_(2 * block_ * (j - 1) + i, n) = S(w.re);
          table_(2 * block_ * (j - 1) + block_ + i, n) = S(-w.im);
        }
  }

  void plan_rader();
  void multiply(S* spectrum, S sign) const;
  template <class At>
  void rader_forward(const At& at, S* out, S* work) const;
  template <class At>
  void rader_adjoint(const S* in, const At& at, S* work) const;

  Index p_, h_, block_ = 0;
  Buffer<S> table_;                // direct: cosines and sines by blocks of k; Rader: the convolution's spectrum
  std::vector<RealFft<S, K>> inner_;  // Rader: one transform of p - 1 or more points
  Buffer<Index> element_;          // g^-q
  Buffer<Index> place_;            // s with g^s = k, for k = 1 .. h
};

}  // namespace fft
}  // namespace linalg
}  // namespace lowrank
