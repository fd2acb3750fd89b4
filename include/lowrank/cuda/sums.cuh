// Sums of squares, per column and in total, in one order: lanes of eight rows apart, chunks of 1024 rows, then chunk by chunk, in
// double. The order depends on neither the storage order of the matrix nor the device.
#pragma once

#include <lowrank/cuda/control.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// A thread's place in a block of 32 columns x 8 lanes: neighbours lie along the contiguous dimension.
struct Lane {
  static constexpr int columns = 32, lanes = 8, threads = columns * lanes;
  int column, lane;

  LOWRANK_HOST_DEVICE Lane(int t, bool down) : column(down ? t / lanes : t % columns), lane(down ? t % lanes : t / columns) {}
  LOWRANK_HOST_DEVICE int slot() const { return column * lanes + lane; }
};

/// Adds the lanes of each column; f(column, sum) for those below `columns`.
template <class Block, class F>
LOWRANK_DEVICE void add_lanes(Block& block, const double* room, Index columns, const F& f) {
  block.each([&](int t) {
    if (t >= Lane::columns || t >= columns) return;
    double sum = 0;
    for (int l = 0; l < Lane::lanes; ++l) sum += room[t * Lane::lanes + l];
    f(t, sum);
  });
}

/// partial[chunk * cols + j] = the sum of (scale a_ij)^2 over the chunk's rows, the scale being the step's (null: 1).
template <class S, class T>
struct ColumnSquares {
  static constexpr int threads = Lane::threads;
  static constexpr Index chunk = 1024;
  View<const T> a;
  double* partial;
  const Control<S>* control = nullptr;
  bool absolute = false;  // |x| instead of its square

  static Index chunks(Index rows) { return most<Index>(1, ceil_div(rows, chunk)); }
  Grid grid() const { return {ceil_div(a.cols, Lane::columns) * chunks(a.rows), shared_bytes<double>(threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    const Index across = ceil_div(a.cols, Lane::columns), j0 = block.index() % across * Lane::columns, c = block.index() / across;
    double* room = block.template shared<double>(threads);
    block.each([&](int t) {
      const Lane at(t, a.row_stride == 1);
      const S scale = control == nullptr ? S(1) : S(control->input.grad_scale);
      double sum = 0;
      if (j0 + at.column < a.cols)
        for (Index i = c * chunk + at.lane; i < least(a.rows, (c + 1) * chunk); i += Lane::lanes) {
          const double x = double(scale * S(widen(a(i, j0 + at.column))));
          sum = absolute ? sum + (x < 0 ? -x : x) : std::fma(x, x, sum);
        }
      room[at.slot()] = sum;
    });
    add_lanes(block, room, a.cols - j0, [&](int column, double sum) { partial[c * a.cols + j0 + column] = sum; });
  }
};

/// out[i] = the chunks' sums of n each, in order.
template <class S>
struct ChunkTotals {
  const S* partial;
  Index n, chunks;
  S* out;

  LOWRANK_HOST_DEVICE Index size() const { return n; }
  LOWRANK_DEVICE void operator()(Index i) const {
    S sum = 0;
    for (Index c = 0; c < chunks; ++c) sum += partial[c * n + i];
    out[i] = sum;
  }
};

/// Squares of the columns of a matrix, with the room for it.
struct Squares {
  double *column = nullptr, *partial = nullptr;

  Squares() = default;
  Squares(Arena& arena, Index rows, Index cols)
      : column(arena.take<double>(cols)), partial(arena.take<double>(cols * ColumnSquares<float, float>::chunks(rows))) {}

  template <class S, class T, class B>
  void operator()(B& backend, const View<const T>& a, const Control<S>* control = nullptr, bool absolute = false) const {
    launch(backend, ColumnSquares<S, T>{a, partial, control, absolute});
    launch(backend, ChunkTotals<double>{partial, a.cols, ColumnSquares<S, T>::chunks(a.rows), column});
  }
};

/// The sum of n numbers by one block: each thread's share in order, then the tree.
template <class Block>
LOWRANK_DEVICE double total(Block& block, const double* x, Index n, double* room) {
  auto mine = block.template local<double>();
  block.each([&](int t) {
    double sum = 0;
    for (Index i = t; i < n; i += block.threads()) sum += x[i];
    mine[t] = sum;
  });
  return block_sum(block, mine, room);
}

/// control->norm = the sum of n squares, control->inverse_norm = its root's inverse, 0 where there is none.
template <class S>
struct Norm {
  static constexpr int threads = 256;
  const double* column;
  Index n;
  Control<S>* control;

  Grid grid() const { return {1, shared_bytes<double>(threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    double* room = block.template shared<double>(threads);
    const double sum = total(block, column, n, room);
    block.each([&](int t) {
      if (t != 0) return;
      control->norm = sum;
      control->inverse_norm = sum > 0 && is_finite(sum) ? S(1 / std::sqrt(sum)) : S(0);
    });
  }
};

/// out[i] = x[i] / ||X|| with the norm in `control`; out may be x.
template <class S>
struct Normalise {
  const S* x;
  S* out;
  Index n;
  const Control<S>* control;

  LOWRANK_HOST_DEVICE Index size() const { return n; }
  LOWRANK_DEVICE void operator()(Index i) const { out[i] = x[i] * control->inverse_norm; }
};

}  // namespace cuda
}  // namespace lowrank
