// Matrix products on this library's terms: operands of any storage order and scalar, memory owned by the caller, and the
// same bits for any thread count, tile or storage order.
//
// C = A B is cut along its inner dimension in blocks of 256. A is packed into panels as high as a gemm_tile, B is read
// where it is, or staged as columns if its numbers have to be made first. One element of C is a chain of fused
// multiply-adds over each block, the blocks added in order: nothing else about the cut (rows, columns, threads) can
// change it.
//
// Eigen's kernel (gebp) was the alternative. It packs both operands, picks the inner block from cache sizes and thread
// count (so the bits change with either) and allocates; the tile below reaches the same rate or more (bench/gemm.cpp).
#pragma once

#include <array>  // std::array

#include <lowrank/linalg/pack.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

enum class Mode { Store, Add };  // C <- A B, or C <- C + A B

namespace detail {

/// C (=, +=) A B, A packed m x depth, B(p, j) = b[p * bk + j * bj], one of the strides being 1. X is S, or Bf16Pair: depth in pairs.
template <class K, class X, class S, class Ahead = kernel::Idle>
void multiply(Index m, Index n, Index depth, const X* a, const X* b, Index bk, Index bj, S* c, Index ldc,
              bool accumulate, S* edge, Ahead&& ahead = {}) {
  constexpr Index L = K::template lanes<S>, cols = K::tile_cols;
  for (Index j = 0; j < n; j += cols) {
    const Index width = std::min(cols, n - j);
    const auto [column, step_k, step_j] = whole_columns(Columns<X>{b + j * bj, bk, bj}, depth, width, cols, edge);
    for (Index i = 0; i < m; i += 2 * L) {
      const Index height = m - i > L ? 2 * L : L, rows = std::min(height, m - i);
      S* out = c + i + j * ldc;
      S* tile = edge + depth * cols;
      const bool whole = rows == height && width == cols;
      if (height == 2 * L)
        K::template gemm_tile<2>(depth, a + i * depth, column, step_k, step_j, whole ? out : tile, whole ? ldc : height,
                                 whole && accumulate, ahead);
      else
        K::template gemm_tile<1>(depth, a + i * depth, column, step_k, step_j, whole ? out : tile, whole ? ldc : height,
                                 whole && accumulate, ahead);
      if (whole) continue;
      for (Index q = 0; q < width; ++q)
        for (Index p = 0; p < rows; ++p)
          out[p + q * ldc] = accumulate ? out[p + q * ldc] + tile[p + q * height] : tile[p + q * height];
    }
  }
}

struct Piece {
  Index i0, rows, j0, cols;
};
/// How a result is cut into pieces.
struct Cut {
  /// The same for any number of threads.
  Cut(Index m, Index n, Index side)
      : height(m <= side ? std::max<Index>(1, n > m ? std::min(m, tile_columns) : m) : side), width(std::max<Index>(1, std::min(n, side))) {
    count(m, n);
  }
  /// As wide as `widest`, for A is packed once for all columns, but some pieces for each thread.
  Cut(Index m, Index n, Index side, Index widest, int threads)
      : height(std::max<Index>(1, std::min(m, side))), width(std::max<Index>(1, std::min(n, widest))) {
    for (count(m, n); threads > 1 && down * across < 4 * threads && std::max(height, width) > tile_columns; count(m, n)) {
      Index& longer = width >= height ? width : height;
      longer = (longer / 2 + tile_columns - 1) / tile_columns * tile_columns;
    }
  }
  Piece piece(Index item, Index m, Index n) const {
    const Index i0 = item % down * height, j0 = item / down * width;
    return {i0, std::min(height, m - i0), j0, std::min(width, n - j0)};
  }
  Index height, width, down = 0, across = 0;

