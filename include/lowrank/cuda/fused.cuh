// A back-projected step of small rank in two passes over the matrix: one reads G for R = P^T G, the norms of its columns and so whether it is
// finite; after the decision the other applies the rule to R and moves W by P N, which no one else sees. The composition of a
// norm, two products and a rule reads G twice, or, of another scalar than S, widens it into a panel first; but its products are
// cuBLAS'. fused_pays() weighs the two.
#pragma once

#include <lowrank/cuda/control.cuh>
#include <lowrank/cuda/sums.cuh>
#include <lowrank/cuda/sweep.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// The ranks that the kernels below take.
inline constexpr Index largest_fused_rank = 32;

/// How a back-projected step is taken: Auto by fused_pays(). Results differ in the last bits of R.
enum class Form { Auto, Composed, Fused };

/// Whether the fused form moves fewer bytes, or computes where bytes are no limit, in less time. S, T, U: bytes of the state's, the
/// weight's and the gradient's scalar. Time is counted in bytes of memory traffic, so that
///   composed = max(d k (2 U + 2 T + 2 S [U != S] + 2 S [T != S]) + 5 r k S,  4 d k r / library)
///   fused    = max(d k (U + 2 T) + (3 + 2 ceil(d / 1024)) r k S,             4 d k r / own)
/// with the flops that each kind of product does while a byte is moved. The two rates are a data-centre GPU's (67 TFLOP/s of floats, 4.8 TB/s)
/// at 60 % for cuBLAS and 25 % for a product that reads one operand of shared memory for each multiplication: estimates, which bench_cuda's
/// rows "fused" and "composed" are there to correct. Doubles do half of both.
inline bool fused_pays(Index d, Index k, Index r, std::size_t S, std::size_t T, std::size_t U) {
  constexpr double library = 8, own = 3.5;
  if (r > largest_fused_rank) return false;
  const double size = double(d) * double(k), core = double(r) * double(k) * double(S), flops = 4 * size * double(r) * (S == 8 ? 2 : 1);
  const double panels = (U != S ? 2.0 : 0.0) + (T != S ? 2.0 : 0.0), chunks = double(ceil_div(d, 1024));
  const double composed = most(size * (2 * double(U) + 2 * double(T) + panels * double(S)) + 5 * core, flops / library);
  const double fused = most(size * (double(U) + 2 * double(T)) + (3 + 2 * chunks) * core, flops / own);
  return fused < composed;
}

/// partial[chunk] (r x k) = P^T A over the chunk's rows and squares[chunk k + j] = the sum of a_ij^2 there, of A = scale G, in the order of
/// ColumnSquares. R: at least r.
template <class S, class T, int R>
struct ProjectSmall {
  static constexpr int threads = Lane::threads, tile = 32;
  static constexpr Index chunk = ColumnSquares<S, T>::chunk;
  View<const T> a;
  const S* P;
  Index r;
  S* partial;
  double* squares;
  const Control<S>* control;

  Grid grid() const {
    return {ceil_div(a.cols, Lane::columns) * ColumnSquares<S, T>::chunks(a.rows), shared_bytes<S>(tile * (R + 1)) + shared_bytes<double>(threads)};
  }
  struct Sums {
    S core[R];
    double square;
  };
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    const Index d = a.rows, k = a.cols, across = ceil_div(k, Lane::columns), j0 = block.index() % across * Lane::columns, c = block.index() / across;
    const Index end = least(d, (c + 1) * chunk);
    S* basis = block.template shared<S>(tile * (R + 1));
    double* room = block.template shared<double>(threads);
    auto mine = block.template local<Sums>();
    block.each([&](int t) {
      for (int q = 0; q < R; ++q) mine[t].core[q] = 0;
      mine[t].square = 0;
    });
    for (Index i0 = c * chunk; i0 < end; i0 += tile) {
      block.each([&](int t) {
        for (int q = t / tile; q < R; q += threads / tile)
          basis[t % tile * (R + 1) + q] = q < r && i0 + t % tile < end ? P[i0 + t % tile + q * d] : S(0);
      });
      block.each([&](int t) {
        const Lane at(t, a.row_stride == 1);
        if (j0 + at.column >= k) return;
        const S scale = S(control->input.grad_scale);
        Sums& sums = mine[t];
        for (int p = at.lane; p < tile && i0 + p < end; p += Lane::lanes) {
          const S x = scale * S(widen(a(i0 + p, j0 + at.column)));
          const S* row = basis + p * (R + 1);
          for (int q = 0; q < R; ++q) sums.core[q] = std::fma(row[q], x, sums.core[q]);
          sums.square = std::fma(double(x), double(x), sums.square);
        }
      });
    }
    block.each([&](int t) { room[Lane(t, a.row_stride == 1).slot()] = mine[t].square; });
    add_lanes(block, room, k - j0, [&](int column, double sum) { squares[c * k + j0 + column] = sum; });
    for (int q = 0; q < R && q < r; ++q) {
      block.each([&](int t) { room[Lane(t, a.row_stride == 1).slot()] = double(mine[t].core[q]); });
      add_lanes(block, room, k - j0, [&](int column, double sum) { partial[c * r * k + q + (j0 + column) * r] = S(sum); });
    }
  }
};

