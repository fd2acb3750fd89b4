// Matrix products on this library's terms: operands of any storage order and scalar, memory owned by the caller, and the
// same bits for any thread count, tile or storage order.
//
// C = A B is cut along its inner dimension in blocks of 256. A is packed into panels as high as a gemm_tile, B is read
// where it is, or staged as columns if its numbers have to be made first. One element of C is a chain of fused
// multiply-adds over each block, the blocks added in order: nothing else about the cut (rows, columns, threads) can
// change it.
//
// Eigen's kernel (gebp) was the alternative. It packs both operands, picks the inner block from cache sizes and thread
// count (so the bits change with either) and allocates; the tile below reaches the same rate or more (bench/gemm.cpp).
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

namespace detail {

/// Panels of 2 registers, the last of 1 if that is enough: row i of block A(i0.., k0..) lies in the panel that begins
/// at packed + (i - i % height) * depth. Rows beyond m are zero.
template <class K, class S, class A>
void pack(const A& a, Index i0, Index m, Index k0, Index depth, S* packed, S* strip) {
  constexpr Index L = K::template lanes<S>, wide = 16;
  for (Index k = 0; k < depth; k += wide) {
    const Index n = std::min(wide, depth - k);
    a.load(i0, m, k0 + k, n, strip, m);
    for (Index p = 0; p < m; p += 2 * L) {
      const Index height = m - p > L ? 2 * L : L, rows = std::min(height, m - p);
      S* panel = packed + p * depth + k * height;
      for (Index j = 0; j < n; ++j, panel += height) {
        std::memcpy(panel, strip + p + j * m, std::size_t(rows) * sizeof(S));
        std::memset(panel + rows, 0, std::size_t(height - rows) * sizeof(S));
      }
    }
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

/// C (=, +=) A B, A packed m x depth, B(p, j) = b[p * bk + j * bj], one of the strides being 1. X is S, or Bf16Pair: depth in pairs.
template <class K, class X, class S, class Ahead = kernel::Idle>
void multiply(Index m, Index n, Index depth, const X* a, const X* b, Index bk, Index bj, S* c, Index ldc,
              bool accumulate, S* edge, Ahead&& ahead = {}) {
  constexpr Index L = K::template lanes<S>, cols = K::tile_cols;
  for (Index j = 0; j < n; j += cols) {
    const Index width = std::min(cols, n - j);
    const auto [column, step_k, step_j] = whole_columns(Columns<X>{b + j * bj, bk, bj}, depth, width, cols, edge);
    for (Index i = 0; i < m; i += 2 * L) {
      const Index height = m - i > L ? 2 * L : L, rows = std::min(height, m - i);
      S* out = c + i + j * ldc;
      S* tile = edge + depth * cols;
      const bool whole = rows == height && width == cols;
      if (height == 2 * L)
        K::template gemm_tile<2>(depth, a + i * depth, column, step_k, step_j, whole ? out : tile, whole ? ldc : height,
                                 whole && accumulate, ahead);
      else
        K::template gemm_tile<1>(depth, a + i * depth, column, step_k, step_j, whole ? out : tile, whole ? ldc : height,
                                 whole && accumulate, ahead);
      if (whole) continue;
      for (Index q = 0; q < width; ++q)
        for (Index p = 0; p < rows; ++p)
          out[p + q * ldc] = accumulate ? out[p + q * ldc] + tile[p + q * height] : tile[p + q * height];
    }
  }
}

}  // namespace detail

enum class Mode { Store, Add };  // C <- A B, or C <- C + A B

/// C (=, +=) A B: A m x depth and B depth x n operands, C column-major with leading dimension ldc, apart from A and B.
/// Threads split the rows. Adding, C is what the first block is added to: for a depth of one block, the bits of C + (A B).
template <class K, class S, class A, class B>
void gemm(Index m, Index n, Index depth, const A& a, const B& b, S* c, Index ldc, const Team<S, K>& team,
          Mode mode = Mode::Store) {
  if (depth == 0 && mode == Mode::Store)
    for (Index j = 0; j < n; ++j) std::fill_n(c + j * ldc, m, S(0));
  const bool wide = team.threads() > 1 && m <= block_rows && n > m;
  const Index side = wide ? tile_columns : block_rows;  // enough pieces of C for two threads
  const Index height = m <= block_rows ? std::min(m, side) : block_rows, width = std::min<Index>(n, block_rows);
  const Index down = (m + height - 1) / std::max<Index>(height, 1), across = (n + width - 1) / std::max<Index>(width, 1);
  lowrank::detail::for_each(down * across, team.threads(), [&](Index item, int slot) {
    const Scratch<S> scratch = team[slot];
    const Index i0 = item % down * height, rows = std::min(height, m - i0);
    const Index j0 = item / down * width, cols = std::min(width, n - j0);
    for (Index k0 = 0; k0 < depth; k0 += block_depth) {
      const Index inner = std::min(block_depth, depth - k0), ld = inner + stage_padding;
      detail::pack<K>(a, i0, rows, k0, inner, scratch.rows, scratch.stage);
      Strided<S, K> block{scratch.stage, 1, ld};
      if constexpr (std::is_same_v<B, Strided<S, K>>)
        block = {b.data + k0 * b.row_stride + j0 * b.col_stride, b.row_stride, b.col_stride};  // read where it is
      else
        b.load(k0, inner, j0, cols, scratch.stage, ld);
      detail::multiply<K>(rows, cols, inner, scratch.rows, block.data, block.row_stride, block.col_stride,
                          c + i0 + j0 * ldc, ldc, k0 > 0 || mode == Mode::Add, scratch.edge);
    }
  });
}

}  // namespace linalg
}  // namespace lowrank
