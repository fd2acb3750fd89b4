// Products whose operands and result are somebody's memory: any storage order, any scalar, scaled rows or columns,
// dropped entries, all folded into the reading and writing of blocks. The arithmetic is gemm.hpp's, so the bits depend on
// the numbers alone, not on threads or storage orders: C^T = B^T A^T takes the same chain of additions as C = A B.
//
//   product(m, n, depth, a, b, memory(C), Mode::Add, s);   // C <- C + s A B
//   product.each_tile(m, n, depth, a, b, sink);            // C in pieces, for whoever needs something of it only
#pragma once

#include <lowrank/core/rng.hpp>
#include <lowrank/linalg/gemm.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

/// The memory of a view, its type erased. Strides that are never used are made the ones of a column-major matrix.
template <class T>
auto memory(const View<T>& v) {
  using Void = std::conditional_t<std::is_const_v<T>, const void, void>;
  Memory<Void> m{v.data, lowrank::detail::DtypeOf<std::remove_const_t<T>>::value, v.row_stride, v.col_stride};
  if (v.rows <= 1) m.row_stride = 1;
  else if (v.cols <= 1 && v.row_stride != 1) m.col_stride = 1;
  return m;
}
template <class Void>
Memory<Void> transposed(const Memory<Void>& m) { return {m.data, m.dtype, m.col_stride, m.row_stride}; }
inline Memory<const void> constant(const Memory<void>& m) { return {m.data, m.dtype, m.row_stride, m.col_stride}; }
/// A Buffer, or its first columns.
template <class S>
Memory<void> memory(Buffer<S>& b) { return {b.data(), lowrank::detail::DtypeOf<S>::value, 1, b.rows()}; }
template <class S>
Memory<const void> memory(const Buffer<S>& b) { return {b.data(), lowrank::detail::DtypeOf<S>::value, 1, b.rows()}; }
/// Workspace, column-major.
template <class S>
Memory<void> memory(S* data, Index ld) { return {data, lowrank::detail::DtypeOf<S>::value, 1, ld}; }

/// Inverted dropout of a features x samples matrix: entry (f, t) is multiplied by 0 when word t * features + f of the
/// random stream is less than `below`, otherwise by `scale`. Regenerated wherever it is needed, never stored.
struct Mask {
  enum class Rows { Features, Samples };  // what the rows of the block in hand are

  std::uint64_t seed = 0, stream = 0;
  std::uint32_t below = 0;  // 0: nothing is dropped
  double scale = 1;
  Index features = 0;
  Rows rows = Rows::Features;

  Mask transposed() const {
    Mask other = *this;
    other.rows = rows == Rows::Features ? Rows::Samples : Rows::Features;
    return other;
  }
  template <class S>
  void apply(Index i0, Index m, Index j0, Index n, S* block, Index ld) const {
    if (below == 0) return;
    const bool down = rows == Rows::Features;
    const Index f0 = down ? i0 : j0, t0 = down ? j0 : i0, wide = down ? m : n, samples = down ? n : m;
    const Index df = down ? 1 : ld, dt = down ? ld : 1;
    for (Index t = 0; t < samples; ++t) {
      std::uint64_t have = ~std::uint64_t(0);
      std::array<std::uint32_t, 4> words{};
      for (Index f = 0; f < wide; ++f) {
        const auto at = std::uint64_t((t0 + t) * features + f0 + f);
        if (at / 4 != have) words = lowrank::detail::random_block(seed, stream, have = at / 4);
        S& x = block[f * df + t * dt];
        x = words[at % 4] < below ? S(0) : x * S(scale);
      }
    }
  }
};

/// An operand: a matrix in memory, times diagonal matrices from the left and right, with entries dropped.
template <class S, class K>
struct Factor {
  Memory<const void> memory;
  const S* row_scale = nullptr;
  const S* col_scale = nullptr;
  Mask mask = {};

  Factor() = default;
  Factor(const Memory<const void>& m) : memory(m) {}
  Factor(const Memory<void>& m) : memory(constant(m)) {}
  Factor(const Memory<const void>& m, const S* rows, const S* cols, const Mask& dropped = {})
      : memory(m), row_scale(rows), col_scale(cols), mask(dropped) {}

  void load(Index i0, Index m, Index j0, Index n, S* dst, Index ld) const {
    with_scalar(memory.dtype, [&]<class T>(T*) {
      detail::load_block<S, K>(memory.template at<const T>(i0, j0), memory.row_stride, memory.col_stride, m, n, dst, ld);
    });
    mask.apply(i0, m, j0, n, dst, ld);
    if (row_scale != nullptr)
      for (Index j = 0; j < n; ++j)
        for (Index i = 0; i < m; ++i) dst[i + j * ld] *= row_scale[i0 + i];
    if (col_scale != nullptr)
      for (Index j = 0; j < n; ++j) K::combine(m, double(col_scale[j0 + j]), dst + j * ld, 0.0, dst + j * ld, dst + j * ld);
  }
  Factor transposed() const { return {linalg::transposed(memory), col_scale, row_scale, mask.transposed()}; }

  /// The numbers can be used where they are, row by row.
  const S* contiguous_rows() const {
    const bool plain = memory.dtype == lowrank::detail::DtypeOf<S>::value && memory.col_stride == 1 &&
                       row_scale == nullptr && col_scale == nullptr && mask.below == 0;
    return plain ? static_cast<const S*>(memory.data) : nullptr;
  }
};