/// N = the rule's direction of R, W <- alpha P N + beta W, or what rounding to another scalar makes of it, where the step happens. A block
/// has 32 columns of R and of W, all their rows, and N in shared memory.
template <class S, class T, class Element>
struct RuleAndLift {
  static constexpr int threads = 512, columns = 32, tile = 128;
  Element element;
  const S *core, *P;
  Index r;
  Weight<S, T> weight;
  S scale;
  const Control<S>* control;

  Grid grid() const { return {ceil_div(weight.w.cols, columns), shared_bytes<S>(columns * int(r + 1)) + shared_bytes<S>(tile * int(r))}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    if (control->go == 0) return;
    const Index d = weight.w.rows, k = weight.w.cols, j0 = block.index() * columns;
    S* direction = block.template shared<S>(columns * int(r + 1));
    S* basis = block.template shared<S>(tile * int(r));
    block.each([&](int t) {
      const auto rule = element.begin(*control);
      for (Index e = t; e < r * columns && j0 + e / r < k; e += threads) direction[e / r * (r + 1) + e % r] = rule(core[j0 * r + e], j0 * r + e);
    });
    for (Index i0 = 0; i0 < d; i0 += tile) {
      block.each([&](int t) {
        for (Index q = t / tile; q < r; q += threads / tile)
          if (i0 + t % tile < d) basis[q * tile + t % tile] = P[i0 + t % tile + q * d];
      });
      block.each([&](int t) {
        const Weight<S, T> to = weight.begin(*control);
        for (int e = t; e < tile * columns; e += threads) {  // along w's contiguous dimension
          const int p = to.down ? e % tile : e / columns, c = to.down ? e / tile : e % columns;
          if (i0 + p >= d || j0 + c >= k) continue;
          S sum = 0;
          for (Index q = 0; q < r; ++q) sum = std::fma(basis[q * tile + p], direction[c * (r + 1) + q], sum);
          if constexpr (std::is_same_v<S, T>) {
            T& w = to.w(i0 + p, j0 + c);
            w = std::fma(control->write[0], sum, control->write[1] * w);
          } else {
            to(i0 + p, j0 + c, scale * sum);
          }
        }
      });
    }
  }
};

/// R (r x k) <- scale P^T G with the squares of G's columns, in one pass. partial: as R for every 1024 rows, where there is more than one.
template <class S, class T, class B>
void project_small(B& backend, const View<const T>& g, const S* P, Index r, S* partial, const Squares& squares, S* R, const Control<S>* control) {
  const Index chunks = ColumnSquares<S, T>::chunks(g.rows);
  S* sums = chunks > 1 ? partial : R;
  if (r <= 8) launch(backend, ProjectSmall<S, T, 8>{g, P, r, sums, squares.partial, control});
  else if (r <= 16) launch(backend, ProjectSmall<S, T, 16>{g, P, r, sums, squares.partial, control});
  else launch(backend, ProjectSmall<S, T, 32>{g, P, r, sums, squares.partial, control});
  if (chunks > 1) launch(backend, ChunkTotals<S>{partial, r * g.cols, chunks, R});
  launch(backend, ChunkTotals<double>{squares.partial, g.cols, chunks, squares.column});
}

}  // namespace cuda
}  // namespace lowrank
