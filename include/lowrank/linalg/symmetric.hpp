// Symmetric products: C = X X^T (n x n), one triangle computed and the other mirrored, so half the operations of gemm().
//
// X (n x depth) is packed once, by all threads, into panels as high as a gemm_tile; a panel serves as rows of X and,
// read the other way, as columns of X^T, so nothing else is packed. Each entry is the chain of gemm(): its bits are the
// same for any thread count, and C is symmetric to the bit. Packed depth is bounded; deeper products run in several rounds.
//
// Source: the level-3 BLAS name is syrk (Dongarra, Du Croz, Hammarling, Duff, ACM TOMS 16, 1990).
#pragma once

#include <lowrank/linalg/gemm.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

/// Whether the upper triangle is written too.
enum class Triangle { Lower, Both };

template <class S, class K>
class SymmetricProduct {
 public:
  static constexpr Index height = 2 * K::template lanes<S>;  // of a panel
  static constexpr Index packed_depth = 4 * block_depth;     // of a round

  SymmetricProduct() = default;
  /// For n rows, or fewer, and products no deeper than `depth`.
  SymmetricProduct(Arena& arena, Index n, Index depth)
      : packed_(arena.take<S>((n + height - 1) / height * height * std::min(depth, packed_depth))), depth_(std::min(depth, packed_depth)) {}

  /// C = X X^T for X of one unit stride. `packed(i0, rows, k0, depth)` is called for each piece of X as it is packed;
  /// `done(i0, rows, j0, cols)`, once each tile of the lower triangle is complete (i0 >= j0), before it is mirrored. Both from any
  /// thread. The team's scratch may be of any size.
  template <class Packed, class Done>
  void operator()(Index n, Index depth, const Strided<S, K>& x, S* c, Index ldc, Triangle triangle, const Team<S, K>& team,
                  const Packed& packed, const Done& done) const {
    const Index panels = (n + height - 1) / height;
    const Index block = panels <= 8 ? 1 : panels <= 16 ? 2 : 4;  // panels of a task, on either side: enough tasks for threads
    const Index blocks = (panels + block - 1) / block;
    const Index rise = panels * height;  // rows of a packed block of depth
    for (Index round = 0; round < depth; round += depth_) {
      const Index end = std::min(depth, round + depth_), cuts = (end - round + block_depth - 1) / block_depth;
      lowrank::detail::for_each(cuts * panels, team.threads(), [&](Index item, int) {
        const Index k0 = round + item / panels * block_depth, inner = std::min(block_depth, end - k0);
        const Index i0 = item % panels * height, rows = std::min(height, n - i0);
        pack(x, i0, rows, k0, inner, packed_ + rise * (k0 - round) + i0 * inner);
        packed(i0, rows, k0, inner);
      });
      lowrank::detail::for_each(blocks * (blocks + 1) / 2, team.threads(), [&](Index item, int slot) {
        const auto [I, J] = place(item, blocks);
        S* edge = team[slot].edge;
        const Index last_i = std::min(panels, (I + 1) * block), last_j = std::min(panels, (J + 1) * block);
        for (Index k0 = round; k0 < end; k0 += block_depth) {
          const Index inner = std::min(block_depth, end - k0);
          const S* from = packed_ + rise * (k0 - round);
          for (Index j = J * block; j < last_j; ++j)
            for (Index q = 0; q < height && j * height + q < n; q += cols)
              for (Index i = std::max(j, I * block); i < last_i; ++i)
                tile(n, inner, from + i * height * inner, from + j * height * inner + q, i * height, j * height + q, c, ldc,
                     k0 > 0, edge);
        }
        if (end < depth) return;
        for (Index j = J * block; j < last_j; ++j)
          for (Index i = std::max(j, I * block); i < last_i; ++i) {
            const Index i0 = i * height, j0 = j * height, rows = std::min(height, n - i0), width = std::min(height, n - j0);
            done(i0, rows, j0, width);
            if (triangle == Triangle::Both && i > j) K::transpose(rows, width, c + i0 + j0 * ldc, ldc, c + j0 + i0 * ldc, ldc);
          }
      });
    }
  }
  void operator()(Index n, Index depth, const Strided<S, K>& x, S* c, Index ldc, Triangle triangle, const Team<S, K>& team) const {
    (*this)(n, depth, x, c, ldc, triangle, team, [](Index, Index, Index, Index) {}, [](Index, Index, Index, Index) {});
  }

  /// Rows [i0, i0 + rows) of X, `height` of them, columns [k0, k0 + depth), as a panel: column-major without gaps, zeros below.
  static void pack(const Strided<S, K>& x, Index i0, Index rows, Index k0, Index depth, S* panel) {
    using V = typename K::template V<S>;
    const S* from = x.data + i0 * x.row_stride + k0 * x.col_stride;
    if (rows < height) std::fill_n(panel, height * depth, S(0));
    if (x.row_stride != 1) {
      K::transpose(depth, rows, from, x.row_stride, panel, height);
    } else if (rows < height) {
      for (Index p = 0; p < depth; ++p) std::memcpy(panel + p * height, from + p * x.col_stride, std::size_t(rows) * sizeof(S));
    } else {
      for (Index p = 0; p < depth; ++p)
        for (Index l = 0; l < height; l += V::lanes) V::load(from + p * x.col_stride + l).store(panel + p * height + l);
    }
  }

 private:
  static constexpr Index cols = K::tile_cols;
  static_assert(height % cols == 0);

  struct Place {
    Index i, j;
  };
  /// Block (i, j), i >= j, of the item-th task: whole ones first, the halves on the diagonal last.
  static Place place(Index item, Index blocks) {
    Index i = 1;
    for (; i < blocks && item >= i; ++i) item -= i;
    return i < blocks ? Place{i, item} : Place{item, item};
  }

  /// C(i0.., j0..) (=, +=) one panel times `cols` columns of another's transpose.
  static void tile(Index n, Index depth, const S* a, const S* b, Index i0, Index j0, S* c, Index ldc, bool accumulate, S* edge) {
    S* out = c + i0 + j0 * ldc;
    const Index rows = std::min(height, n - i0), width = std::min(cols, n - j0);
    if (rows == height && width == cols) return K::template gemm_tile<2>(depth, a, b, height, Index(1), out, ldc, accumulate);
    K::template gemm_tile<2>(depth, a, b, height, Index(1), edge, height, false);
    for (Index q = 0; q < width; ++q)
      for (Index p = 0; p < rows; ++p)
        out[p + q * ldc] = accumulate ? out[p + q * ldc] + edge[p + q * height] : edge[p + q * height];
  }

  S* packed_ = nullptr;
  Index depth_ = 0;
};

}  // namespace linalg
}  // namespace lowrank
