// NarrowUpdate: W <- after (before W - step (U + scale G diag(phi))) where U = P N is a sum of one to four products, bound by the
// reading and writing of W. A tile of a product is 1 or 2 registers high and 4 or 8 wide, whatever it is that has a few rows; here a
// register of W is moved where it lies,
//
//   rows     W(i, j) at w[i ldw + j]   lanes are columns, row after row
//   columns  W(i, j) at w[i + j ldw]   lanes are rows, some columns side by side, from top to bottom; of a few rows without gaps the
//                                      columns follow each other in one register
//
// to the bits of the tiles: one chain of multiply-adds over the rank, then K::move().
// At 4096 x 4096, r = 1 to 4, it takes 0.6 to 0.7 of the time of tiles; of one row in rows 0.1 to 0.16, in columns 0.01 to 0.03.
#pragma once

#include <algorithm>  // std::clamp, std::fill_n, std::max, std::min

#include <lowrank/linalg/weight_update.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

/// P(i, p) of a basis in memory.
template <class S>
struct BasisRows {
  const S* data;
  Index row_stride, col_stride;
};

/// P is d x r, N r x w with N(p, j) at N[p + j r]; W is moved in the columns [j0, j0 + w).
template <class S, class K, int r>
class NarrowUpdate {
  using V = kernel::Vec<S, int(K::template lanes<S>) * int(sizeof(S))>;
  static constexpr Index L = V::lanes, pair = 2 * L, line = 64 / Index(sizeof(S));

 public:
  /// W in rows. `room` is for r rows of w numbers, w rounded up to whole registers.
  template <bool may_add>
  static void rows(Index d, Index w, const S* N, const BasisRows<S>& basis, const WeightUpdate<S, may_add>& u, Index j0, S* room) {
    const S* turned = turn(w, N, room);
    if constexpr (may_add)
      if (u.g != nullptr) return move_rows<true>(d, w, turned, basis, u, j0);
    move_rows<false>(d, w, turned, basis, u, j0);
  }

  /// W in columns, P packed in panels of 2 registers, the last of 1 if that is enough.
  template <bool may_add>
  static void columns(Index d, Index w, const S* N, const S* packed, const WeightUpdate<S, may_add>& u, Index j0, S* room) {
    const bool gapless = u.ldw == d && (u.g == nullptr || u.ldg == d);
    const BasisRows<S> basis{packed, 1, d > L ? pair : L};
    if (d == 1 && gapless) {  // one row, whichever way it is named
      WeightUpdate<S, may_add> row = u;
      row.order = Order::Rows;
      return rows(d, w, N, basis, row, j0, room);
    }
    if (d <= L / 2 && gapless) return move_few(d, w, turn(w, N, room), basis, u, j0);
    if constexpr (may_add)
      if (u.g != nullptr) return move_columns<true>(d, w, N, packed, u, j0);
    move_columns<false>(d, w, N, packed, u, j0);
  }

 private:
  static constexpr Index down = 16 * line;  // what is fetched, in a column
  static constexpr int side_by_side = K::tile_cols / 2;

  struct Motion {
    V step, before, after, scale;
    explicit Motion(const kernel::Motion<S>& m)
        : step(V::all(-m.step)), before(V::all(m.before)), after(V::all(m.after)), scale(V::all(m.scale)) {}
    LOWRANK_INLINE V operator()(V u, V w) const { return after * fma(step, u, before * w); }
  };
  struct Whole {
    LOWRANK_INLINE V load(const S* p) const { return V::load(p); }
    LOWRANK_INLINE void store(S* p, V x) const { x.store(p); }
  };
  struct Part {
    Index n;
    LOWRANK_INLINE V load(const S* p) const { return V::load(p, n); }
    LOWRANK_INLINE void store(S* p, V x) const { x.store(p, n); }
  };

  /// Two registers of W, so many numbers on, and of G.
  template <bool adds>
  static LOWRANK_INLINE void fetch(const kernel::Target<S>& to, Index on, Index on_g) {
    for (Index l = 0; l < pair; l += line) {
      __builtin_prefetch(to.w + on + l, 1, 3);
      if constexpr (adds) __builtin_prefetch(to.g + on_g + l, 0, 2);
    }
  }

  /// N by rows, padded(w) numbers apart.
  static const S* turn(Index w, const S* N, S* room) {
    if constexpr (r == 1) return N;
    const Index wide = padded<K, S>(w);
    for (Index j = 0; j < w; ++j)
      for (Index p = 0; p < r; ++p) room[p * wide + j] = N[p + j * r];
    return room;
  }

