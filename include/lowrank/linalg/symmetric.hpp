// Symmetric products: C = X X^T (n x n), one triangle computed and the other mirrored, so half the operations of gemm().
//
// X (n x depth) is packed once, by all threads, into panels as high as a gemm_tile; a panel serves as rows of X and,
// read the other way, as columns of X^T, so nothing else is packed. Each entry is the chain of gemm(): its bits are the
// same for any thread count, and C is symmetric to the bit. Packed depth is bounded; deeper products run in several rounds.
//
// A small C of a long X is cut along the depth instead: a thread packs and multiplies whole blocks in the cache that is its own, and
// the products are added in the order of the blocks, to the same bits.
//
// Source: the level-3 BLAS name is syrk (Dongarra, Du Croz, Hammarling, Duff, ACM TOMS 16, 1990).
#pragma once

#include <lowrank/linalg/pack.hpp>

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
      : size_((n + height - 1) / height * height * std::min(depth, is_long(n, depth) ? 3 * block_depth : packed_depth)),
        packed_(arena.take<S>(size_)),
        sums_(arena.take<S>(is_long(n, depth) ? n * n * apart : 0)), depth_(std::min(depth, packed_depth)) {}

  /// Memory that is free between two products: size of it, and where.
  Index room_size() const { return size_; }
  S* room() const { return packed_; }

  /// C = X X^T for X of one unit stride. `packed(i0, rows, k0, depth)` is called for each piece of X as it is packed;
  /// `done(i0, rows, j0, cols)`, once each tile of the lower triangle is complete (i0 >= j0), before it is mirrored. Both from any
  /// thread. The team's scratch is made for the depth.
  template <class Packed, class Done>
  void operator()(Index n, Index depth, const Strided<S, K>& x, S* c, Index ldc, Triangle triangle, const Team<S, K>& team,
                  const Packed& packed, const Done& done) const {
    if (is_long(n, depth)) return by_blocks(n, depth, x, c, ldc, triangle, team, packed, done);
    const Index panels = (n + height - 1) / height;
    Index block = 32, blocks = 0;  // panels of a task, on either side: as large as leaves enough tasks for threads
    do {
      block /= 2;
      blocks = (panels + block - 1) / block;
    } while (block > 1 && team.threads() > 1 && blocks * (blocks + 1) / 2 < 4 * team.threads());
    const Index rise = panels * height;  // rows of a packed block of depth
    for (Index round = 0; round < depth; round += depth_) {
      const Index end = std::min(depth, round + depth_), cuts = (end - round + block_depth - 1) / block_depth;
      const Index tall = block_rows, down = (n + tall - 1) / tall;
      lowrank::detail::for_each(cuts * down, team.threads(), [&](Index item, int) {
        const Index k0 = round + item / down * block_depth, inner = std::min(block_depth, end - k0);
        const Index i0 = item % down * tall, rows = std::min(tall, n - i0);
        pack_rows(x, i0, rows, k0, inner, packed_ + rise * (k0 - round) + i0 * inner);
        packed(i0, rows, k0, inner);
      });
      lowrank::detail::for_each(blocks * (blocks + 1) / 2, team.threads(), [&](Index item, int slot) {
        const auto [I, J] = place(item, blocks);
        const Scratch<S> scratch = team[slot];
        const Index top = I * block, last_i = std::min(panels, top + block), last_j = std::min(panels, (J + 1) * block);
        for (Index k0 = round; k0 < end; k0 += block_depth) {
          const Index inner = std::min(block_depth, end - k0), then = std::min(block_depth, end - k0 - inner);
          const S* from = packed_ + rise * (k0 - round);
          const auto panel = [&](Index p) { return from + p * height * inner; };
          for (Index j = J * block; j < last_j; ++j) {
            K::stage_rows(inner, height, panel(j), height, scratch.rows);
            const Index first = std::max(j, top), high = last_i - first, width = std::min(height, n - j * height);
            // while it is multiplied: the next panel of columns, after the last one the next block's rows
            const S* next = j + 1 < last_j ? panel(j + 1) : then > 0 ? from + rise * inner + top * height * then : from;
            const Index share = (j + 1 < last_j ? height * inner : (last_i - top) * height * then) / (high * (height / cols));
            for (Index q = 0; q < width; q += cols)
              for (Index i = first; i < last_i; ++i, next += share)
                tile(n, inner, panel(i), scratch.rows + q / cols * K::group_stride(inner), cols, i * height, j * height + q, c, ldc, k0 > 0,
                     scratch.edge, kernel::Spread(next, share, inner));
          }
        }
        if (end < depth) return;
        for (Index j = J * block; j < last_j; ++j)
          for (Index i = std::max(j, top); i < last_i; ++i) {
            const Index i0 = i * height, j0 = j * height, rows = std::min(height, n - i0), width = std::min(height, n - j0);
            done(i0, rows, j0, width);
            if (triangle == Triangle::Both && i > j) mirror(i0, rows, j0, width, c, ldc, i + 1 < last_i ? n - i0 - rows : 0);
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

  /// Rows [i0, i0 + rows) of any number as panels one after another.
  static void pack_rows(const Strided<S, K>& x, Index i0, Index rows, Index k0, Index depth, S* panels) {
    const Index whole = rows / height * height;
    pack_panels<K>(x.in_place(i0, k0), whole, depth, panels, depth);
    if (whole < rows) pack(x, i0 + whole, rows - whole, k0, depth, panels + whole * depth);
  }

 private:
  static constexpr Index cols = K::tile_cols;
  static_assert(height % cols == 0);

  static constexpr bool is_long(Index n, Index depth) { return n <= block_rows && depth > 3 * block_depth; }
  static constexpr Index apart = 8;  // blocks between two sums

  template <class Packed, class Done>
  void by_blocks(Index n, Index depth, const Strided<S, K>& x, S* c, Index ldc, Triangle triangle, const Team<S, K>& team,
                 const Packed& packed, const Done& done) const {
    const Index panels = (n + height - 1) / height;
    const bool alone = team.threads() == 1;  // and in the order of the blocks
    for (Index round = 0; round < depth; round += apart * block_depth) {
      const Index blocks = std::min(apart, (depth - round + block_depth - 1) / block_depth);
      lowrank::detail::for_each(blocks, team.threads(), [&](Index block, int slot) {
        const Scratch<S> scratch = team[slot];
        const Index k0 = round + block * block_depth, inner = std::min(block_depth, depth - k0);
        pack_rows(x, 0, n, k0, inner, scratch.rows);
        packed(0, n, k0, inner);
        for (Index j0 = 0; j0 < n; j0 += cols)
          for (Index i0 = j0 / height * height; i0 < n; i0 += height)
            tile(n, inner, scratch.rows + i0 * inner, scratch.rows + j0 / height * height * inner + j0 % height, height, i0, j0,
                 alone ? c : sums_ + block * n * n, alone ? ldc : n, alone && k0 > 0, scratch.edge);
      });
      lowrank::detail::for_each(panels, team.threads(), [&](Index j, int) {
        const Index j0 = j * height, width = std::min(height, n - j0);
        for (Index q = j0; !alone && q < j0 + width; ++q) {
          S* to = c + j0 + q * ldc;
          for (Index block = 0; block < blocks; ++block)
            K::combine(n - j0, 1.0, sums_ + block * n * n + j0 + q * n, round + block > 0 ? 1.0 : 0.0, to, to);
        }
        for (Index i0 = j0; round + apart * block_depth >= depth && i0 < n; i0 += height) {
          const Index rows = std::min(height, n - i0);
          done(i0, rows, j0, width);
          if (triangle == Triangle::Both && i0 > j0) mirror(i0, rows, j0, width, c, ldc, n - i0 - rows);
        }
      });
    }
  }

  struct Place {
    Index i, j;
  };
  /// Block (i, j), i >= j, of the item-th task: whole ones first, the halves on the diagonal last.
  static Place place(Index item, Index blocks) {
    Index i = 1;
    for (; i < blocks && item >= i; ++i) item -= i;
    return i < blocks ? Place{i, item} : Place{item, item};
  }

  /// C(j0.., i0..) <- C(i0.., j0..)^T. Of the columns below, `left`, the next ones are asked for.
  static void mirror(Index i0, Index rows, Index j0, Index width, S* c, Index ldc, Index left) {
    S* to = c + j0 + i0 * ldc;
    K::transpose(rows, width, c + i0 + j0 * ldc, ldc, to, ldc,
                 kernel::Ahead<kernel::Access::Write>(to + height * ldc, width, std::min(left, height), ldc));
  }

  /// C(i0.., j0..) (=, +=) one panel times `cols` columns, B(p, q) = b[p * bk + q].
  template <class Ahead = kernel::Idle>
  static void tile(Index n, Index depth, const S* a, const S* b, Index bk, Index i0, Index j0, S* c, Index ldc, bool accumulate, S* edge,
                   Ahead&& ahead = {}) {
    S* out = c + i0 + j0 * ldc;
    const Index rows = std::min(height, n - i0), width = std::min(cols, n - j0);
    kernel::expect(out, rows, width, ldc);
    if (rows == height && width == cols) return K::template gemm_tile<2>(depth, a, b, bk, Index(1), out, ldc, accumulate, ahead);
    K::template gemm_tile<2>(depth, a, b, bk, Index(1), edge, height, false, ahead);
    for (Index q = 0; q < width; ++q)
      for (Index p = 0; p < rows; ++p)
        out[p + q * ldc] = accumulate ? out[p + q * ldc] + edge[p + q * height] : edge[p + q * height];
  }

  Index size_ = 0;
  S* packed_ = nullptr;
  S* sums_ = nullptr;  // n x n for each of the blocks between two sums
  Index depth_ = 0;
};

}  // namespace linalg
}  // namespace lowrank
