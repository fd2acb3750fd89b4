// Eigh: all eigenvalues and eigenvectors of a symmetric matrix (n x n, column-major), A = V diag(values) V^T, values
// descending.
//
// Householder tridiagonalisation, then implicit QL with Wilkinson's shift (Golub, Van Loan: Matrix Computations, 4th ed.,
// 8.3). A trailing matrix is read once per reflector: the rank-two update of one step and the product of the next are
// one pass. Plane rotations are collected and applied to strips of rows of V that stay in cache; rows do not depend on
// each other, so threads take strips.
#pragma once

#include <cmath>    // std::sqrt, std::frexp, std::ldexp
#include <numeric>  // std::iota

#include <lowrank/core/buffer.hpp>
#include <lowrank/core/parallel.hpp>
#include <lowrank/linalg/vectors.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

template <class S, class K = kernel::Best>
class Eigh {
 public:
  Eigh() = default;
  Eigh(Arena& arena, Index n)
      : n_(n),
        ld_(((n + strip - 1) / strip | 1) * strip),
        vectors_(arena.take<S>(ld_ * n)),
        w_(arena.take<S>(n)),
        product_(arena.take<double>(n)),
        beta_(arena.take<double>(n)),
        d_(arena.take<double>(n)),
        e_(arena.take<double>(n)),
        order_(arena.take<Index>(n)),
        rotations_(arena.take<Rotation>(capacity())) {}

  /// a (its lower triangle is read) <- V; values: n of them. A matrix that is not finite counts as zero.
  void operator()(S* a, S* values) const { (*this)(a, values, 1); }
  void operator()(S* a, S* values, int threads) const {
    const int exponent = scale(a);
    tridiagonalise(a, threads);
    accumulate(a, threads);
    iterate(threads);
    std::iota(order_, order_ + n_, Index(0));
    std::sort(order_, order_ + n_, [&](Index i, Index j) { return d_[i] != d_[j] ? d_[i] > d_[j] : i < j; });
    for (Index j = 0; j < n_; ++j) {
      values[j] = S(std::ldexp(d_[order_[j]], exponent));
      std::memcpy(a + j * n_, vectors_ + order_[j] * ld_, std::size_t(n_) * sizeof(S));
    }
  }

 private:
  static constexpr Index strip = 4 * K::template lanes<S>;  // rows of V in registers; ld_ is an odd number of strips
  static constexpr double epsilon = double(std::numeric_limits<S>::epsilon());
  static constexpr double tiny = sizeof(S) == 4 ? 1e-30 : 1e-290;  // of a squared entry, the largest entry being 1

  struct Rotation {
    double c, s;
    Index i;  // of columns i and i + 1
  };
  Index capacity() const { return 8 * n_ + 64; }

  /// A <- 2^-exponent A with entries below 1, and the upper triangle copied from the lower.
  int scale(S* a) const {
    double largest = 0;
    bool finite = true;
    for (Index j = 0; j < n_; ++j)
      for (Index i = j; i < n_; ++i) {
        const double x = std::abs(double(a[i + j * n_]));
        finite = finite && lowrank::detail::is_finite(x);
        largest = std::max(largest, x);
      }
    int exponent = 0;
    if (finite) std::frexp(largest, &exponent);
    for (Index j = 0; j < n_; ++j)
      for (Index i = j; i < n_; ++i) {
        const S x = finite ? S(std::ldexp(double(a[i + j * n_]), -exponent)) : S(0);
        a[i + j * n_] = x;
        a[j + i * n_] = x;
      }
    return exponent;
  }

  /// A = H_0 H_1 ... T ... H_1 H_0, H_k = I - beta_k v v^T with v in column k of A below the diagonal; T in d_, e_.
  /// With p = A v and w = beta p - (beta^2 / 2)(p . v) v:  H A H = A - v w^T - w v^T.
  void tridiagonalise(S* a, int threads) const {
    const S* v = nullptr;  // of the last step, rows k.. ; its update is still to be applied to columns k..
    for (Index k = 0; k < n_; ++k) {
      S* column = a + k * n_;
      if (v != nullptr) subtract_and_dot<K>(n_ - k, column + k, double(w_[k]), v, double(v[0]), w_ + k, w_ + k);
      d_[k] = double(column[k]);
      e_[k] = beta_[k] = 0;
      const Index rows = n_ - k - 1;
      if (rows == 0) break;
      S* x = column + k + 1;
      const double first = double(x[0]), tail = K::sum_squares(rows - 1, x + 1);
      e_[k] = first;
      if (tail > tiny) {
        const double norm = std::sqrt(first * first + tail);
        e_[k] = first > 0 ? -norm : norm;
        x[0] = S(first - e_[k]);
        beta_[k] = 1 / (norm * (norm + std::abs(first)));
      }
      constexpr Index group = 64;
      lowrank::detail::for_each((rows + group - 1) / group, threads, [&](Index item, int) {
        for (Index j = k + 1 + item * group; j < std::min(n_, k + 1 + (item + 1) * group); ++j) {
          S* other = a + k + 1 + j * n_;
          product_[j] = v != nullptr ? subtract_and_dot<K>(rows, other, double(w_[j]), v + 1, double(v[j - k]),
                                                           w_ + k + 1, x)
                                     : dot<K>(rows, other, x);
        }
      });
      v = nullptr;
      if (beta_[k] == 0) continue;
      double along = 0;
      for (Index j = k + 1; j < n_; ++j) along += product_[j] * double(column[j]);
      for (Index j = k + 1; j < n_; ++j)
        w_[j] = S(beta_[k] * product_[j] - 0.5 * beta_[k] * beta_[k] * along * double(column[j]));
      v = x;
    }
  }

