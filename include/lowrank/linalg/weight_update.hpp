// WeightUpdate: W <- after (before W - step (U + scale G diag(phi))) while U = P N is made. The tile of the product that holds a
// part of U reads W, moves it and writes it: W is read and written once, and U is not stored.
//
//   columns (W(i, j) at w[i + j ld])   a tile of U has P in its lanes, N is broadcast
//   rows    (W(i, j) at w[i ld + j])   a tile of U^T has N in its lanes, P is broadcast
#pragma once

#include <lowrank/linalg/gemm.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

/// W <- after (before W - step (U + scale G diag(phi))) on d x k matrices that lie in memory in the computing scalar and in
/// the same order, `ldw` and `ldg` numbers from one column (Order::Columns) or row to the next. G and phi may be null, and always are
/// if not `adds`, for whoever never adds a gradient need not compile how.
template <class S, bool adds = true>
struct WeightUpdate {
  S* w = nullptr;
  Index ldw = 0;
  const S* g = nullptr;
  Index ldg = 0;
  const S* phi = nullptr;  // k
  Order order = Order::Columns;
  kernel::Motion<S> motion = {};

  /// At element (i, j).
  kernel::Target<S> at(Index i, Index j) const {
    const bool rows = order == Order::Rows;
    kernel::Target<S> to{rows ? w + i * ldw + j : w + i + j * ldw, ldw};
    if (g != nullptr) {
      to.g = rows ? g + i * ldg + j : g + i + j * ldg;
      to.ldg = ldg;
      to.phi = phi + j;
      to.phi_per_row = rows;
    }
    return to;
  }
};

namespace detail {

/// A and B as a tile of U takes them: A packed in blocks of `block` along the inner dimension, `height` rows and its zeros in each, from
/// row `offset`; B as columns of `inner` numbers. X is S, or Bf16Pair: inner and block in pairs.
template <class X>
struct TileOperands {
  Index inner, block;
  const X* a;
  Index height, offset;
  const X* b;
};

template <class K, class X, class S, class Ahead>
void update_tiles(Index m, Index n, const TileOperands<X>& x, const kernel::Target<S>& to, const kernel::Motion<S>& motion, S* edge,
                  Ahead& ahead) {
  constexpr Index L = K::template lanes<S>, cols = K::tile_cols;
  S* tile = edge + std::min(x.block, x.inner) * cols;
  kernel::Idle idle;
  for (Index i = 0; i < m; i += 2 * L) {
    const Index height = m - i > L ? 2 * L : L, rows = std::min(height, m - i);
    const bool whole = rows == height && n == cols;
    kernel::Target<S> here = to;
    here.w += i;
    if (here.g != nullptr) here.g += i;
    if (here.g != nullptr && here.phi_per_row) here.phi += i;
    for (Index k0 = 0; k0 < x.inner; k0 += x.block) {
      const Index depth = std::min(x.block, x.inner - k0);
      const bool last = k0 + depth == x.inner;
      const X* panel = x.a + x.height * k0 + (x.offset + i) * depth;
      const Columns<X> b = whole_columns(Columns<X>{x.b + k0, 1, x.inner}, depth, n, cols, edge);
      const auto run = [&]<int registers>(std::integral_constant<int, registers>) {
        if (whole && last) K::template update_tile<registers>(depth, panel, b.b, b.bk, b.bj, k0 > 0 ? tile : nullptr, here, motion, ahead);
        else K::template gemm_tile<registers>(depth, panel, b.b, b.bk, b.bj, tile, height, k0 > 0, idle);
      };
      if (height == 2 * L) run(std::integral_constant<int, 2>{});
      else run(std::integral_constant<int, 1>{});
    }
    if (whole) continue;
    for (Index q = 0; q < n; ++q) {
      kernel::Target<S> column = here;
      column.w += q * here.ldw;
      if (here.g != nullptr) column.g += q * here.ldg;
      if (here.g != nullptr && !here.phi_per_row) column.phi += q;
      K::move(rows, tile + q * height, column, motion);
    }
  }
}

/// Moves the m x n block of W at (i, j) of the matrix (of its transpose in rows), at most tile_cols wide, by that block of U = A B. The
/// following one has m2 x n2 numbers and is at (i2, j2).
template <class K, class X, class S, bool adds>
void update_tiles(Index m, Index n, const TileOperands<X>& x, const WeightUpdate<S, adds>& u, Index i, Index j, Index m2, Index n2, Index i2,
                  Index j2, S* edge) {
  using kernel::Access;
  const kernel::Target<S> to = u.at(i, j), next = u.at(i2, j2);
  const Index steps = (m + 2 * K::template lanes<S> - 1) / (2 * K::template lanes<S>) * x.inner;
  const kernel::Ahead<Access::Write> w_ahead{next.w, m2, n2, u.ldw, steps};
  if constexpr (adds)
    if (u.g != nullptr) {
      kernel::Both<kernel::Ahead<Access::Write>, kernel::Ahead<Access::Read>> ahead{w_ahead, {next.g, m2, n2, u.ldg, steps}};
      return update_tiles<K>(m, n, x, to, u.motion, edge, ahead);
    }
  auto ahead = w_ahead;
  update_tiles<K>(m, n, x, to, u.motion, edge, ahead);
}

/// U = A B for w columns of W in columns, d rows; `columns` are B's, its leading dimension the inner one.
template <class K, class X, class S, bool adds>
void update_in_columns(Index d, Index w, TileOperands<X> x, const X* columns, const WeightUpdate<S, adds>& u, Index j0, S* edge) {
  constexpr Index cols = K::tile_cols;
  for (Index i0 = 0; i0 < d; i0 += block_rows) {
    const Index rows = std::min(block_rows, d - i0);
    x.offset = i0;
    for (Index j = 0; j < w; j += cols) {
      const bool turn = j + cols >= w;  // what comes next: the following columns, or the first ones of the next rows
      const Index i = turn ? i0 + block_rows : i0, q = turn ? 0 : j + cols;
      const Index n = std::min(cols, w - q), m = std::clamp<Index>(d - i, 0, block_rows);
      x.b = columns + j * x.inner;
      update_tiles<K>(rows, std::min(cols, w - j), x, u, i0, j0 + j, m, n, i, j0 + q, edge);
    }
  }
}
/// U^T = A B for w columns of W in rows; `columns` are the d rows of P. Blocks of 256 x 256 from left to right: the next rows of
/// one are still near enough for the first-level cache, and the pages of 256 rows for the tables of pages.
template <class K, class X, class S, bool adds>
void update_in_rows(Index d, Index w, TileOperands<X> x, const X* columns, const WeightUpdate<S, adds>& u, Index j0, S* edge) {
  constexpr Index cols = K::tile_cols;
  for (Index i0 = 0; i0 < d; i0 += block_rows)
    for (Index j = 0; j < w; j += block_rows) {
      const Index end = std::min(d, i0 + block_rows), n = std::min(block_rows, w - j);
      x.offset = j;
      for (Index i = i0; i < end; i += cols) {
        x.b = columns + i * x.inner;
        Index i2 = i + cols, j2 = j;  // what comes next: the following rows, the block to the right or the first one of the next rows
        if (i2 >= end) i2 = i0, j2 = j + block_rows;
        if (j2 >= w) i2 = end, j2 = 0;
        const Index n2 = std::min(block_rows, w - j2), m2 = std::clamp<Index>(d - i2, 0, cols);
        update_tiles<K>(n, std::min(cols, d - i), x, u, i, j0 + j, n2, m2, i2, j0 + j2, edge);
      }
    }
}

}  // namespace detail

}  // namespace linalg
}  // namespace lowrank
