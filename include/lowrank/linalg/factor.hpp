// Factors: matrices as products meet them, in somebody's memory: any storage order, any scalar, scaled rows or columns, dropped
// entries, all folded into the reading and writing of blocks.
#pragma once

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
  template <class K, class S>
  void apply(Index i0, Index m, Index j0, Index n, S* block, Index ld) const {
    if (below == 0) return;
    const bool down = rows == Rows::Features;
    const Index f0 = down ? i0 : j0, t0 = down ? j0 : i0, wide = down ? m : n, samples = down ? n : m;
    const Index df = down ? 1 : ld, dt = down ? ld : 1;
    constexpr std::uint64_t batch = 16;  // random blocks of four words
    std::uint16_t halves[8 * batch];
    for (Index t = 0; t < samples; ++t) {
      const auto first = std::uint64_t((t0 + t) * features + f0), end = first + std::uint64_t(wide);
      for (std::uint64_t base = first / 4; 4 * base < end; base += batch) {
        K::random_halves(8 * batch, seed, stream, 8 * base, halves);
        const std::uint64_t from = std::max(first, 4 * base), to = std::min(end, 4 * (base + batch));
        S* x = block + Index(from - first) * df + t * dt;
        for (std::uint64_t at = from; at < to; ++at, x += df) {
          const S kept = *x * S(scale);
          const std::uint16_t* half = halves + 2 * (at - 4 * base);  // the lower one first
          *x = (std::uint32_t(half[1]) << 16 | half[0]) < below ? S(0) : kept;
        }
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
    mask.template apply<K>(i0, m, j0, n, dst, ld);
    if (row_scale != nullptr)
      for (Index j = 0; j < n; ++j)
        for (Index i = 0; i < m; ++i) dst[i + j * ld] *= row_scale[i0 + i];
    if (col_scale != nullptr)
      for (Index j = 0; j < n; ++j) K::combine(m, double(col_scale[j0 + j]), dst + j * ld, 0.0, dst + j * ld, dst + j * ld);
  }
  Factor transposed() const { return {linalg::transposed(memory), col_scale, row_scale, mask.transposed()}; }

  Strided<S, K> in_place(Index i0, Index j0) const {
    const bool plain = memory.dtype == lowrank::detail::DtypeOf<S>::value && row_scale == nullptr && col_scale == nullptr && mask.below == 0;
    return {plain ? memory.template at<const S>(i0, j0) : nullptr, memory.row_stride, memory.col_stride};
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

}  // namespace linalg
}  // namespace lowrank
