// R = P^T A of an A in rows, A(i, j) at a[i lda + j]: a tile is one of R^T, A's columns in its lanes. Strips of 2 registers of columns are
// copied to panels, row by row between the multiply-adds of the strip before. Rows may lie a multiple of 4096 bytes apart, and then a set
// of the caches has no room for many: each is fetched 32 rows before it is copied.
//
// At 4096 x 4096 this takes 0.8 (r = 32, 128) of the time of tiles of R that have P in their lanes, A staged row by row before each block.
#pragma once

#include <lowrank/linalg/gemm.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

namespace detail {

/// Copies rows of 2 registers, lda apart, to a panel: one after every `pause` calls of next(), when the row `far` behind it is fetched.
template <class S, class K>
class RowCopy {
  static constexpr Index L = K::template lanes<S>;
  using V = kernel::Vec<S, int(L * Index(sizeof(S)))>;

 public:
  static constexpr Index far = 32;

  RowCopy() = default;
  /// The rows at `then` are copied next: of them the first ones are fetched.
  RowCopy(const S* from, Index lda, Index rows, S* to, const S* then, Index pause)
      : from_(from), ahead_(rows > far ? from + far * lda : then), then_(then), to_(to), lda_(lda), left_(rows), pause_(pause), wait_(pause) {}
  LOWRANK_INLINE void next() {
    if (--wait_ > 0 || left_ == 0) return;
    wait_ = pause_;
    row();
  }
  LOWRANK_INLINE void rest() {
    while (left_ > 0) row();
  }

 private:
  LOWRANK_INLINE void row() {
    if (--left_ == far) ahead_ = then_;
    __builtin_prefetch(ahead_, 0, 2);
    __builtin_prefetch(ahead_ + L, 0, 2);
    __builtin_prefetch(ahead_ + 2 * L - 1, 0, 2);  // another line, unless the row begins with one
    const V first = V::load(from_), second = V::load(from_ + L);
    first.store(to_);
    second.store(to_ + L);
    ahead_ += lda_;
    from_ += lda_;
    to_ += 2 * L;
  }

  const S *from_ = nullptr, *ahead_ = nullptr, *then_ = nullptr;
  S* to_ = nullptr;
  Index lda_ = 0, left_ = 0, pause_ = 1, wait_ = 1;
};

}  // namespace detail

/// P^T in groups of tile_cols directions for each block of 256 along d, P(k0 + p, i) at
/// packed[k0 * whole_groups(r) + i / cols * depth * cols + p * cols + i % cols]; directions beyond r are 0.
template <class S, class K>
class RowProjection {
  static constexpr Index cols = K::tile_cols, L = K::template lanes<S>, strip = 2 * L;

 public:
  RowProjection(const S* packed, Index d, Index r) : packed_(packed), d_(d), r_(r) {}

  /// The directions as packed.
  static constexpr Index whole_groups(Index r) { return (r + cols - 1) / cols * cols; }

  /// Packs rows [k0, k0 + depth) of P.
  template <class A>
  static void pack(const A& transposed_basis, Index k0, Index depth, Index r, S* packed, S* room) {
    constexpr Index wide = 16;
    for (Index i0 = 0; i0 < r; i0 += block_rows)
      for (Index p0 = 0; p0 < depth; p0 += wide) {
        const Index m = std::min(block_rows, r - i0), n = std::min(wide, depth - p0);
        transposed_basis.load(i0, m, k0 + p0, n, room, m);
        for (Index i = 0; i < m; i += cols) {
          const Index width = std::min(cols, m - i);
          S* group = packed + (i0 + i) * depth + p0 * cols;
          for (Index p = 0; p < n; ++p, group += cols) {
            std::memcpy(group, room + i + p * m, std::size_t(width) * sizeof(S));
            std::fill_n(group + width, cols - width, S(0));
          }
        }
      }
  }

