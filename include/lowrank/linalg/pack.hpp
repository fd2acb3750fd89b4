// What products read: blocks of A packed into panels, as high as a gemm_tile and without gaps, and columns of B, where they are or
// staged; and the scratch memory of each thread for both. Blocks of a large matrix are runs some pages apart, so they are read in
// pieces as long as the block allows, not as short as a panel.
#pragma once

#include <algorithm>  // std::min, std::max

#include <lowrank/core/buffer.hpp>
#include <lowrank/core/parallel.hpp>
#include <lowrank/linalg/operand.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

constexpr Index block_depth = 256;   // inner dimension of one packed block: part of the result's definition
constexpr Index block_rows = 256;    // rows packed at a time; a multiple of every panel height
constexpr Index tile_columns = 64;   // columns of the canonical matrix handled as one tile
constexpr Index stage_padding = 16;  // keeps staged columns apart in the cache's sets

/// Scratch of one thread: packed rows of A, staged columns of B, one tile for edges.
template <class S>
struct Scratch {
  S* rows;   // block x block
  S* stage;  // (block + padding) x block
  S* edge;   // block x tile_cols for the last columns of B, then one tile of C
  Index room;  // of rows, in numbers
};

/// The scratch of all threads, sized for matrices whose dimensions do not exceed `largest`.
template <class S, class K>
class Team {
 public:
  Team() = default;
  Team(Arena& arena, int threads, Index largest)
      : block_(std::min(block_depth, (largest + tile_columns - 1) / tile_columns * tile_columns)), threads_(threads) {
    block_ = std::max(block_, tile_columns);
    memory_ = arena.take<S>(threads * stride());
  }
  int threads() const { return threads_; }
  Index block_size() const { return block_ * block_; }
  Scratch<S> operator[](int slot) const {
    S* base = memory_ + slot * stride();
    return {base, base + block_ * block_, base + block_ * (2 * block_ + stage_padding), block_size()};
  }

 private:
  Index stride() const {
    return block_ * (2 * block_ + stage_padding) + (block_ + 2 * K::template lanes<S>) * K::tile_cols;
  }
  S* memory_ = nullptr;
  Index block_ = 0;
  int threads_ = 1;
};

/// m rounded up to whole registers: the rows of a packed block.
template <class K, class S>
constexpr Index padded(Index m) {
  constexpr Index L = K::template lanes<S>;
  return (m + L - 1) / L * L;
}

/// Where a block of an operand begins, if it lies in memory as numbers of S; otherwise null.
template <class K, class S, class A>
Strided<S, K> in_memory(const A& a, Index i0, Index j0) {
  if constexpr (requires { a.in_place(i0, j0); }) return a.in_place(i0, j0);
  else return {nullptr, 1, 0};
}

/// The first m x n numbers of X as columns [k, k + n) of panels `depth` long: of 2 registers, the last of 1 if that is enough, row i in
/// the panel that begins at packed + (i - i % height) * depth; zeros below the last row.
template <class K, class S>
void pack_panels(const Strided<S, K>& x, Index m, Index n, S* packed, Index depth, Index k = 0) {
  using V = typename K::template V<S>;
  constexpr Index L = V::lanes, height = 2 * L;
  const Index whole = m / height * height, left = m - whole, last = left > L ? height : L;
  S* end = packed + whole * depth + k * last;
  packed += k * height;
  if (x.row_stride == 1) {
    for (Index p = 0; p < n; ++p) {
      const S* from = x.data + p * x.col_stride;
      S* to = packed + p * height;
      for (Index i = 0; i < whole; i += height, to += height * depth) {
        V::load(from + i).store(to);
        V::load(from + i + L).store(to + L);
      }
    }
    for (Index p = 0; left > 0 && p < n; ++p) {
      const S* from = x.data + whole + p * x.col_stride;
      V::load(from, std::min(left, L)).store(end + p * last);
      if (last > L) V::load(from + L, left - L).store(end + p * last + L);
    }
    return;
  }
  for (Index i = 0; i < whole; i += height) K::transpose(n, height, x.data + i * x.row_stride, x.row_stride, packed + i * depth, height);
  if (left == 0) return;
  if (left < last) std::fill_n(end, last * n, S(0));
  K::transpose(n, left, x.data + whole * x.row_stride, x.row_stride, end, last);
}

namespace detail {

/// Block A(i0.., k0..), m x depth, as panels; strip: m x 16 numbers of memory for an operand that has to be made first.
template <class K, class S, class A>
void pack(const A& a, Index i0, Index m, Index k0, Index depth, S* packed, S* strip) {
  if (const Strided<S, K> x = in_memory<K, S>(a, i0, k0); x.data != nullptr) return pack_panels<K>(x, m, depth, packed, depth);
  constexpr Index wide = 16;
  for (Index k = 0; k < depth; k += wide) {
    const Index n = std::min(wide, depth - k);
    a.load(i0, m, k0 + k, n, strip, m);
    pack_panels<K>(columns<K, S>(strip, m), m, n, packed, depth, k);
  }
}

/// Columns of B(p, j) = b[p * bk + j * bj], one of the strides being 1.
template <class X>
struct Columns {
  const X* b;
  Index bk, bj;
};

/// A tile reads `cols` columns: where only `width` are left, they are copied to `edge` and zeros put beside them.
template <class X, class S>
Columns<X> whole_columns(const Columns<X>& x, Index depth, Index width, Index cols, S* edge) {
  static_assert(sizeof(X) == sizeof(S));
  if (width >= cols) return x;
  X* copy = reinterpret_cast<X*>(edge);
  for (Index p = 0; p < depth; ++p)
    for (Index q = 0; q < cols; ++q) copy[p * cols + q] = q < width ? x.b[p * x.bk + q * x.bj] : X(0);
  return {copy, cols, 1};
}

}  // namespace detail

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
  if (const Strided<S, K> x = in_memory<K, S>(b, k0, j0); x.data != nullptr) {
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
