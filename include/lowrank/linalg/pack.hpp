// Packing of what is already in memory as numbers of S: into the panels of gemm.hpp, in one pass over whole runs. Blocks of a
// large matrix are runs some pages apart, so they are read in pieces as long as the block allows, not as short as a panel.
#pragma once

#include <lowrank/linalg/gemm.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

/// The first m x depth numbers of X, as detail::pack() puts them: panels of 2 registers, the last of 1 if that is enough, row i in
/// the panel that begins at packed + (i - i % height) * depth; zeros below the last row.
template <class K, class S>
void pack_panels(const Strided<S, K>& x, Index m, Index depth, S* packed) {
  using V = typename K::template V<S>;
  constexpr Index L = V::lanes, height = 2 * L;
  const Index whole = m / height * height, left = m - whole, last = left > L ? height : L;
  if (x.row_stride == 1) {
    for (Index p = 0; p < depth; ++p) {
      const S* from = x.data + p * x.col_stride;
      S* to = packed + p * height;
      for (Index i = 0; i < whole; i += height, to += height * depth) {
        V::load(from + i).store(to);
        V::load(from + i + L).store(to + L);
      }
    }
    if (left == 0) return;
    for (Index p = 0; p < depth; ++p) {
      const S* from = x.data + whole + p * x.col_stride;
      S* to = packed + whole * depth + p * last;
      V::load(from, std::min(left, L)).store(to);
      if (last > L) V::load(from + L, left - L).store(to + L);
    }
    return;
  }
  for (Index i = 0; i < whole; i += height) K::transpose(depth, height, x.data + i * x.row_stride, x.row_stride, packed + i * depth, height);
  if (left == 0) return;
  if (left < last) std::fill_n(packed + whole * depth, last * depth, S(0));
  K::transpose(depth, left, x.data + whole * x.row_stride, x.row_stride, packed + whole * depth, last);
}

/// The same for any operand; strip: a block of memory for one that has to be made first.
template <class K, class S, class A>
void pack_panels(const A& a, Index i0, Index m, Index k0, Index depth, S* packed, S* strip) {
  if constexpr (requires { a.in_place(i0, k0); })
    if (const Strided<S, K> x = a.in_place(i0, k0); x.data != nullptr) return pack_panels<K>(x, m, depth, packed);
  detail::pack<K>(a, i0, m, k0, depth, packed, strip);
}

/// Columns of a block as a tile reads them: `cols` of them begin at strip(j), j a multiple of cols; one of bk, bj is 1.
template <class S>
struct Strips {
  const S* data;
  Index bk, bj, apart;  // from the columns of one tile to those of the next
  bool padded;          // zeros follow the last column, up to a whole tile

  const S* strip(Index j, Index cols) const { return data + j / cols * apart; }
};

/// Rows [k0, k0 + depth) and columns [j0, j0 + n) of B: where they are if columns lie in memory as such, otherwise in `stage`.
template <class K, class S, class B>
Strips<S> stage_columns(const B& b, Index k0, Index depth, Index j0, Index n, S* stage) {
  constexpr Index cols = K::tile_cols;
  if constexpr (requires { b.in_place(k0, j0); })
    if (const Strided<S, K> x = b.in_place(k0, j0); x.data != nullptr) {
      if (x.row_stride == 1) return {x.data, 1, x.col_stride, cols * x.col_stride, false};
      K::stage_rows(depth, n, x.data, x.row_stride, stage);
      return {stage, cols, 1, K::group_stride(depth), true};
    }
  const Index ld = depth + stage_padding;
  b.load(k0, depth, j0, n, stage, ld);
  return {stage, 1, ld, cols * ld, false};
}

}  // namespace linalg
}  // namespace lowrank
