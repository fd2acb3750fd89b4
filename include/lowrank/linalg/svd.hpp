// TruncatedSvd: the r leading singular triplets of A (d x k), A ~ P diag(sigma) Q^T, P d x r, Q k x r, column-major. The
// slow exact reference: everything in double whatever the scalar, O(min(d, k)^2 max(d, k)) flops.
//
// With X the tall one of A and A^T (l x n): the eigenvectors V of X^T X, B = X V, then one-sided Jacobi on the columns of
// B until their cosines are rounding. The Gram matrix alone loses what lies below sqrt(eps) sigma_0; the rotations read
// B, which has it. (Drmac, Veselic: New fast and accurate Jacobi SVD algorithm I, SIAM J. Matrix Anal. Appl. 29, 2008.)
//
// Pairs of columns meet in a tournament of blocks: the blocks of a round are disjoint, so threads share a round and the
// bits do not depend on their number.
#pragma once

#include <lowrank/linalg/eigh.hpp>
#include <lowrank/linalg/orth.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {
namespace detail {

/// factor * A or factor * A^T in double.
template <class S, class A>
struct Widened {
  enum class Order { AsIs, Transposed };
  const A& a;
  double factor;
  Order order;

  void load(Index i0, Index m, Index j0, Index n, double* dst, Index ld) const {
    constexpr Index side = 32;
    S tile[side * side];
    for (Index j = 0; j < n; j += side)
      for (Index i = 0; i < m; i += side) {
        const Index rows = std::min(side, m - i), cols = std::min(side, n - j);
        const bool as_is = order == Order::AsIs;
        if (as_is)
          a.load(i0 + i, rows, j0 + j, cols, tile, side);
        else
          a.load(j0 + j, cols, i0 + i, rows, tile, side);
        const Index down = as_is ? 1 : side, across = as_is ? side : 1;
        for (Index q = 0; q < cols; ++q)
          for (Index p = 0; p < rows; ++p)
            dst[i + p + (j + q) * ld] = factor * double(tile[p * down + q * across]);
      }
  }
};

}  // namespace detail

template <class S, class K>
class TruncatedSvd {
 public:
  TruncatedSvd() = default;
  TruncatedSvd(Arena& arena, Index d, Index k, Index r)
      : TruncatedSvd(arena, d, k, r, lowrank::detail::available_threads()) {}
  /// 1 <= r <= min(d, k); threads: scratch memory is laid out for so many.
  TruncatedSvd(Arena& arena, Index d, Index k, Index r, int threads)
      : d_(d),
        k_(k),
        r_(r),
        l_(std::max(d, k)),
        n_(std::min(d, k)),
        team_(arena, threads, l_),
        eigh_(arena, n_),
        V_(arena.take<double>(n_ * n_)),
        gram_(arena.take<double>(n_ * n_)),
        B_(arena.take<double>(l_ * n_)),
        squares_(arena.take<double>(n_)),
        room_(arena.take<double>(l_)) {}

  /// P, and Q unless it is null; sigma: r values. In every column of P the entry of largest magnitude (ties: the lowest)
  /// is positive. Returns how many of the r singular values exceed max(d, k) eps sigma_0; the other columns are unit
  /// vectors, orthonormalised in index order. A matrix that is not finite counts as zero.
  template <class A>
  Index operator()(const A& a, S* P, S* Q, double* sigma, const Team<S, K>&) const {
    using Wide = detail::Widened<S, A>;
    const bool tall = d_ >= k_;
    const int exponent = exponent_of(a);
    const double factor = exponent > nothing ? std::ldexp(1.0, -exponent) : 0.0;
    const Wide X{a, factor, tall ? Wide::Order::AsIs : Wide::Order::Transposed};
    const Wide Xt{a, factor, tall ? Wide::Order::Transposed : Wide::Order::AsIs};

    Index found = 0;
    if (exponent > nothing) {
      gemm<K>(n_, n_, l_, Xt, X, V_, n_, team_);
      eigh_(V_, squares_, team_.threads());
      gemm<K>(l_, n_, n_, X, columns<K>(V_, n_), B_, l_, team_);
      for (int sweep = 0; sweep < 30 && !rotate_all(); ++sweep) {
      }
      for (const double zero = negligible(squares_[0]); found < r_ && squares_[found] > zero; ++found) {
        sigma[found] = std::sqrt(squares_[found]);
        K::combine(l_, 1 / sigma[found], B_ + found * l_, 0.0, B_ + found * l_, B_ + found * l_);
        sigma[found] = std::ldexp(sigma[found], exponent);
      }
    }
    std::fill_n(sigma + found, r_ - found, 0.0);
    fill(tall ? B_ : V_, d_, found, P);
    if (Q != nullptr) fill(tall ? V_ : B_, k_, found, Q);
    for (Index j = 0; j < r_; ++j) {
      S* p = P + j * d_;
      Index at = 0;
      for (Index i = 1; i < d_; ++i)
        if (std::abs(p[i]) > std::abs(p[at])) at = i;
      if (p[at] > 0) continue;
      for (Index i = 0; i < d_; ++i) p[i] = -p[i];
      if (Q != nullptr)
        for (Index i = 0; i < k_; ++i) Q[i + j * k_] = -Q[i + j * k_];
    }
    return found;
  }

 private:
  static constexpr double epsilon = std::numeric_limits<double>::epsilon();
  static constexpr int nothing = std::numeric_limits<int>::min();
  static constexpr Index block = 16;  // columns of B and V that meet another block in cache

