// Products that go straight to their result, as BLAS has them: C in pieces, each by one thread, A packed once a piece (pack.hpp), B
// read where it is or staged. No tile lies between the product and C, and factors and sums of products are part of the one pass
// over it. The bits are gemm()'s for one product without a factor.
#pragma once

#include <array>  // std::array

#include <lowrank/linalg/pack.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

namespace detail {

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

/// C <- alpha A B, C + alpha A B, or, where alpha belongs to `all` of the sum, alpha (C + A B).
template <class S>
struct Result {
  S* c;
  Index ld;
  bool add;
  double alpha = 1;
  bool all = false;
};

template <class K, int registers, class S>
void multiply_tile(Index depth, const S* a, const S* b, Index bk, Index bj, const Result<S>& to, Index rows, Index cols, S* edge) {
  constexpr Index height = registers * K::template lanes<S>, wide = K::tile_cols;
  const bool whole = rows == height && cols == wide;
  const double alpha = to.all ? 1 : to.alpha;
  if (whole && alpha == 1) {
    K::template gemm_tile<registers>(depth, a, b, bk, bj, to.c, to.ld, to.add);
  } else if (whole && to.add) {
    K::template update_tile<registers>(depth, a, b, bk, bj, static_cast<const S*>(nullptr), kernel::Target<S>{to.c, to.ld},
                                       kernel::Motion<S>{S(-alpha)});
  } else {
    K::template gemm_tile<registers>(depth, a, b, bk, bj, edge, height, false);
    for (Index q = 0; q < cols; ++q) K::combine(rows, alpha, edge + q * height, to.add ? 1.0 : 0.0, to.c + q * to.ld, to.c + q * to.ld);
  }
  for (Index q = 0; to.all && to.alpha != 1 && q < cols; ++q) K::combine(rows, to.alpha, to.c + q * to.ld, 0.0, to.c + q * to.ld, to.c + q * to.ld);
}
/// A piece of C over one block of the depth. side: that of the scratch's blocks.
template <class K, class S, class A, class B>
void multiply_piece(const A& a, const B& b, const Piece& piece, Index k0, Index depth, const Result<S>& to, Index side, const Scratch<S>& scratch) {
  constexpr Index L = K::template lanes<S>, wide = K::tile_cols;
  const auto& [i0, rows, j0, cols] = piece;
  pack_panels<K>(a, i0, rows, k0, depth, scratch.rows, scratch.stage);
  for (Index s = 0; s < cols; s += side) {
    const Index width = std::min(side, cols - s);
    const Strips<S> strips = stage_columns<K>(b, k0, depth, j0 + s, width, scratch.stage);
    for (Index j = 0; j < width; j += wide) {
      const Index columns = std::min(wide, width - j);
      const auto [column, bk, bj] = whole_columns(Columns<S>{strips.strip(j, wide), strips.bk, strips.bj}, depth,
                                                          strips.padded ? wide : columns, wide, scratch.edge);
      for (Index i = 0; i < rows; i += 2 * L) {
        const Index high = std::min(2 * L, rows - i);
        Result<S> part = to;
        part.c += i + (s + j) * to.ld;
        if (high > L) multiply_tile<K, 2>(depth, scratch.rows + i * depth, column, bk, bj, part, high, columns, scratch.edge + depth * wide);
        else multiply_tile<K, 1>(depth, scratch.rows + i * depth, column, bk, bj, part, high, columns, scratch.edge + depth * wide);
      }
    }
  }
}

/// The sum of alpha A B over some terms (of members depth, a, b, alpha), without a tile between the product and C, column-major. A
/// factor of several blocks is applied to all of C with the last of them: only to the first term of what is stored.
template <class S, class K, class Terms>
void sum_products(Index m, Index n, const Terms& terms, S* c, Index ldc, Mode mode, const Team<S, K>& team) {
  const Index side = side_of(team);
  const Cut cut(m, n, side, 2 * side, team.threads());
  lowrank::detail::for_each(cut.down * cut.across, team.threads(), [&](Index item, int slot) {
    const Piece piece = cut.piece(item, m, n);
    S* out = c + piece.i0 + piece.j0 * ldc;
    bool add = mode == Mode::Add;
    for (const auto& t : terms)
      for (Index k0 = 0; k0 < t.depth; k0 += block_depth, add = true) {
        const Index depth = std::min(block_depth, t.depth - k0);
        const Result<S> to{out, ldc, add, k0 + depth < t.depth ? 1 : t.alpha, t.depth > block_depth};
        multiply_piece<K>(t.a, t.b, piece, k0, depth, to, side, team[slot]);
      }
    for (Index j = 0; !add && j < piece.cols; ++j) std::fill_n(out + j * ldc, piece.rows, S(0));
  });
}

}  // namespace detail

/// C <- A B by all threads, A m x depth and B depth x n in memory, C column-major and apart from them: the bits of gemm(), faster where
/// the operands are large.
template <class S, class K>
void product(Index m, Index n, Index depth, const Strided<S, K>& a, const Strided<S, K>& b, S* c, Index ldc, const Team<S, K>& team) {
  struct Term {
    Index depth;
    Strided<S, K> a, b;
    double alpha = 1;
  };
  detail::sum_products(m, n, std::array{Term{depth, a, b}}, c, ldc, Mode::Store, team);
}

}  // namespace linalg
}  // namespace lowrank