  template <bool adds>
  static void move_rows(Index d, Index w, const S* turned, const BasisRows<S>& basis, const auto& u, Index j0) {
    const Index ahead = std::clamp<Index>(64 * line / std::max<Index>(w, 1), 2, 8);
    Index i = 0;
    for (; i + 2 <= d; i += 2) move_rows_together<adds, 2>(w, turned, basis, u, i, j0, i + ahead + 2 <= d ? ahead : 0);
    if (i < d) move_rows_together<adds, 1>(w, turned, basis, u, i, j0, 0);
  }
  /// While they are moved, the rows `ahead` of them (when not 0) are fetched: they lie pages apart, where no hardware looks ahead.
  template <bool adds, int count>
  static void move_rows_together(Index w, const S* turned, const BasisRows<S>& basis, const auto& u, Index i, Index j0,
                                 Index ahead) {
    const Motion motion(u.motion);
    const Index wide = padded<K, S>(w);
    const kernel::Target<S> to = u.at(i, j0);
    V along[count][r];
    for (Index q = 0; q < count; ++q)
      for (Index p = 0; p < r; ++p) along[q][p] = V::all(basis.data[(i + q) * basis.row_stride + p * basis.col_stride]);
    const auto move = [&](Index j, auto part) LOWRANK_LAMBDA_INLINE {
      V n[r], phi = V::zero();
      for (Index p = 0; p < r; ++p) n[p] = part.load(turned + p * wide + j);
      if constexpr (adds) phi = part.load(to.phi + j);
      for (Index q = 0; q < count; ++q) {
        V sum = V::zero();
        for (Index p = 0; p < r; ++p) sum = fma(n[p], along[q][p], sum);
        if constexpr (adds) sum = fma(phi, motion.scale * part.load(to.g + q * u.ldg + j), sum);
        S* W = to.w + q * u.ldw + j;
        part.store(W, motion(sum, part.load(W)));
      }
    };
    Index j = 0;
    if (ahead > 0)
      for (; j + pair <= w; j += pair) {
        for (Index q = 0; q < count; ++q) fetch<adds>(to, (ahead + q) * u.ldw + j, (ahead + q) * u.ldg + j);
        move(j, Whole{});
        move(j + L, Whole{});
      }
    for (; j + L <= w; j += L) move(j, Whole{});
    if (j < w) move(j, Part{w - j});
  }

  template <bool adds>
  static void move_columns(Index d, Index w, const S* N, const S* packed, const auto& u, Index j0) {
    Index j = 0;
    for (; j + side_by_side <= w; j += side_by_side) move_side_by_side<adds, side_by_side>(d, N + j * r, packed, u, u.at(0, j0 + j));
    for (; j < w; ++j) move_side_by_side<adds, 1>(d, N + j * r, packed, u, u.at(0, j0 + j));
  }
  template <bool adds, int count>
  static void move_side_by_side(Index d, const S* N, const S* packed, const auto& u, const kernel::Target<S>& to) {
    const Motion motion(u.motion);
    V along[count][r], phi[count];
    for (Index q = 0; q < count; ++q) {
      for (Index p = 0; p < r; ++p) along[q][p] = V::all(N[p + q * r]);
      if constexpr (adds) phi[q] = V::all(to.phi[q]);
    }
    const auto move = [&](Index i, const S* panel, Index height, auto part) LOWRANK_LAMBDA_INLINE {
      V basis[r];
      for (Index p = 0; p < r; ++p) basis[p] = V::load(panel + p * height);
      for (Index q = 0; q < count; ++q) {
        V sum = V::zero();
        for (Index p = 0; p < r; ++p) sum = fma(basis[p], along[q][p], sum);
        if constexpr (adds) sum = fma(phi[q], motion.scale * part.load(to.g + i + q * u.ldg), sum);
        S* w = to.w + i + q * u.ldw;
        part.store(w, motion(sum, part.load(w)));
      }
    };
    Index i = 0;
    for (; i + pair <= d; i += pair, packed += pair * r) {
      for (Index q = 0; q < count; ++q) fetch<adds>(to, i + down + q * u.ldw, i + down + q * u.ldg);
      move(i, packed, pair, Whole{});
      move(i + L, packed + L, pair, Whole{});
    }
    const Index left = d - i, height = left > L ? pair : L;
    if (left == 0) return;
    if (left >= L) move(i, packed, height, Whole{});
    else move(i, packed, height, Part{left});
    if (left > L) move(i + L, packed + L, height, Part{left - L});
  }

  /// Columns of d numbers without gaps: U is made with columns in the lanes, then put in the order of W.
  static void move_few(Index d, Index w, const S* turned, const BasisRows<S>& basis, const auto& u, Index j0) {
    const Index wide = padded<K, S>(w);
    S row[L], U[L * L], phi[L * L];
    for (Index j = 0; j < w; j += L) {
      const Index n = std::min(L, w - j);
      for (Index i = 0; i < d; ++i) {
        const S* along = basis.data + i;
        V sum = V::zero();
        for (Index p = 0; p < r; ++p, along += basis.col_stride) {
          const S* from = turned + p * wide + j;
          sum = fma(V::all(*along), n == L ? V::load(from) : V::load(from, n), sum);
        }
        sum.store(row);
        for (Index q = 0; q < L; ++q) U[i + q * d] = row[q];
      }
      kernel::Target<S> to = u.at(0, j0 + j);
      if (u.g != nullptr) {
        for (Index q = 0; q < n; ++q) std::fill_n(phi + q * d, d, to.phi[q]);
        to.phi = phi;
        to.phi_per_row = true;
      }
      K::move(n * d, U, to, u.motion);
    }
  }
};

}  // namespace linalg
}  // namespace lowrank
