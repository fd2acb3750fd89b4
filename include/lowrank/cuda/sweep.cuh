// Sweep: one pass over a d x k matrix, x_ij from a source into a sink. Where the two lie in different storage orders, a
// tile of 32 x 32 is turned in shared memory, so that both are read and written along their contiguous dimension.
//
// A source or a sink has  `bool down` (rows are contiguous),  begin(control), which gives it as it is in this step,  and
//   S source(i, j)      void sink(i, j, S x)
#pragma once

#include <lowrank/cuda/control.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

template <class S, class Source, class Sink>
struct Sweep {
  static constexpr int threads = 256, tile = 32, per_thread = 4;
  Source source;
  Sink sink;
  Index rows, cols;
  const Control<S>* control;
  bool always = false;  // also when the step does not happen

  bool same() const { return source.down == sink.down; }
  /// Elements of a block's piece along the sink's contiguous dimension: as long as there are enough.
  LOWRANK_HOST_DEVICE Index along() const {
    return source.down == sink.down && (sink.down ? rows : cols) > 512 ? Index(threads) * per_thread : tile;
  }
  LOWRANK_HOST_DEVICE Index across() const { return Index(threads) * per_thread / along(); }
  Grid grid() const {
    const Index inner = sink.down ? rows : cols, outer = sink.down ? cols : rows;
    return {ceil_div(inner, along()) * ceil_div(outer, across()), same() ? 0 : shared_bytes<S>(tile * (tile + 1))};
  }

  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    const Index inner = sink.down ? rows : cols, outer = sink.down ? cols : rows, wide = along(), high = across();
    const Index pieces = ceil_div(inner, wide), p0 = block.index() % pieces * wide, q0 = block.index() / pieces * high;
    const auto element = [&](int t, int n, bool turned, Index& p, Index& q) {
      const Index e = Index(n) * threads + t;
      p = turned ? e / wide : e % wide;  // the contiguous index of whoever is not turned
      q = turned ? e % wide : e / wide;
      return p0 + p < inner && q0 + q < outer;
    };
    if (source.down == sink.down) {
      block.each([&](int t) {
        if (!always && control->go == 0) return;
        const auto from = source.begin(*control);
        const auto to = sink.begin(*control);
        for (int n = 0; n < per_thread; ++n) {
          Index p, q;
          if (!element(t, n, false, p, q)) continue;
          const Index i = sink.down ? p0 + p : q0 + q, j = sink.down ? q0 + q : p0 + p;
          to(i, j, from(i, j));
        }
      });
      return;
    }
    S* room = block.template shared<S>(tile * (tile + 1));
    block.each([&](int t) {
      const auto from = source.begin(*control);
      for (int n = 0; n < per_thread; ++n) {
        Index p, q;
        if (element(t, n, true, p, q)) room[p * (tile + 1) + q] = sink.down ? from(p0 + p, q0 + q) : from(q0 + q, p0 + p);
      }
    });
    block.each([&](int t) {
      if (!always && control->go == 0) return;
      const auto to = sink.begin(*control);
      for (int n = 0; n < per_thread; ++n) {
        Index p, q;
        if (!element(t, n, false, p, q)) continue;
        to(sink.down ? p0 + p : q0 + q, sink.down ? q0 + q : p0 + p, room[p * (tile + 1) + q]);
      }
    });
  }
};
template <class S, class Source, class Sink>
Sweep<S, Source, Sink> sweep(const Source& source, const Sink& sink, Index rows, Index cols, const Control<S>* control, bool always = false) {
  return {source, sink, rows, cols, control, always};
}

/// The caller's gradient, widened and scaled; times factor[j] where there is one.
template <class S, class T>
struct Gradient {
  View<const T> a;
  const S* factor = nullptr;
  bool scaled = true;
  bool down = a.row_stride == 1;
  S scale = 1;

  LOWRANK_DEVICE Gradient begin(const Control<S>& c) const {
    Gradient g = *this;
    if (scaled) g.scale = S(c.input.grad_scale);
    return g;
  }
  LOWRANK_DEVICE S operator()(Index i, Index j) const {
    const S x = scale * S(widen(a(i, j)));
    return factor == nullptr ? x : factor[j] * x;
  }
};

/// A column-major array.
template <class S>
struct Columns {
  S* data;
  Index ld;
  bool down = true;

  LOWRANK_DEVICE Columns begin(const auto&) const { return *this; }
  LOWRANK_DEVICE S operator()(Index i, Index j) const { return data[i + j * ld]; }
  LOWRANK_DEVICE void operator()(Index i, Index j, S x) const { data[i + j * ld] = x; }
};
/// X <- X + x.
template <class S>
struct Added {
  S* data;
  Index ld;
  bool down = true;

  LOWRANK_DEVICE Added begin(const Control<S>&) const { return *this; }
  LOWRANK_DEVICE void operator()(Index i, Index j, S x) const { data[i + j * ld] += x; }
};

/// The caller's weight: W <- after (before W - move U), rounded as the step asks. Element (i, j) has number
/// i number_of_row + j number_of_column in the caller's matrix.
template <class S, class T>
struct Weight {
  View<T> w;
  Index number_of_row, number_of_column;
  Index first = 0;  // the number of element (0, 0)
  bool down = w.row_stride == 1;
  S move = 0, before = 1, after = 1;
  bool stochastic = false;
  std::uint64_t seed = 0, step = 0;

  /// n columns from j0 on.
  Weight columns(Index j0, Index n) const {
    Weight part = *this;
    part.w = {w.data + j0 * w.col_stride, w.rows, n, w.row_stride, w.col_stride};
    part.first = first + j0 * number_of_column;
    return part;
  }
  LOWRANK_DEVICE Weight begin(const Control<S>& c) const {
    Weight x = *this;
    x.move = S(-c.move);
    x.before = S(c.motion.before);
    x.after = S(c.motion.after);
    x.stochastic = c.input.stochastic != 0;
    x.seed = c.input.seed;
    x.step = c.step;
    return x;
  }
  LOWRANK_DEVICE void operator()(Index i, Index j, S u) const {
    T& to = w(i, j);
    const S x = after * std::fma(move, u, before * S(widen(to)));
    if (sizeof(T) == 2 && stochastic)
      to = narrow<T>(x, uniform(seed, step, std::uint64_t(first + i * number_of_row + j * number_of_column)));
    else
      to = narrow<T>(x);
  }
};

}  // namespace cuda
}  // namespace lowrank
