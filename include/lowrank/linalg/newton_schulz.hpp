// NewtonSchulz: X (r x k, column-major) towards the nearest matrix with orthonormal rows (r <= k) or columns, in place:
// five odd polynomials of the singular values, which are products only,
//   X <- X / (margin ||X||_F + eps),   then   X <- (a I + b G + c G^2) X,   G = X X^T      (r <= k)
// and the same from the right with G = X^T X for r > k. (Kovarik 1970; Bjorck and Bowie 1971; the coefficients are below.)
//
// G and its square are symmetric: half of each product is computed (symmetric.hpp), and the polynomial is formed tile by
// tile as the square is completed. X is first scaled by a power of two, so that neither very large nor very small gradients
// leave the range of S before the norm is known; zero stays zero.
#pragma once

#include <cmath>  // std::ilogb, std::ldexp, std::sqrt

#include <lowrank/linalg/staged.hpp>
#include <lowrank/linalg/symmetric.hpp>
#include <lowrank/linalg/vectors.hpp>
#include <lowrank/options.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

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
        other_(arena.take<S>(r * k)),
        largest_(arena.take<S>(k)),
        symmetric_(arena, n_, std::max(r, k)) {}

  /// X must be finite; r x k as constructed. The team's scratch must be made for max(r, k).
  void operator()(S* X, Polynomial which, const Team<S, K>& team) const {
    const detail::PolarPolynomial& set = detail::polar_polynomial(which);
    const bool wide = r_ <= k_;
    const int exponent = scale(X, other_, team);
    if (exponent == nothing) return;
    double factor = 1;  // of X, applied with the first polynomial
    S *from = other_, *to = X;
    static_assert(steps % 2 == 1, "the last step ends in X");
    for (int step = 0; step < steps; ++step) {
      const auto x = columns<K, S>(from, r_);
      symmetric_(n_, wide ? k_ : r_, wide ? x : x.transposed(), gram_, n_, Triangle::Both, team);
      if (step == 0) {
        double trace = 0;  // ||X||_F^2 = tr G
        for (Index i = 0; i < n_; ++i) trace += double(gram_[i + i * n_]);
        factor = 1 / (set.margin * std::sqrt(trace) + std::ldexp(set.eps, -exponent));
      }
      const auto& [a, b, c] = set.coefficient[step];
      const double f2 = factor * factor, fa = a * factor, fb = b * f2 * factor, fc = c * f2 * f2 * factor;
      const auto form = [&](Index i0, Index rows, Index j0, Index cols) {  // of a tile of the square, the polynomial
        for (Index j = j0; j < j0 + cols; ++j) {
          S* column = square_ + i0 + j * n_;
          K::combine(rows, fc, column, fb, gram_ + i0 + j * n_, column);
          if (i0 == j0) square_[j + j * n_] += S(fa);
        }
      };
      symmetric_(n_, n_, columns<K, S>(gram_, n_), square_, n_, Triangle::Both, team, [](Index, Index, Index, Index) {}, form);
      const auto polynomial = columns<K, S>(square_, n_);
      S* room = symmetric_.room();
      if (wide) staged_product(r_, k_, n_, polynomial, x, to, r_, room, symmetric_.room_size(), team);
      else staged_product(r_, k_, n_, x, polynomial.transposed(), to, r_, room, symmetric_.room_size(), team);  // it is symmetric
      std::swap(from, to);
      factor = 1;
    }
  }

 private:
  static constexpr int steps = 5;
  static constexpr int nothing = std::numeric_limits<int>::min();

  /// Y <- 2^-e X with the largest entry in [1, 2). Gives e, or `nothing` for zeros.
  int scale(const S* X, S* Y, const Team<S, K>& team) const {
    lowrank::detail::for_each(k_, team.threads(), [&](Index j, int) { largest_[j] = largest<K>(r_, X + j * r_); });
    const S all = largest<K>(k_, largest_);
    if (all == 0) return nothing;
    const int exponent = std::ilogb(all), half = -exponent / 2;  // 2^-e itself may be out of range
    const bool once = exponent < std::numeric_limits<S>::max_exponent - 2 && exponent > std::numeric_limits<S>::min_exponent + 2;
    lowrank::detail::for_each(k_, team.threads(), [&](Index j, int) {
      S* y = Y + j * r_;
      K::combine(r_, std::ldexp(1.0, once ? -exponent : half), X + j * r_, 0.0, y, y);
      if (!once) K::combine(r_, std::ldexp(1.0, -exponent - half), y, 0.0, y, y);
    });
    return exponent;
  }

  Index r_ = 0, k_ = 0, n_ = 0;
  S *gram_ = nullptr, *square_ = nullptr, *other_ = nullptr, *largest_ = nullptr;
  SymmetricProduct<S, K> symmetric_;
};

}  // namespace linalg
}  // namespace lowrank