  /// vectors_ = H_0 H_1 ... applied to the unit vectors; e_j is changed by H_k with k < j only.
  void accumulate(const S* a, int threads) const {
    constexpr Index group = 8;
    lowrank::detail::for_each((n_ + group - 1) / group, threads, [&](Index item, int) {
      const Index j0 = item * group, j1 = std::min(n_, j0 + group);
      std::fill_n(vectors_ + j0 * ld_, (j1 - j0) * ld_, S(0));
      for (Index j = j0; j < j1; ++j) vectors_[j + j * ld_] = 1;
      for (Index k = j1 - 2; k >= 0; --k) {
        if (beta_[k] == 0) continue;
        const S* v = a + k + 1 + k * n_;
        for (Index j = std::max(j0, k + 1); j < j1; ++j) {
          S* q = vectors_ + k + 1 + j * ld_;
          K::combine(n_ - k - 1, 1.0, q, -beta_[k] * dot<K>(n_ - k - 1, v, q), v, q);
        }
      }
    });
  }

  /// T -> diagonal, one eigenvalue after another from the top; what couples to the rest is e_.
  void iterate(int threads) const {
    Index count = 0;
    for (Index l = 0; l < n_; ++l)
      for (int sweep = 0; sweep < 60; ++sweep) {
        Index m = l;
        while (m < n_ - 1 && !(std::abs(e_[m]) <= epsilon * (std::abs(d_[m]) + std::abs(d_[m + 1])) ||
                               std::abs(e_[m]) < std::sqrt(tiny)))
          ++m;
        if (m == l) break;
        if (count + m - l > capacity()) {
          apply(count, threads);
          count = 0;
        }
        double g = (d_[l + 1] - d_[l]) / (2 * e_[l]);
        g = d_[m] - d_[l] + e_[l] / (g + (g < 0 ? -1 : 1) * std::sqrt(g * g + 1));
        double s = 1, c = 1, p = 0;
        Index i = m - 1;
        for (; i >= l; --i) {
          const double f = s * e_[i], b = c * e_[i], r = std::sqrt(f * f + g * g);
          e_[i + 1] = r;
          if (r == 0) {  // T falls into two blocks in the middle of the sweep
            d_[i + 1] -= p;
            e_[m] = 0;
            break;
          }
          s = f / r;
          c = g / r;
          rotations_[count++] = {c, s, i};
          const double h = d_[i + 1] - p, t = (d_[i] - h) * s + 2 * c * b;
          p = s * t;
          d_[i + 1] = h + p;
          g = c * t - b;
        }
        if (i >= l) continue;
        d_[l] -= p;
        e_[l] = g;
        e_[m] = 0;
      }
    apply(count, threads);
  }

  /// Rotations in order on all rows of V. Consecutive ones share a column, which stays in registers.
  void apply(Index count, int threads) const {
    if (count == 0) return;
    using V = detail::Register<K, S>;
    lowrank::detail::for_each((n_ + strip - 1) / strip, threads, [&](Index item, int) {
      S* rows = vectors_ + item * strip;
      V shared[4];
      for (Index q = 0; q < count; ++q) {
        const auto [cosine, sine, i] = rotations_[q];
        const V c = V::all(S(cosine)), s = V::all(S(sine)), minus = V::all(S(-sine));
        S* left = rows + i * ld_;
        S* right = left + ld_;
        if (q == 0 || rotations_[q - 1].i != i + 1)
          for (Index u = 0; u < 4; ++u) shared[u] = V::load(right + u * V::lanes);
        for (Index u = 0; u < 4; ++u) {
          const V x = V::load(left + u * V::lanes), y = shared[u];
          fma(s, x, c * y).store(right + u * V::lanes);
          shared[u] = fma(minus, y, c * x);
        }
        if (q + 1 == count || rotations_[q + 1].i != i - 1)
          for (Index u = 0; u < 4; ++u) shared[u].store(left + u * V::lanes);
      }
    });
  }

  Index n_ = 0, ld_ = 0;
  S* vectors_ = nullptr;
  S* w_ = nullptr;
  double* product_ = nullptr;
  double* beta_ = nullptr;
  double* d_ = nullptr;
  double* e_ = nullptr;
  Index* order_ = nullptr;
  Rotation* rotations_ = nullptr;
};

}  // namespace linalg
}  // namespace lowrank
