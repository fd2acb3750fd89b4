// Bf16Basis: PackedBasis for products of bf16 numbers with float sums. P, and the numbers of A and N as they are staged, are rounded to
// bf16; R, U and W stay float. What a pair of numbers costs is the kernel set's (kernel/avx512_bf16.hpp).
//
// Error of one element, its terms t: at most 2^-7 sum |t| from two roundings of 2^-8 each, in practice 2^-8.7 sqrt(sum t^2) since they are
// independent; what the sum of floats adds is far below. ||a_j||^2 is exact as ever: it is taken from A before rounding.
// One element is one chain of multiply-adds over blocks of 256, in pairs (kernel/bf16.hpp): the bits do not depend on storage order or threads.
#pragma once

#include <lowrank/linalg/weight_update.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

using kernel::Bf16Pair;

/// Numbers in pairs: the last one may stand alone.
constexpr Index pairs(Index numbers) { return (numbers + 1) / 2; }

namespace detail {

/// pack() of scale A for pairs along the depth.
template <class K, class A>
void pack_pairs(const A& a, Index i0, Index m, Index k0, Index depth, Bf16Pair* packed, float* strip, double scale = 1) {
  constexpr Index L = K::template lanes<float>, wide = 16;
  for (Index k = 0; k < depth; k += wide) {
    const Index n = std::min(wide, depth - k);
    a.load(i0, m, k0 + k, n, strip, m);
    if (scale != 1) K::combine(m * n, scale, strip, 0.0, strip, strip);
    if (n % 2 == 1) std::fill_n(strip + n * m, m, 0.0f);
    for (Index p = 0; p < m; p += 2 * L) {
      const Index height = m - p > L ? 2 * L : L, rows = std::min(height, m - p);
      Bf16Pair* panel = packed + p * pairs(depth) + k / 2 * height;
      for (Index j = 0; j < n; j += 2, panel += height) {
        K::pair(rows, strip + p + j * m, strip + p + (j + 1) * m, panel);
        std::fill_n(panel + rows, height - rows, Bf16Pair(0));
      }
    }
  }
}

}  // namespace detail

template <class K>
struct Bf16Basis {
  Index d = 0, r = 0;
  Bf16Pair* down = nullptr;  // P^T: blocks of 256 along d, each padded(r) x pairs(depth)
  Bf16Pair* up = nullptr;    // P: blocks of 256 along r, each padded(d) x pairs(depth); or P^T, pairs(r) x d

  Bf16Basis() = default;
  Bf16Basis(Arena& arena, Index dimension, Index rank)
      : d(dimension), r(rank), down(arena.take<Bf16Pair>(padded<K, float>(r) * pairs(d))), up(arena.take<Bf16Pair>(padded<K, float>(d) * pairs(r))) {}

  /// Packs scale P^T; P is an operand.
  template <class A>
  void pack_down(const A& transposed_basis, const Team<float, K>& team, double scale = 1) const {
    lowrank::detail::for_each((d + block_depth - 1) / block_depth, team.threads(), [&](Index b, int slot) {
      const Index k0 = b * block_depth, depth = std::min(block_depth, d - k0);
      for (Index i = 0; i < r; i += block_rows)
        detail::pack_pairs<K>(transposed_basis, i, std::min(block_rows, r - i), k0, depth,
                              down + padded<K, float>(r) * (k0 / 2) + i * pairs(depth), team[slot].stage, scale);
    });
  }
  /// Packs P for lift(), and for update() of weights in columns.
  template <class A>
  void pack_up(const A& basis, const Team<float, K>& team) const {
    lowrank::detail::for_each((d + block_rows - 1) / block_rows, team.threads(), [&](Index b, int slot) {
      const Index i0 = b * block_rows;
      for (Index k0 = 0; k0 < r; k0 += block_depth) {
        const Index depth = std::min(block_depth, r - k0);
        detail::pack_pairs<K>(basis, i0, std::min(block_rows, d - i0), k0, depth,
                              up + padded<K, float>(d) * (k0 / 2) + i0 * pairs(depth), team[slot].stage);
      }
    });
  }
  /// Packs P for update() of weights in rows.
  template <class A>
  void pack_rows(const A& transposed_basis, const Team<float, K>& team) const {
    lowrank::detail::for_each((d + block_rows - 1) / block_rows, team.threads(), [&](Index b, int slot) {
      const Index i0 = b * block_rows, m = std::min(block_rows, d - i0);
      for (Index k0 = 0; k0 < r; k0 += block_depth) {
        const Index depth = std::min(block_depth, r - k0);
        transposed_basis.load(k0, depth, i0, m, team[slot].stage, depth);
        K::pair_columns(depth, m, team[slot].stage, depth, up + i0 * pairs(r) + k0 / 2, pairs(r));
      }
    });
  }

  /// R = P^T A for the w columns from j0: R r x w, leading dimension r. energy[j] = ||a_j||^2 (when not null). Of scale A, read
  /// where A is, with the scale that was packed.
  template <class A>
  void project(const A& a, Index j0, Index w, float* R, double* energy, const Scratch<float>& scratch, double scale = 1) const {
    for (Index j = 0; j < w; j += block_rows)  // as many columns as can be staged
      project_block(a, j0 + j, std::min(block_rows, w - j), R + j * r, energy == nullptr ? nullptr : energy + j, scratch, scale);
  }