/// C(i0.., j0..) (=, +=) alpha block; block column-major with leading dimension ld, and C too if its scalar is S.
template <class K, class S>
void write_block(const Memory<void>& c, Index i0, Index rows, Index j0, Index cols, const S* block, Index ld, Mode mode,
                 double alpha = 1) {
  with_scalar(c.dtype, [&]<class T>(T*) {
    for (Index j = 0; j < cols; ++j) {
      const S* from = block + j * ld;
      T* to = c.template at<T>(i0, j0 + j);
      if constexpr (std::is_same_v<S, T>)
        K::combine(rows, alpha, from, mode == Mode::Add ? 1.0 : 0.0, to, to);
      else
        for (Index i = 0; i < rows; ++i) {
          T& x = to[i * c.row_stride];
          x = T(S(alpha) * from[i] + (mode == Mode::Add ? S(x) : S(0)));
        }
    }
  });
}

template <class S, class K>
class Product {
 public:
  using Operand = Factor<S, K>;

  Product() = default;
  /// For matrices whose dimensions do not exceed `largest`, or are at least 256 anyway.
  Product(Arena& arena, int threads, Index largest)
      : team_(arena, threads, largest), tiles_(arena.take<S>(threads * team_.block_size())) {}

  const Team<S, K>& team() const { return team_; }
  int threads() const { return team_.threads(); }

  /// C (=, +=) alpha A B, the tile masked before it is added.
  void operator()(Index m, Index n, Index depth, const Operand& a, const Operand& b, const Memory<void>& c, Mode mode,
                  double alpha = 1, const Mask& mask = {}) const {
    if (c.row_stride != 1) return (*this)(n, m, depth, b.transposed(), a.transposed(), transposed(c), mode, alpha, mask.transposed());
    each_tile(m, n, depth, a, b, [&](Index, Index i0, Index rows, Index j0, Index cols, S* tile) {
      mask.apply(i0, rows, j0, cols, tile, rows);
      write_block<K>(c, i0, rows, j0, cols, tile, rows, mode, alpha);
    });
  }

  /// How many tiles each_tile(m, n, ...) makes.
  Index tiles(Index m, Index n) const {
    const Cut cut(m, n, team_.block_size());
    return cut.down * cut.across;
  }

  /// sink(tile number, i0, rows, j0, cols, tile): C(i0.., j0..) = (A B)(i0.., j0..), column-major without gaps, in memory
  /// it may write to; from any thread, in any order.
  template <class A, class B, class Sink>
  void each_tile(Index m, Index n, Index depth, const A& a, const B& b, const Sink& sink) const {
    const Cut cut(m, n, team_.block_size());
    lowrank::detail::for_each(cut.down * cut.across, team_.threads(), [&](Index item, int slot) {
      const Scratch<S> scratch = team_[slot];
      S* tile = tiles_ + slot * team_.block_size();
      const Index i0 = item % cut.down * cut.height, rows = std::min(cut.height, m - i0);
      const Index j0 = item / cut.down * cut.width, cols = std::min(cut.width, n - j0);
      if (depth == 0) std::fill_n(tile, rows * cols, S(0));
      for (Index k0 = 0; k0 < depth; k0 += block_depth) {
        const Index inner = std::min(block_depth, depth - k0), ld = inner + stage_padding;
        detail::pack<K>(a, i0, rows, k0, inner, scratch.rows, scratch.stage);
        const S* columns = scratch.stage;
        Index bk = 1, bj = ld;
        if constexpr (std::is_same_v<B, Operand>) {
          if (const S* plain = b.contiguous_rows()) {
            columns = plain + k0 * b.memory.row_stride + j0;
            bk = b.memory.row_stride;
            bj = 1;
          }
        }
        if (columns == scratch.stage) b.load(k0, inner, j0, cols, scratch.stage, ld);
        detail::multiply<K>(rows, cols, inner, scratch.rows, columns, bk, bj, tile, rows, k0 > 0, scratch.edge);
      }
      sink(item, i0, rows, j0, cols, tile);
    });
  }

 private:
  struct Cut {
    Cut(Index m, Index n, Index block) {
      const Index side = block >= block_rows * block_rows ? block_rows : tile_columns;
      height = m <= side ? std::max<Index>(1, n > m ? std::min(m, tile_columns) : m) : side;
      width = std::max<Index>(1, std::min(n, side));
      down = (m + height - 1) / height;
      across = (n + width - 1) / width;
    }
    Index height, width, down, across;
  };

  Team<S, K> team_;
  S* tiles_ = nullptr;  // a block of results per thread
};

/// out[i] (+)= sum_j A(i, j) B(i, j), in double, j ascending: the diagonal of A B^T. Rows are split among threads.
template <class S, class K>
void row_dots(Index m, Index n, const Factor<S, K>& a, const Factor<S, K>& b, double* out, const Team<S, K>& team) {
  constexpr Index side = 64;
  lowrank::detail::for_each((m + side - 1) / side, team.threads(), [&](Index block, int slot) {
    const Index i0 = block * side, rows = std::min(side, m - i0);
    S* x = team[slot].rows;   // 64 x 64 fits: blocks are at least that large
    S* y = team[slot].stage;
    for (Index i = 0; i < rows; ++i) out[i0 + i] = 0;
    for (Index j0 = 0; j0 < n; j0 += side) {
      const Index cols = std::min(side, n - j0);
      a.load(i0, rows, j0, cols, x, rows);
      b.load(i0, rows, j0, cols, y, rows);
      for (Index j = 0; j < cols; ++j)
        for (Index i = 0; i < rows; ++i) out[i0 + i] += double(x[i + j * rows]) * double(y[i + j * rows]);
    }
  });
}

}  // namespace linalg
}  // namespace lowrank
