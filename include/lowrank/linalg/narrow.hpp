// Projections onto a few directions (PackedBasis: onto one): R = P^T A, bound by the reading of A. A tile of a product has P in its lanes, and so few
// rows leave most of them empty; here the lanes are columns of A,
//
//   rows      A(i, j) at a[i lda + j]   several rows at a time are added to sums of all columns
//   columns   A(i, j) at a[i + j lda]   `lanes` columns side by side, turned in registers, from top to bottom
//
// and everything a column has to tell, its energy too, is taken from one load. Each sum is the chain it is elsewhere: that of gemm.hpp,
// and of K::sum_squares, in blocks of 256 rows.
// At 4096 x 4096, r = 1, it takes 0.35 to 0.43 of the time of tiles.
#pragma once

#include <lowrank/linalg/gemm.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

/// P^T has r rows, P^T(i, p) at basis[p * lanes + i].
template <class S, class K, int r>
class NarrowProjection {
  using V = kernel::Vec<S, int(K::template lanes<S>) * int(sizeof(S))>;
  static constexpr Index L = K::template lanes<S>, pair = 2 * L;

 public:
  /// R(i, j) at R[i + j r] <- (P^T A)(i, j), energy[j] (when not null) <- ||scale a_j||^2, for w columns. `room` is for
  /// (4 + 2 lanes) rows of w numbers, w rounded up to whole registers.
  static void rows(Index d, Index w, const S* a, Index lda, const S* basis, double scale, S* R, double* energy, S* room) {
    const Index wide = padded<K, S>(w);
    S* squares = room + r * wide;
    if (energy != nullptr) std::fill_n(energy, w, 0.0);
    for (Index k0 = 0; k0 < d; k0 += block_depth) {
      const Index depth = std::min(block_depth, d - k0), even = depth / pair * pair;
      const Index partials = even > 0 ? pair : std::min(depth, L);
      std::fill_n(room, (r + partials) * wide, S(0));
      // rows of one sum of squares are 2 lanes apart; those beyond the last whole pair of registers, lanes apart (K::sum_squares)
      const auto add = [&]<int count>(std::integral_constant<int, count>, Index p) {
        S* sums = squares + (p < even ? p % pair : (p - even) % L) * wide;
        add_rows<count>(w, wide, a + (k0 + p) * lda, lda, basis + (k0 + p) * L, S(scale), room, energy == nullptr ? nullptr : sums);
      };
      Index p = 0;
      for (; p + 4 <= depth; p += 4) {
        if (k0 + p + ahead + 4 <= d)
          for (Index q = 0; q < 4; ++q)
            for (Index j = 0; j < w; j += L) __builtin_prefetch(a + (k0 + p + ahead + q) * lda + j);
        add(std::integral_constant<int, 4>{}, p);
      }
      for (; p < depth; ++p) add(std::integral_constant<int, 1>{}, p);
      for (Index j = 0; j < w; ++j)
        for (Index i = 0; i < r; ++i) R[i + j * r] = k0 > 0 ? R[i + j * r] + room[i * wide + j] : room[i * wide + j];
      if (energy != nullptr) K::fold_squares(w, squares, wide, energy, partials);
    }
  }

  /// The same of an A in columns.
  static void columns(Index d, Index w, const S* a, Index lda, const S* basis, double scale, S* R, double* energy) {
    for (Index j = 0; j < w; j += L)
      add_columns(d, std::min(L, w - j), a + j * lda, lda, basis, V::all(S(scale)), R + j * r, energy == nullptr ? nullptr : energy + j);
  }

 private:
  static constexpr Index ahead = 24;  // rows, which lie pages apart

  /// sums_i += P(p, i) a_p over `count` rows, one after the other; squares_p += (scale a_p)^2.
  template <int count>
  static void add_rows(Index w, Index wide, const S* a, Index lda, const S* basis, S scale, S* sums, S* squares) {
    V along[count][r];
    for (int p = 0; p < count; ++p)
      for (int i = 0; i < r; ++i) along[p][i] = V::all(basis[p * L + i]);
    const V factor = V::all(scale);
    const auto add = [&](Index j, const auto& load) LOWRANK_LAMBDA_INLINE {
      V x[count], sum[r];
      for (int p = 0; p < count; ++p) x[p] = load(a + p * lda + j);
      for (int i = 0; i < r; ++i) {
        sum[i] = V::load(sums + i * wide + j);
        for (int p = 0; p < count; ++p) sum[i] = fma(along[p][i], x[p], sum[i]);
        sum[i].store(sums + i * wide + j);
      }
      if (squares == nullptr) return;
      for (int p = 0; p < count; ++p) {
        const V y = factor * x[p];
        fma(y, y, V::load(squares + p * wide + j)).store(squares + p * wide + j);
      }
    };
    Index j = 0;
    for (; j + L <= w; j += L) add(j, [](const S* p) LOWRANK_LAMBDA_INLINE { return V::load(p); });
    if (j < w) add(j, [n = w - j](const S* p) LOWRANK_LAMBDA_INLINE { return V::load(p, n); });
  }

  static void add_columns(Index d, Index n, const S* a, Index lda, const S* basis, V factor, S* R, double* energy) {
    S sums[r * L], turned[L * L];
    for (Index k0 = 0; k0 < d; k0 += block_depth) {
      const Index depth = std::min(block_depth, d - k0), even = depth / pair * pair;
      V sum[r], squares[2][L];
      for (V& s : sum) s = V::zero();
      for (Index j = 0; j < L; ++j) squares[0][j] = squares[1][j] = V::zero();
      for (Index p = 0; p < depth; p += L) {
        V x[L];
        const Index m = std::min(L, depth - p);
        const S* from = a + k0 + p;
        if (m == L && n == L) {
          for (Index j = 0; j < L; ++j) x[j] = V::load(from + j * lda);
          for (Index j = 0; j < L; ++j) __builtin_prefetch(from + j * lda + 8 * L, 0, 2);
        } else {
          for (Index j = 0; j < L; ++j) x[j] = j < n ? V::load(from + j * lda, m) : V::zero();
        }
        V* to = squares[p < even ? p / L % 2 : 0];
        for (Index j = 0; j < L; ++j) {
          const V y = factor * x[j];
          to[j] = fma(y, y, to[j]);
        }
        kernel::transpose(x);
        for (Index j = 0; j < L; ++j) x[j].store(turned + j * L);
        for (Index q = 0; q < m; ++q) {
          const V row = V::load(turned + q * L);
          for (int i = 0; i < r; ++i) sum[i] = fma(V::all(basis[(k0 + p + q) * L + i]), row, sum[i]);
        }
      }
      for (int i = 0; i < r; ++i) sum[i].store(sums + i * L);
      for (Index j = 0; j < n; ++j)
        for (Index i = 0; i < r; ++i) R[i + j * r] = k0 > 0 ? R[i + j * r] + sums[i * L + j] : sums[i * L + j];
      for (Index j = 0; j < n && energy != nullptr; ++j) {
        const double total = sum_lanes(squares[0][j] + squares[1][j]);
        energy[j] = (k0 > 0 ? energy[j] : 0) + total;
      }
    }
  }
};

}  // namespace linalg
}  // namespace lowrank
