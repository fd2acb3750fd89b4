// PackedBasis: a basis P (d x r) made ready for the two products of a step, R = P^T A and U = P N. A and the weight that U
// moves are read and written where they are, once, in either storage order: what is repacked is P and N, which are small.
//
//   columns (A(i, j) at a[i + j ld])   a tile of R has P in its lanes; a tile of U has P in its lanes
//   rows    (A(i, j) at a[i ld + j])   the same, of A copied meanwhile (row_projection.hpp); a tile of U^T has N in its lanes
//
// One element is the same chain of multiply-adds either way (gemm.hpp), so the bits do not depend on the order.
#pragma once

#include <lowrank/linalg/narrow.hpp>
#include <lowrank/linalg/narrow_update.hpp>
#include <lowrank/linalg/row_projection.hpp>
#include <lowrank/linalg/weight_update.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

/// Each packing costs d * r copies a step, 1/k of the product it serves.
template <class S, class K>
struct PackedBasis {
  Index d = 0, r = 0;
  S* down = nullptr;  // P^T: blocks of 256 along d, each padded(r) x depth
  S* up = nullptr;    // P: blocks of 256 along r, each padded(d) x depth; or P^T as it is, r x d

  PackedBasis() = default;
  PackedBasis(Arena& arena, Index dimension, Index rank)
      : d(dimension), r(rank), down(arena.take<S>(padded<K, S>(r) * d)), up(arena.take<S>(padded<K, S>(d) * r)) {}

  /// Packs scale P^T for project(), whatever the order of the matrix; P is an operand.
  template <class A>
  void pack_down(const A& transposed_basis, const Team<S, K>& team, double scale = 1) {
    lowrank::detail::for_each((d + block_depth - 1) / block_depth, packers(team), [&](Index b, int slot) {
      const Index k0 = b * block_depth;
      const Index depth = std::min(block_depth, d - k0);
      S* block = down + padded<K, S>(r) * k0;
      for (Index i = 0; i < r; i += block_rows)
        detail::pack<K>(transposed_basis, i, std::min(block_rows, r - i), k0, depth, block + i * depth, team[slot].stage);
      if (scale != 1) K::combine(padded<K, S>(r) * depth, scale, block, 0.0, block, block);
    });
  }
  /// Packs P for lift(), and for update() of weights in columns.
  template <class A>
  void pack_up(const A& basis, const Team<S, K>& team) const {
    lowrank::detail::for_each((d + block_rows - 1) / block_rows, packers(team), [&](Index b, int slot) {
      const Index i0 = b * block_rows;
      for (Index k0 = 0; k0 < r; k0 += block_depth) {
        const Index depth = std::min(block_depth, r - k0);
        detail::pack<K>(basis, i0, std::min(block_rows, d - i0), k0, depth, up + padded<K, S>(d) * k0 + i0 * depth,
                        team[slot].stage);
      }
    });
  }
  /// Packs P for update() of weights in rows.
  template <class A>
  void pack_rows(const A& transposed_basis, const Team<S, K>& team) const {
    lowrank::detail::for_each((d + block_rows - 1) / block_rows, packers(team), [&](Index b, int) {
      const Index i0 = b * block_rows;
      transposed_basis.load(0, r, i0, std::min(block_rows, d - i0), up + i0 * r, r);
    });
  }

  /// R = P^T A for the w columns from j0: R r x w, leading dimension r. energy[j] = ||a_j||^2 (when not null).
  /// Of scale A, read where A is, once, with the scale that was packed.
  template <class A>
  void project(const A& a, Index j0, Index w, S* R, double* energy, const Scratch<S>& scratch, double scale = 1) const {
    const Strided<S, K> there = a.in_place(0, j0);
    if (narrow() && there.data != nullptr) return project_narrow(there, w, R, energy, scale, scratch.stage);
    if (there.data == nullptr) {
      for (Index j = 0; j < w; j += block_rows)  // as many columns as can be loaded
        project_columns(a, j0 + j, std::min(block_rows, w - j), R + j * r, energy == nullptr ? nullptr : energy + j, scratch, scale);
    } else if (there.row_stride == 1) {
      project_columns(a, j0, w, R, energy, scratch, scale);
    } else {
      RowProjection<S, K>(down, d, r)(there.data, there.row_stride, w, R, energy, scale, scratch);
    }
  }

  /// U = P N for w columns of N (leading dimension r), handed over in blocks: sink(i0, m, j, n, U, ld) gets rows
  /// [i0, i0+m) of columns [j, j+n) in memory it may write to.
  template <class Sink>
  void lift(const S* N, Index w, const Scratch<S>& scratch, const Sink& sink) const {
    for (Index i0 = 0; i0 < d; i0 += block_rows) {
      const Index rows = std::min(block_rows, d - i0);
      for (Index k0 = 0; k0 < r; k0 += block_depth) {
        const Index depth = std::min(block_depth, r - k0);
        detail::multiply<K>(rows, w, depth, up + padded<K, S>(d) * k0 + i0 * depth, N + k0, 1, r, scratch.rows, rows,
                            k0 > 0, scratch.edge);
      }
      sink(i0, rows, Index(0), w, scratch.rows, rows);
    }
  }