  /// U = P N for w columns of N (leading dimension r), handed over in blocks: sink(i0, m, j, n, U, ld) gets rows
  /// [i0, i0+m) of columns [j, j+n) in memory it may write to.
  template <class Sink>
  void lift(const float* N, Index w, const Scratch<float>& scratch, const Sink& sink) const {
    constexpr Index cols = K::tile_cols;
    for (Index i0 = 0; i0 < d; i0 += block_rows) {
      const Index rows = std::min(block_rows, d - i0);
      for (Index k0 = 0; k0 < r; k0 += block_depth) {
        const Index depth = std::min(block_depth, r - k0);
        Bf16Pair* columns = reinterpret_cast<Bf16Pair*>(scratch.edge);  // the stage is the sink's
        for (Index j = 0; j < w; j += cols) {
          const Index width = std::min(cols, w - j);
          K::pair_columns(depth, width, N + k0 + j * r, r, columns, pairs(depth));
          detail::multiply<K>(rows, width, pairs(depth), up + padded<K, float>(d) * (k0 / 2) + i0 * pairs(depth), columns, 1, pairs(depth),
                              scratch.rows + j * rows, rows, k0 > 0, scratch.edge + pairs(depth) * cols);
        }
      }
      sink(i0, rows, Index(0), w, scratch.rows, rows);
    }
  }

  /// Whether update() can be used: the pairs of 64 columns of N must fit the scratch.
  bool updates(Order, const Team<float, K>& team) const { return pairs(r) * tile_columns <= team.block_size(); }
  /// The update of columns [j0, j0+w), w <= 64 or as many as fit, by U = P N (leading dimension of N is r): see WeightUpdate.
  template <bool adds>
  void update(const float* N, Index j0, Index w, const WeightUpdate<float, adds>& u, const Scratch<float>& scratch) const {
    Bf16Pair* numbers = reinterpret_cast<Bf16Pair*>(scratch.rows);
    detail::TileOperands<Bf16Pair> x{pairs(r), block_depth / 2, up, padded<K, float>(d), 0, nullptr};
    if (u.order == Order::Columns) {
      K::pair_columns(r, w, N, r, numbers, pairs(r));
      return detail::update_in_columns<K>(d, w, x, numbers, u, j0, scratch.edge);
    }
    x.a = numbers;
    x.height = padded<K, float>(w);
    const Strided<float, K> transposed{N, r, 1};
    for (Index k0 = 0; k0 < r; k0 += block_depth)
      detail::pack_pairs<K>(transposed, 0, w, k0, std::min(block_depth, r - k0), numbers + x.height * (k0 / 2), scratch.stage);
    detail::update_in_rows<K>(d, w, x, up, u, j0, scratch.edge);
  }

 private:
  template <class A>
  void project_block(const A& a, Index j0, Index w, float* R, double* energy, const Scratch<float>& scratch, double scale) const {
    constexpr Index cols = K::tile_cols;
    Bf16Pair* columns = reinterpret_cast<Bf16Pair*>(scratch.rows);  // of one group
    if (energy != nullptr) std::fill_n(energy, w, 0.0);
    for (Index k0 = 0; k0 < d; k0 += block_depth) {
      const Index depth = std::min(block_depth, d - k0), next = std::min(block_depth, d - k0 - depth);
      const Bf16Pair* packed = down + padded<K, float>(r) * (k0 / 2);
      Strided<float, K> block = a.in_place(k0, j0);
      const bool rows = block.data != nullptr && block.row_stride != 1;
      kernel::Ahead<kernel::Access::Read> ahead;
      if (rows) {
        K::stage_rows(depth, w, block.data, block.row_stride, scratch.stage);
        ahead = {block.data + depth * block.row_stride, w, next, block.row_stride};
      } else if (block.data == nullptr) {
        block = {scratch.stage, 1, depth + stage_padding};
        a.load(k0, depth, j0, w, scratch.stage, block.col_stride);
      } else {
        ahead = {block.data + depth, next, w, block.col_stride};
      }
      for (Index j = 0; j < w; j += cols) {
        const Index width = std::min(cols, w - j);
        if (rows) {
          const float* group = scratch.stage + j / cols * K::group_stride(depth);
          double squares[cols] = {};
          if (energy != nullptr) K::group_squares(depth, group, squares, scale);
          for (Index q = 0; q < width && energy != nullptr; ++q) energy[j + q] += squares[q];
          K::pair_rows(depth, group, columns);
        } else {
          const float* column = block.data + j * block.col_stride;
          for (Index q = 0; q < width && energy != nullptr; ++q) energy[j + q] += K::sum_squares(depth, column + q * block.col_stride, scale);
          K::pair_columns(depth, width, column, block.col_stride, columns, pairs(depth));
        }
        detail::multiply<K>(r, width, pairs(depth), packed, columns, rows ? cols : 1, rows ? 1 : pairs(depth), R + j * r, r, k0 > 0,
                            scratch.edge, ahead);
      }
    }
  }
};

}  // namespace linalg
}  // namespace lowrank
