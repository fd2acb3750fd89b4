// NewtonSchulz: X (r x k, column-major) towards the nearest matrix with orthonormal rows (r <= k) or columns, in place:
// five odd polynomials of the singular values, which are products only,
//   X <- X / (margin ||X||_F + eps),   then   X <- (a I + b G + c G^2) X,   G = X X^T      (r <= k)
// and the same from the right with G = X^T X for r > k. (Kovarik 1970; Bjorck and Bowie 1971; the coefficients are below.)
//
// G and its square are symmetric: half of each product is computed. X is first scaled by a power of two, so that neither
// very large nor very small gradients leave the range of S before the norm is known; zero stays zero.
#pragma once

#include <cmath>  // std::ilogb, std::ldexp, std::sqrt

#include <lowrank/linalg/gemm.hpp>
#include <lowrank/options.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

/// C = A B (n x n, column-major) for a product that is known to be symmetric: strips of its lower triangle, mirrored.
/// Each entry has the bits that gemm() would give it.
template <class K, class S, class A, class B>
void symmetric(Index n, Index depth, const A& a, const B& b, S* c, Index ldc, const Team<S, K>& team) {
  constexpr Index strip = 64;
  const Index strips = (n + strip - 1) / strip;
  lowrank::detail::for_each(strips, team.threads(), [&](Index item, int slot) {
    const Scratch<S> scratch = team[slot];
    const Index i0 = (strips - 1 - item) * strip, rows = std::min(strip, n - i0);  // the longest first
    for (Index j0 = 0; j0 < i0 + rows; j0 += block_rows) {
      const Index cols = std::min(block_rows, i0 + rows - j0);
      for (Index k0 = 0; k0 < depth; k0 += block_depth) {
        const Index inner = std::min(block_depth, depth - k0), ld = inner + stage_padding;
        detail::pack<K>(a, i0, rows, k0, inner, scratch.rows, scratch.stage);
        b.load(k0, inner, j0, cols, scratch.stage, ld);
        detail::multiply<K>(rows, cols, inner, scratch.rows, scratch.stage, Index(1), ld, c + i0 + j0 * ldc, ldc, k0 > 0,
                            scratch.edge);
      }
    }
  });
  for (Index j = 0; j < n; ++j)
    for (Index i = j + 1; i < n; ++i) c[j + i * ldc] = c[i + j * ldc];
}

namespace detail {

/// a, b, c of each iteration; margin and eps of the first scaling.
struct PolarPolynomial {
  double coefficient[5][3];
  double margin, eps;
};
inline const PolarPolynomial& polar_polynomial(Polynomial which) {
  // Quintic: Jordan et al., Muon, 2024. Tuned: its five steps fitted one by one (Dion's code). PolarExpress: Amsel,
  // Persson, Musco, Gower, arXiv 2505.16932, for singular values from 1e-3.
  static constexpr PolarPolynomial sets[3] = {
      {{{3.4445, -4.7750, 2.0315},
        {3.4445, -4.7750, 2.0315},
        {3.4445, -4.7750, 2.0315},
        {3.4445, -4.7750, 2.0315},
        {3.4445, -4.7750, 2.0315}},
       1, 1e-7},
      {{{4.0848, -6.8946, 2.9270},
        {3.9505, -6.3029, 2.6377},
        {3.7418, -5.5913, 2.3037},
        {2.8769, -3.1427, 1.2046},
        {2.8366, -3.0525, 1.2012}},
       1, 1e-7},
      {{{8.156554524902461, -22.48329292557795, 15.878769915207462},
        {4.042929935166739, -2.808917465908714, 0.5000178451051316},
        {3.8916678022926607, -2.772484153217685, 0.5060648178503393},
        {3.285753657755655, -2.3681294933425376, 0.46449024233003106},
        {2.3465413258596377, -1.7097828382687081, 0.42323551169305323}},
       1.02, 1e-6}};
  return sets[static_cast<int>(which)];
}

}  // namespace detail

template <class S, class K>
class NewtonSchulz {
 public:
  NewtonSchulz() = default;
  NewtonSchulz(Arena& arena, Index r, Index k)
      : r_(r),
        k_(k),
        n_(std::min(r, k)),
        gram_(arena.take<S>(n_ * n_)),
        square_(arena.take<S>(n_ * n_)),
        other_(arena.take<S>(r * k)) {}

  /// X must be finite; r x k as constructed. The team's scratch must be made for max(r, k).
  void operator()(S* X, Polynomial which, const Team<S, K>& team) const {
    const detail::PolarPolynomial& set = detail::polar_polynomial(which);
    const bool wide = r_ <= k_;
    const int exponent = scale(X, team);
    if (exponent == nothing) return;
    double factor = 1;  // of X, applied with the first polynomial
    S *from = X, *to = other_;
    for (int step = 0; step < 5; ++step) {
      const auto x = columns<K, S>(from, r_), xt = transposed<K, S>(from, r_);
      if (wide) symmetric<K>(n_, k_, x, xt, gram_, n_, team);
      else symmetric<K>(n_, r_, xt, x, gram_, n_, team);
      symmetric<K>(n_, n_, columns<K, S>(gram_, n_), columns<K, S>(gram_, n_), square_, n_, team);
      if (step == 0) {
        double trace = 0;  // ||X||_F^2 = tr G
        for (Index i = 0; i < n_; ++i) trace += double(gram_[i + i * n_]);
        factor = 1 / (set.margin * std::sqrt(trace) + std::ldexp(set.eps, -exponent));
      }
      const auto& [a, b, c] = set.coefficient[step];
      const double f2 = factor * factor;
      K::combine(n_ * n_, c * f2 * f2 * factor, square_, b * f2 * factor, gram_, square_);
      for (Index i = 0; i < n_; ++i) square_[i + i * n_] += S(a * factor);
      const auto polynomial = columns<K, S>(square_, n_);
      if (wide) gemm<K>(r_, k_, n_, polynomial, x, to, r_, team);
      else gemm<K>(r_, k_, n_, x, polynomial, to, r_, team);
      std::swap(from, to);
      factor = 1;
    }
    lowrank::detail::for_each(k_, team.threads(), [&](Index j, int) {  // five steps end in the other buffer
      std::memcpy(X + j * r_, other_ + j * r_, std::size_t(r_) * sizeof(S));
    });
  }

 private:
  static constexpr int nothing = std::numeric_limits<int>::min();

  /// X <- 2^-e X with the largest entry in [1, 2). Gives e, or `nothing` for zeros.
  int scale(S* X, const Team<S, K>& team) const {
    S largest = 0;
    for (Index i = 0; i < r_ * k_; ++i) largest = std::max(largest, X[i] < 0 ? -X[i] : X[i]);
    if (largest == 0) return nothing;
    const int exponent = std::ilogb(largest), half = -exponent / 2;  // 2^-e itself may be out of range
    lowrank::detail::for_each(k_, team.threads(), [&](Index j, int) {
      S* x = X + j * r_;
      K::combine(r_, std::ldexp(1.0, half), x, 0.0, x, x);
      K::combine(r_, std::ldexp(1.0, -exponent - half), x, 0.0, x, x);
    });
    return exponent;
  }

  Index r_ = 0, k_ = 0, n_ = 0;
  S *gram_ = nullptr, *square_ = nullptr, *other_ = nullptr;
};

}  // namespace linalg
}  // namespace lowrank
