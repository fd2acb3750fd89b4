// R = P^T A of an A in rows, A(i, j) at a[i lda + j]. Its columns are copied to groups as high as a tile is wide, row by row between the
// multiply-adds of those before: what a tile reads stays in the first-level cache, and A is read in runs long enough to be read at the
// speed of memory. Rows may lie a multiple of 4096 bytes apart, and then a set of the caches has no room for many: each is fetched
// a few rows before it is copied.
//
// At 4096 x 4096 and r = 32 this takes 0.7 of the time of tiles of R^T, A's columns in their lanes; at r = 128 as long.
#pragma once

#include <lowrank/linalg/gemm.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

namespace detail {

/// Copies rows of a matrix, lda apart, to groups of K::tile_cols columns as K::stage_rows has them: 64 bytes after every `pause` calls of
/// next(), when those `far` rows behind are fetched: no more, or they push each other out of the tables of pages.
template <class S, class K>
class RowCopy {
  static constexpr Index cols = K::tile_cols, L = std::min(cols, K::template lanes<S>);
  using V = kernel::Vec<S, int(L * Index(sizeof(S)))>;

 public:
  static constexpr Index line = 64 / Index(sizeof(S)), far = 8;

  RowCopy() = default;
  /// n columns, a multiple of `line`. The rows at `then` are copied next: of them the first ones are fetched.
  RowCopy(const S* from, Index lda, Index rows, Index n, S* to, const S* then, Index pause)
      : from_(from), ahead_(rows > far ? from + far * lda : then), then_(then), to_(to), apart_(K::group_stride(rows)), skip_(lda - n),
        back_(n / cols * apart_ - cols), lines_(n / line), line_(lines_), left_(rows), pause_(pause), wait_(pause) {}
  LOWRANK_INLINE void next() {
    if (--wait_ == 0) copy();
  }
  LOWRANK_INLINE void rest() {
    while (left_ > 0) copy();
  }

 private:
  LOWRANK_INLINE void copy() {
    wait_ = pause_;
    __builtin_prefetch(ahead_ + line - 1, 0, 2);  // the line of the last number: that of the first one came before it
    for (Index j = 0; j < line; j += cols, to_ += apart_)
      for (Index q = 0; q < cols; q += L) V::load(from_ + j + q).store(to_ + q);
    from_ += line;
    ahead_ += line;
    if (--line_ > 0) return;
    line_ = lines_;
    from_ += skip_;
    ahead_ += skip_;
    to_ -= back_;
    --left_;
    if (left_ == far) ahead_ = then_;
    if (left_ == 0) wait_ = 0;
  }

  const S *from_ = nullptr, *ahead_ = nullptr, *then_ = nullptr;
  S* to_ = nullptr;
  Index apart_ = 0, skip_ = 0, back_ = 0, lines_ = 0, line_ = 0, left_ = 0, pause_ = 0, wait_ = 0;
};

}  // namespace detail

/// A cut in pieces of 256 rows and `wide` columns, those of the same rows from left to right.
template <class S, class K>
class RowProjection {
  static constexpr Index cols = K::tile_cols, L = K::template lanes<S>;
  static constexpr Index widest = 128;
  using Copy = detail::RowCopy<S, K>;

 public:
  /// P^T packed as PackedBasis does, d x r.
  RowProjection(const S* packed, Index d, Index r) : packed_(packed), d_(d), r_(r) {}

  /// R(i, j) at R[i + j r] <- (P^T A)(i, j), energy[j] (when not null) <- ||scale a_j||^2, for w columns.
  void operator()(const S* a, Index lda, Index w, S* R, double* energy, double scale, const Scratch<S>& scratch) const {
    if (energy != nullptr) std::fill_n(energy, w, 0.0);
    // at least 8 pieces, since the first one is copied before anything is multiplied
    const Index fit = std::min<Index>(scratch.room / K::group_stride(std::min(d_, block_depth)) * cols, widest);
    const Index few = w * ((d_ + block_depth - 1) / block_depth) / 8;
    const Pieces A{a, lda, d_, w, std::clamp(few, Copy::line, fit) / Copy::line * Copy::line};
    S *groups = scratch.stage, *next = scratch.rows;
    A.copy(0, groups, 1).rest();
    for (Index piece = 0; piece < A.count(); ++piece, std::swap(groups, next)) {
      const Index k0 = A.row(piece), depth = A.depth(piece), width = A.width(piece), begin = A.column(piece);
      const Index tiles = (width + cols - 1) / cols * ((r_ + 2 * L - 1) / (2 * L));
      auto meanwhile = A.copy(piece + 1, next, tiles * depth);
      for (Index j = 0; j < width; j += cols) {
        const S* group = groups + j / cols * K::group_stride(depth);
        const Index n = std::min(cols, width - j);
        if (energy != nullptr) add_squares(depth, n, group, scale, energy + begin + j);
        detail::multiply<K>(r_, n, depth, packed_ + padded<K, S>(r_) * k0, group, cols, 1, R + (begin + j) * r_, r_, k0 > 0, scratch.edge,
                            meanwhile);
      }
      meanwhile.rest();
    }
  }

 private:
  struct Pieces {
    const S* a;
    Index lda, d, w, wide;

    Index across() const { return (w + wide - 1) / wide; }
    Index count() const { return across() * ((d + block_depth - 1) / block_depth); }
    Index row(Index n) const { return n / across() * block_depth; }
    Index column(Index n) const { return n % across() * wide; }
    Index depth(Index n) const { return std::min(block_depth, d - row(n)); }
    Index width(Index n) const { return std::min(wide, w - column(n)); }
    const S* at(Index n) const { return a + row(n) * lda + column(n); }
    /// Piece n while next() is called `steps` times. Columns beyond the last whole line are copied at once, zeros beside them.
    Copy copy(Index n, S* groups, Index steps) const {
      if (n >= count()) return {};
      const Index rows = depth(n), whole = width(n) / Copy::line * Copy::line, left = width(n) - whole;
      if (left > 0) K::stage_rows(rows, left, at(n) + whole, lda, groups + whole / cols * K::group_stride(rows));
      if (whole == 0) return {};
      return {at(n), lda, rows, whole, groups, at(n + 1 < count() ? n + 1 : 0), std::max<Index>(1, steps * Copy::line / (rows * whole))};
    }
  };

  static void add_squares(Index depth, Index n, const S* group, double scale, double* energy) {
    double squares[cols] = {};
    K::group_squares(depth, group, squares, scale);
    for (Index q = 0; q < n; ++q) energy[q] += squares[q];
  }

  const S* packed_;
  Index d_, r_;
};

}  // namespace linalg
}  // namespace lowrank