  /// R(i, j) at R[i + j r] <- (P^T A)(i, j), energy[j] (when not null) <- ||scale a_j||^2, for w columns.
  /// w is no more than scratch.room / tile_cols.
  void operator()(const S* a, Index lda, Index w, S* R, double* energy, double scale, const Scratch<S>& scratch) const {
    if (energy != nullptr) std::fill_n(energy, w, 0.0);
    const Index at_once = scratch.room / padded<K, S>(w) / cols * cols;  // directions: more are another reading of A
    for (Index i = 0; i < r_; i += at_once)
      directions(i, std::min(at_once, r_ - i), Strips{a, lda, d_, w, i == 0 ? energy : nullptr, scale}, R, scratch);
  }

 private:
  /// A cut in strips of 256 rows, those of the same rows from left to right.
  struct Strips {
    const S* a;
    Index lda, d, w;
    double* energy;
    double scale;

    Index across() const { return (w + strip - 1) / strip; }
    Index count() const { return across() * ((d + block_depth - 1) / block_depth); }
    Index row(Index n) const { return n / across() * block_depth; }
    Index column(Index n) const { return n % across() * strip; }
    Index depth(Index n) const { return std::min(block_depth, d - row(n)); }
    Index width(Index n) const { return std::min(strip, w - column(n)); }
    const S* at(Index n, Index p) const { return a + (row(n) + p) * lda + column(n); }
    /// Strip n, its columns beyond the last 0.
    detail::RowCopy<S, K> copy(Index n, S* panel, Index pause) const {
      if (n >= count()) return {};
      const Index columns = width(n), high = padded<K, S>(columns), rows = depth(n);
      if (columns == strip) return {at(n, 0), lda, rows, panel, at(n + 1 < count() ? n + 1 : 0, 0), pause};
      for (Index p = 0; p < rows; ++p) {
        std::memcpy(panel + p * high, at(n, p), std::size_t(columns) * sizeof(S));
        std::fill_n(panel + p * high + columns, high - columns, S(0));
      }
      return {};
    }
    void add_squares(Index n, const S* panel) const {
      if (energy == nullptr || n >= count()) return;
      const Index high = padded<K, S>(width(n)), rows = depth(n);
      S squares[2 * L * strip] = {};
      for (Index p = 0; p < rows; ++p) K::row_squares(p, rows, high, panel + p * high, squares, strip, scale);
      K::fold_squares(width(n), squares, strip, energy + column(n));
    }
  };

  /// n rows of R from i.
  void directions(Index i, Index n, const Strips& A, S* R, const Scratch<S>& scratch) const {
    const Index wide = whole_groups(n), groups = wide / cols, count = A.count();
    S* const sums = scratch.rows;  // R^T: strips, each a column of `wide` directions after the other
    S* panel = scratch.stage;
    S* next = panel + strip * std::min(d_, block_depth);
    A.copy(0, panel, 1).rest();
    for (Index s = 0; s < count; ++s, std::swap(panel, next)) {
      const Index depth = A.depth(s), across = A.across();
      const S* P = packed_ + A.row(s) * whole_groups(r_) + i * depth;
      S* sum = sums + A.column(s) * wide;
      A.add_squares(s, panel);
      auto meanwhile = A.copy(s + 1, next, s + 1 < count ? std::max<Index>(1, groups * depth / A.depth(s + 1)) : 1);
      for (Index g = 0; g < groups; ++g, P += depth * cols) {
        if (A.width(s) > L) {
          K::template gemm_tile<2>(depth, panel, P, cols, 1, sum, 2 * L, s >= across, meanwhile);
          sum += 2 * L * cols;
        } else {
          K::template gemm_tile<1>(depth, panel, P, cols, 1, sum, L, s >= across, meanwhile);
          sum += L * cols;
        }
      }
      meanwhile.rest();
    }
    for (Index j = 0; j < A.w; j += strip) {
      const Index width = std::min(strip, A.w - j);
      K::transpose(width, n, sums + j * wide, padded<K, S>(width), R + i + j * r_, r_);
    }
  }

  const S* packed_;
  Index d_, r_;
};

}  // namespace linalg
}  // namespace lowrank