 private:
  void count(Index m, Index n) {
    down = (m + height - 1) / height;
    across = (n + width - 1) / width;
  }
};

/// Of a block of the team's memory.
template <class S, class K>
Index side_of(const Team<S, K>& team) { return team.block_size() >= block_rows * block_rows ? block_rows : tile_columns; }

/// C <- A B, or C + A B.
template <class S>
struct Result {
  S* c;
  Index ld;
  bool add;
};
/// With alpha A B for A B; or, where alpha belongs to `all` of the sum, alpha (C + A B).
template <class S>
struct ScaledResult : Result<S> {
  double alpha = 1;
  bool all = false;
};

/// One tile of the result; `ahead` as in gemm_tile.
template <class K, int registers, class S, class Ahead = kernel::Idle>
void multiply_tile(Index depth, const S* a, const S* b, Index bk, Index bj, const Result<S>& to, Index rows, Index cols, S* edge, double alpha = 1,
                   Ahead&& ahead = {}) {
  constexpr Index height = registers * K::template lanes<S>, wide = K::tile_cols;
  if (rows == height && cols == wide && alpha == 1) return K::template gemm_tile<registers>(depth, a, b, bk, bj, to.c, to.ld, to.add, ahead);
  K::template gemm_tile<registers>(depth, a, b, bk, bj, edge, height, false, ahead);
  for (Index q = 0; q < cols; ++q) K::combine(rows, alpha, edge + q * height, to.add ? 1.0 : 0.0, to.c + q * to.ld, to.c + q * to.ld);
}
template <class K, int registers, class S>
void multiply_tile(Index depth, const S* a, const S* b, Index bk, Index bj, const ScaledResult<S>& to, Index rows, Index cols, S* edge) {
  constexpr Index height = registers * K::template lanes<S>;
  if (rows == height && cols == K::tile_cols && to.add && to.alpha != 1 && !to.all)
    return K::template update_tile<registers>(depth, a, b, bk, bj, static_cast<const S*>(nullptr), kernel::Target<S>{to.c, to.ld},
                                              kernel::Motion<S>{S(-to.alpha)});
  multiply_tile<K, registers, S>(depth, a, b, bk, bj, static_cast<const Result<S>&>(to), rows, cols, edge, to.all ? 1 : to.alpha);
  for (Index q = 0; to.all && to.alpha != 1 && q < cols; ++q) K::combine(rows, to.alpha, to.c + q * to.ld, 0.0, to.c + q * to.ld, to.c + q * to.ld);
}

/// A packed rows x depth, times the columns of B.
template <class K, class S, class To>
LOWRANK_NOINLINE void multiply_strips(Index rows, Index width, Index depth, const S* a, const Strips<S>& strips, const To& to, S* edge) {
  constexpr Index L = K::template lanes<S>, wide = K::tile_cols;
  const auto tile = [&](Index i, Index j, const Columns<S>& b) {
    const Index high = std::min(2 * L, rows - i), columns = std::min(wide, width - j);
    To part = to;
    part.c += i + j * to.ld;
    kernel::expect(part.c, high, columns, to.ld);
    if (high > L) multiply_tile<K, 2>(depth, a + i * depth, b.b, b.bk, b.bj, part, high, columns, edge + depth * wide);
    else multiply_tile<K, 1>(depth, a + i * depth, b.b, b.bk, b.bj, part, high, columns, edge + depth * wide);
  };
  const Index whole = strips.padded ? width : width / wide * wide;
  for (Index j = 0; j < whole; j += wide)
    for (Index i = 0; i < rows; i += 2 * L) tile(i, j, {strips.strip(j, wide), strips.bk, strips.bj});
  if (whole >= width) return;
  const Columns<S> last = whole_columns(Columns<S>{strips.strip(whole, wide), strips.bk, strips.bj}, depth, width - whole, wide, edge);
  for (Index i = 0; i < rows; i += 2 * L) tile(i, whole, last);
}

/// A piece of C over one block of the depth. side: that of the scratch's blocks.
template <class K, class S, class A, class B, class To>
void multiply_piece(const A& a, const B& b, const Piece& piece, Index k0, Index depth, To to, Index side, const Scratch<S>& scratch) {
  const auto& [i0, rows, j0, cols] = piece;
  pack<K>(a, i0, rows, k0, depth, scratch.rows, scratch.stage);
  for (Index s = 0; s < cols; s += side, to.c += side * to.ld) {
    const Index width = std::min(side, cols - s);
    multiply_strips<K>(rows, width, depth, scratch.rows, stage_columns<K>(b, k0, depth, j0 + s, width, scratch.stage), to, scratch.edge);
  }
}

/// The sum of A B over some terms (of members depth, a, b), or of alpha A B, without a tile between the product and C, column-major. A
/// factor of several blocks is applied to all of C with the last of them: only to the first term of what is stored.
template <class S, class K, class Terms>
void sum_products(Index m, Index n, const Terms& terms, S* c, Index ldc, Mode mode, const Team<S, K>& team) {
  const Index side = side_of(team);
  const Cut cut(m, n, side, 4 * side, team.threads());
  lowrank::detail::for_each(cut.down * cut.across, team.threads(), [&](Index item, int slot) {
    const Piece piece = cut.piece(item, m, n);
    S* out = c + piece.i0 + piece.j0 * ldc;
    bool add = mode == Mode::Add;
    for (const auto& t : terms)
      for (Index k0 = 0; k0 < t.depth; k0 += block_depth, add = true) {
        const Index depth = std::min(block_depth, t.depth - k0);
        const Result<S> to{out, ldc, add};
        if constexpr (requires { t.alpha; })
          multiply_piece<K>(t.a, t.b, piece, k0, depth, ScaledResult<S>{to, k0 + depth < t.depth ? 1 : t.alpha, t.depth > block_depth}, side, team[slot]);
        else
          multiply_piece<K>(t.a, t.b, piece, k0, depth, to, side, team[slot]);
      }
    for (Index j = 0; !add && j < piece.cols; ++j) std::fill_n(out + j * ldc, piece.rows, S(0));
  });
}

}  // namespace detail

/// C (=, +=) A B: A m x depth and B depth x n operands, C column-major with leading dimension ldc, apart from A and B.
/// Adding, C is what the first block is added to: for a depth of one block, the bits of C + (A B).
template <class K, class S, class A, class B>
void gemm(Index m, Index n, Index depth, const A& a, const B& b, S* c, Index ldc, const Team<S, K>& team,
          Mode mode = Mode::Store) {
  struct Term {
    Index depth;
    const A& a;
    const B& b;
  };
  detail::sum_products(m, n, std::array{Term{depth, a, b}}, c, ldc, mode, team);
}

}  // namespace linalg
}  // namespace lowrank