  /// e with max |A| in [2^(e-1), 2^e); `nothing` for a matrix of zeros or one that is not finite.
  template <class A>
  int exponent_of(const A& a) const {
    constexpr Index side = 32;
    S tile[side * side];
    double largest = 0;
    for (Index j = 0; j < k_; j += side)
      for (Index i = 0; i < d_; i += side) {
        const Index rows = std::min(side, d_ - i), cols = std::min(side, k_ - j);
        a.load(i, rows, j, cols, tile, side);
        for (Index q = 0; q < cols; ++q)
          for (Index p = 0; p < rows; ++p) {
            const double x = std::abs(double(tile[p + q * side]));
            if (!lowrank::detail::is_finite(x)) return nothing;
            largest = std::max(largest, x);
          }
      }
    if (largest == 0) return nothing;
    int exponent = 0;
    std::frexp(largest, &exponent);
    return exponent;
  }

  /// Squares of singular values up to here are zero.
  double negligible(double largest) const {
    const double bound = double(l_) * epsilon;
    return largest * bound * bound;
  }

  /// One sweep: columns sorted by length, then every pair whose cosine is not yet negligible is rotated. True when there
  /// was none. The r leading columns are made orthogonal to all; among the others a cosine of sqrt(eps) is enough to
  /// know that they come after (an eigenvalue moves by its square).
  bool rotate_all() const {
    for (Index j = 0; j < n_; ++j) squares_[j] = K::sum_squares(l_, B_ + j * l_);
    for (Index i = 0; i < n_; ++i) {
      const Index j = std::max_element(squares_ + i, squares_ + n_) - squares_;
      if (j == i) continue;
      std::swap(squares_[i], squares_[j]);
      std::swap_ranges(B_ + i * l_, B_ + (i + 1) * l_, B_ + j * l_);
      std::swap_ranges(V_ + i * n_, V_ + (i + 1) * n_, V_ + j * n_);
    }
    gemm<K>(n_, n_, l_, transposed<K>(B_, l_), columns<K>(B_, l_), gram_, n_, team_);
    bool done = true;
    for (Index j = 1; j < n_ && done; ++j)
      for (Index i = 0; i < j && done; ++i) done = !oblique(i, j);
    if (done) return true;

    const Index blocks = (n_ + block - 1) / block, seats = blocks + blocks % 2, pairs = seats / 2;
    for (Index round = 0; round < std::max<Index>(seats - 1, 1); ++round)
      lowrank::detail::for_each(pairs, team_.threads(), [&](Index pair, int) {
        const Index others = seats - 1;
        const Index a = pair == 0 ? others : (round + pair) % others;
        const Index b = pair == 0 ? round : (round + others - pair) % others;
        if (round == 0) {
          settle(a * block);
          settle(b * block);
        }
        meet(std::min(a, b) * block, std::max(a, b) * block);
      });
    return false;
  }

  /// cos(b_i, b_j) at the start of the sweep is still to be removed, i < j.
  bool oblique(Index i, Index j) const {
    const double fine = epsilon * (8 + std::sqrt(double(l_)) / 4), coarse = 1.5e-8;
    const double x = gram_[i * n_ + i], y = gram_[j * n_ + j], bound = i < r_ ? fine : coarse;
    const double zero = negligible(gram_[0]);
    return x > zero && y > zero && std::abs(gram_[i + j * n_]) > bound * std::sqrt(x) * std::sqrt(y);
  }

  /// Pairs within the block at i0, and between the blocks at i0 and j0. A block beyond n is empty.
  void settle(Index i0) const {
    for (Index i = i0; i < std::min(n_, i0 + block); ++i)
      for (Index j = i + 1; j < std::min(n_, i0 + block); ++j) rotate_pair(i, j);
  }
  void meet(Index i0, Index j0) const {
    for (Index i = i0; i < std::min(n_, i0 + block); ++i)
      for (Index j = j0; j < std::min(n_, j0 + block); ++j) rotate_pair(i, j);
  }

  /// The plane rotation that makes b_i and b_j orthogonal.
  void rotate_pair(Index i, Index j) const {
    if (!oblique(i, j)) return;
    double* x = B_ + i * l_;
    double* y = B_ + j * l_;
    const double along = dot<K>(l_, x, y);
    if (along == 0) return;
    const double zeta = (squares_[j] - squares_[i]) / (2 * along);
    const double tangent = (zeta < 0 ? -1 : 1) / (std::abs(zeta) + std::sqrt(1 + zeta * zeta));
    const double c = 1 / std::sqrt(1 + tangent * tangent), s = c * tangent;
    rotate<K>(l_, c, s, x, y);
    rotate<K>(n_, c, s, V_ + i * n_, V_ + j * n_);
    squares_[i] -= tangent * along;
    squares_[j] += tangent * along;
  }

  /// out (in S) <- the first r columns of U, those from `found` on completed.
  void fill(double* U, Index rows, Index found, S* out) const {
    for (Index j = 0; j < r_; ++j) squares_[j] = j < found ? 1 : 0;
    if (found < r_) complete<K>(rows, r_, U, squares_, room_);
    for (Index i = 0; i < rows * r_; ++i) out[i] = S(U[i]);
  }

  Index d_ = 0, k_ = 0, r_ = 0, l_ = 0, n_ = 0;
  Team<double, K> team_;
  Eigh<double, K> eigh_;
  double* V_ = nullptr;
  double* gram_ = nullptr;
  double* B_ = nullptr;        // X V
  double* squares_ = nullptr;  // of the lengths of B's columns
  double* room_ = nullptr;
};

}  // namespace linalg
}  // namespace lowrank