  /// Whether update() can be used: where W is in rows, N of 64 columns must fit the scratch.
  bool updates(Order order, const Team<S, K>& team) const {
    return order == Order::Columns || r * tile_columns <= team.block_size();
  }
  /// The update of columns [j0, j0+w), w <= 64 or as many as fit, by U = P N (leading dimension of N is r): in the registers that
  /// hold U, so that W is read and written once and U is not stored. With it and Ahead a GaLore step of r = 32 on 4096 x 4096 is
  /// 1.35 (columns) to 1.5 (rows) times as fast as with lift() and a second pass over each block.
  template <bool adds>
  void update(const S* N, Index j0, Index w, const WeightUpdate<S, adds>& u, const Scratch<S>& scratch) const {
    if (narrow()) {
      if (u.order == Order::Columns) return NarrowUpdate<S, K, 1>::columns(d, w, N, up, u, j0, scratch.rows);
      return NarrowUpdate<S, K, 1>::rows(d, w, N, BasisRows<S>{up, 1, 1}, u, j0, scratch.rows);
    }
    if (u.order == Order::Columns)
      return detail::update_in_columns<K>(d, w, detail::TileOperands<S>{r, block_depth, up, padded<K, S>(d), 0, nullptr}, N, u, j0, scratch.edge);
    const Strided<S, K> transposed{N, r, 1};
    for (Index k0 = 0; k0 < r; k0 += block_depth)
      detail::pack<K>(transposed, 0, w, k0, std::min(block_depth, r - k0), scratch.rows + padded<K, S>(w) * k0, scratch.stage);
    detail::update_in_rows<K>(d, w, detail::TileOperands<S>{r, block_depth, scratch.rows, padded<K, S>(w), 0, nullptr}, up, u, j0, scratch.edge);
  }

 private:
  /// Threads that pack. Where the product has far more to do than the packing, a second one saves less than waiting for it costs if its
  /// core is busy.
  int packers(const Team<S, K>& team) const {
    constexpr Index many_columns = 2048, few_numbers = 1 << 18;  // unless a side is asked for, the product has at least as many columns as d
    return d >= many_columns && d * r <= few_numbers ? 1 : team.threads();
  }

  template <class A>
  void project_columns(const A& a, Index j0, Index w, S* R, double* energy, const Scratch<S>& scratch, double scale) const {
    constexpr Index cols = K::tile_cols;
    const Strided<S, K> there = a.in_place(0, j0);
    const bool loaded = there.data == nullptr;
    if (energy != nullptr) std::fill_n(energy, w, 0.0);
    for (Index k0 = 0; k0 < d; k0 += block_depth) {
      const Index depth = std::min(block_depth, d - k0);
      const S* packed = down + padded<K, S>(r) * k0;
      const Index ld = loaded ? depth + stage_padding : there.col_stride;
      if (loaded) a.load(k0, depth, j0, w, scratch.stage, ld);
      const S* block = loaded ? scratch.stage : there.data + k0;
      for (Index j = 0; j < w; j += cols) {
        const S* column = block + j * ld;
        const Index width = std::min(cols, w - j);
        if (energy != nullptr)
          for (Index q = 0; q < width; ++q) energy[j + q] += K::sum_squares(depth, column + q * ld, scale);
        kernel::Ahead<kernel::Access::Read> ahead;  // the following columns, or the first ones of the next rows
        if (!loaded && j + cols < w) ahead = {column + cols * ld, depth, std::min(cols, w - j - cols), ld};
        else if (!loaded) ahead = {block + depth, std::min(block_depth, d - k0 - depth), std::min(cols, w), ld};
        detail::multiply<K>(r, width, depth, packed, column, 1, ld, R + j * r, r, k0 > 0, scratch.edge, ahead);
      }
    }
  }

  /// Of one direction, which streams. Up to four would gain as well, but each costs all who include this half a second of compilation.
  bool narrow() const { return r == 1; }
  void project_narrow(const Strided<S, K>& a, Index w, S* R, double* energy, double scale, S* room) const {
    using Narrow = NarrowProjection<S, K, 1>;
    if (a.row_stride == 1) Narrow::columns(d, w, a.data, a.col_stride, down, scale, R, energy);
    else Narrow::rows(d, w, a.data, a.row_stride, down, scale, R, energy, room);
  }
};

}  // namespace linalg
}  // namespace lowrank
