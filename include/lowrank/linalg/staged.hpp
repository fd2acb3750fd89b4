// A large product whose columns of B are put side by side once, for all rows: read where they are, pages apart, they cost a tenth
// of the rate, and put side by side for each block of rows (gemm.hpp) as much. The bits are gemm()'s.
//
// In rounds of as many blocks of the depth as there is room for: all threads stage B, then each packs rows of A and multiplies.
#pragma once

#include <lowrank/linalg/gemm.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

namespace detail {

/// A tile of C, the columns of B side by side; `ahead` as in gemm_tile.
template <class K, class S, class Ahead>
void staged_tile(Index depth, const S* a, const S* b, S* c, Index ldc, bool add, Index rows, Index cols, S* edge, Ahead&& ahead) {
  const Result<S> to{c, ldc, add};
  kernel::expect(c, rows, cols, ldc);
  if (rows > K::template lanes<S>) multiply_tile<K, 2>(depth, a, b, K::tile_cols, Index(1), to, rows, cols, edge, 1, ahead);
  else multiply_tile<K, 1>(depth, a, b, K::tile_cols, Index(1), to, rows, cols, edge, 1, ahead);
}

}  // namespace detail

/// C <- A B, A m x depth and B depth x n in memory, C column-major and apart from them. room: memory for `size` numbers of B.
template <class S, class K>
void staged_product(Index m, Index n, Index depth, const Strided<S, K>& a, const Strided<S, K>& b, S* c, Index ldc, S* room, Index size,
                    const Team<S, K>& team) {
  constexpr Index cols = K::tile_cols, height = 2 * K::template lanes<S>, few = 4 * block_rows;
  const Index stages = (n + height - 1) / height, groups = stages * (height / cols);
  const Index apart = groups * K::group_stride(block_depth), blocks = size / apart;  // of the depth, in a round
  if (m <= few || blocks == 0) return gemm<K>(m, n, depth, a, b, c, ldc, team);  // B stays in the caches: no need
  const detail::Cut cut(m, n, block_rows, n, team.threads());
  for (Index round = 0; round < depth; round += blocks * block_depth) {
    const Index end = std::min(depth, round + blocks * block_depth), staged = (end - round + block_depth - 1) / block_depth;
    const auto group = [&](Index block, Index inner, Index j) { return room + block * apart + j / cols * K::group_stride(inner); };
    lowrank::detail::for_each(staged * stages, team.threads(), [&](Index item, int slot) {
      const Index block = item / stages, k0 = round + block * block_depth, inner = std::min(block_depth, end - k0);
      const Index j0 = item % stages * height, width = std::min(height, n - j0);
      const Strided<S, K> from = b.in_place(k0, j0);
      S* to = group(block, inner, j0);
      if (from.col_stride == 1) return K::stage_rows(inner, width, from.data, from.row_stride, to);
      S* turned = team[slot].stage;
      K::transpose(inner, width, from.data, from.col_stride, turned, height);
      K::stage_rows(inner, width, turned, height, to);
    });
    lowrank::detail::for_each(cut.down * cut.across, team.threads(), [&](Index item, int slot) {
      const Scratch<S> scratch = team[slot];
      const auto [i0, rows, j0, width] = cut.piece(item, m, n);
      for (Index block = 0; block < staged; ++block) {
        const Index k0 = round + block * block_depth, inner = std::min(block_depth, end - k0);
        pack_panels<K>(a.in_place(i0, k0), rows, inner, scratch.rows, inner);
        for (Index j = 0; j < width; j += cols) {
          const S *columns = group(block, inner, j0 + j), *next = columns + K::group_stride(inner);
          for (Index i = 0; i < rows; i += height) {
            const Index high = std::min(height, rows - i), share = inner * cols * high / rows;  // of the next group, during this tile
            detail::staged_tile<K>(inner, scratch.rows + i * inner, columns, c + i0 + i + (j0 + j) * ldc, ldc, k0 > 0, high,
                                   std::min(cols, width - j), scratch.edge, kernel::Spread(next, share, inner));
            next += share;
          }
        }
      }
    });
  }
}

}  // namespace linalg
}  // namespace lowrank
