// Orth: an orthonormal basis of the columns of Y (d x n, column-major, d >= n), without asking the device anything.
//
// Columns of unit length, then twice G = Y^T Y = L L^T, Y <- Y L^-T, all in double: that is exact to 1e-16 cond(Y)^2 after the first
// pass and to rounding after the second, for conditions up to about 1e7, which a Y computed in float hardly exceeds. (CholeskyQR2:
// Yamamoto, Nakatsukasa, Yanagisawa, Fukaya, ETNA 44, 2015.) A pivot (the squared sine between a column and those before it) that
// drowns in the error of G raises a flag, and a last kernel, which otherwise returns at once, redoes the work by Gram-Schmidt with
// reorthogonalisation; columns that depend on earlier ones become unit vectors, in index order. It is one block and slow, and meant for
// gradients of less rank than r.
#pragma once

#include <lowrank/cuda/sums.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// y = x in double, columns times 1 / sqrt(square[j]); columns of no length, or that are not finite, are zero. kept = y.
template <class S>
struct UnitColumns {
  const S* x;
  double *y, *kept;
  Index d, n;
  const double* square;

  LOWRANK_HOST_DEVICE Index size() const { return d * n; }
  LOWRANK_DEVICE void operator()(Index e) const {
    const double length = square[e / d];
    y[e] = kept[e] = length > 0 && is_finite(length) ? double(x[e]) / std::sqrt(length) : 0.0;
  }
};

/// *flag |= info != 0 or a pivot that is no more than an error.
struct CheckPivots {
  static constexpr int threads = 256;
  const double* L;
  Index n;
  const int* info;
  int* flag;

  Grid grid() const { return {1, shared_bytes<double>(threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    double* room = block.template shared<double>(threads);
    auto bad = block.template local<double>();
    block.each([&](int t) {
      double count = 0;
      for (Index i = t; i < n; i += threads) count += L[i + i * n] * L[i + i * n] > 100 * 0x1p-52 ? 0 : 1;
      bad[t] = count;
    });
    const double all = block_sum(block, bad, room);
    block.each([&](int t) {
      if (t == 0 && (all > 0 || *info != 0)) *flag = 1;
    });
  }
};

/// Where *flag is set: y (d x n) <- an orthonormal basis of x. room: d doubles, present: n.
struct GramSchmidt {
  static constexpr int threads = 256;
  const double* x;
  double* y;
  Index d, n;
  const int* flag;
  double *room, *present;

  Grid grid() const { return {1, shared_bytes<double>(threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    if (*flag == 0) return;
    double* sums = block.template shared<double>(threads);
    block.each([&](int t) {
      for (Index i = t; i < d; i += threads) room[i] = 0;
    });
    Index have = 0;
    for (Index j = 0; j < n; ++j) {
      block.each([&](int t) {
        for (Index i = t; i < d; i += threads) y[i + j * d] = x[i + j * d];
      });
      bool there = true;
      for (int round = 0; round < 3 && there; ++round) {
        for (Index p = 0; p < j; ++p) remove(block, p, j, sums);
        const double left = std::sqrt(dot(block, j, j, sums));
        there = left > (round == 0 ? 64 * 0x1p-52 : 0.0);
        scale(block, j, there ? 1 / left : 0.0);
      }
      if (there) accept(block, j), ++have;
      block.each([&](int t) {
        if (t == 0) present[j] = there ? 1 : 0;
      });
    }
    Index i = 0;
    for (Index j = 0; j < n; ++j) {
      bool there = false;
      block.each([&](int) { there = present[j] != 0; });
      if (there) continue;
      // ||e_i - Q Q^T e_i||^2 = 1 - room_i; these sum to d - have, so one of them reaches the mean
      const double enough = double(d - have) / (2 * double(d));
      for (i = 0; i < d - 1; ++i) {
        double left = 0;
        block.each([&](int) { left = 1 - room[i]; });
        if (left >= enough) break;
      }
      block.each([&](int t) {
        for (Index q = t; q < d; q += threads) y[q + j * d] = q == i ? 1 : 0;
      });
      for (int pass = 0; pass < 2; ++pass) {
        for (Index p = 0; p < n; ++p) {
          bool other = false;
          block.each([&](int) { other = present[p] != 0; });
          if (other) remove(block, p, j, sums);
        }
        scale(block, j, 1 / std::sqrt(dot(block, j, j, sums)));
      }
      accept(block, j), ++have;
      block.each([&](int t) {
        if (t == 0) present[j] = 1;
      });
    }
  }

 private:
  template <class Block>
  LOWRANK_DEVICE double dot(Block& block, Index a, Index b, double* sums) const {
    auto mine = block.template local<double>();
    block.each([&](int t) {
      double sum = 0;
      for (Index i = t; i < d; i += threads) sum = std::fma(y[i + a * d], y[i + b * d], sum);
      mine[t] = sum;
    });
    return block_sum(block, mine, sums);
  }
  /// Column j less its part along column p.
  template <class Block>
  LOWRANK_DEVICE void remove(Block& block, Index p, Index j, double* sums) const {
    const double along = dot(block, p, j, sums);
    block.each([&](int t) {
      for (Index i = t; i < d; i += threads) y[i + j * d] = std::fma(-along, y[i + p * d], y[i + j * d]);
    });
  }
  template <class Block>
  LOWRANK_DEVICE void scale(Block& block, Index j, double factor) const {
    block.each([&](int t) {
      for (Index i = t; i < d; i += threads) y[i + j * d] = factor == 0 ? 0 : y[i + j * d] * factor;
    });
  }
  template <class Block>
  LOWRANK_DEVICE void accept(Block& block, Index j) const {
    block.each([&](int t) {
      for (Index i = t; i < d; i += threads) room[i] = std::fma(y[i + j * d], y[i + j * d], room[i]);
    });
  }
};

/// out = y in S, column j times -1 where it points away from column j of `old` (null: as it is).
template <class S>
struct WithSignsOf {
  static constexpr int threads = 256;
  const double* y;
  const S* old;
  S* out;
  Index d, n;

  Grid grid() const { return {n, shared_bytes<double>(threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    const Index j = block.index();
    double* room = block.template shared<double>(threads);
    auto mine = block.template local<double>();
    block.each([&](int t) {
      double sum = 0;
      if (old != nullptr)
        for (Index i = t; i < d; i += threads) sum = std::fma(double(old[i + j * d]), y[i + j * d], sum);
      mine[t] = sum;
    });
    const double sign = block_sum(block, mine, room) < 0 ? -1 : 1;
    block.each([&](int t) {
      for (Index i = t; i < d; i += threads) out[i + j * d] = S(sign * y[i + j * d]);
    });
  }
};

class Orth {
 public:
  Orth() = default;
  Orth(Arena& arena, Index d, Index n)
      : d_(d), squares_(arena, d, n), y_(arena.take<double>(d * n)), kept_(arena.take<double>(d * n)), gram_(arena.take<double>(n * n)),
        room_(arena.take<double>(d)), present_(arena.take<double>(n)), flags_(arena.take<int>(2)) {}

  /// out (d x n) <- Q of Y, its signs as in `old`; out may be Y.
  template <class S, class B>
  void operator()(B& backend, const S* Y, Index n, const S* old, S* out) const {
    squares_.template operator()<S, S>(backend, View<const S>{Y, d_, n, 1, d_});
    launch(backend, UnitColumns<S>{Y, y_, kept_, d_, n, squares_.column});
    backend.clear(flags_, 2 * sizeof(int));
    for (int pass = 0; pass < 2; ++pass) {
      backend.gemm(transposed<const double>(y_, d_), columns<const double>(y_, d_), columns(gram_, n), n, n, d_, Scale<double>{});
      backend.cholesky(n, gram_, n, flags_ + 1);
      launch(backend, CheckPivots{gram_, n, flags_ + 1, flags_});
      backend.divide(d_, n, gram_, n, y_, d_);
    }
    launch(backend, GramSchmidt{kept_, y_, d_, n, flags_, room_, present_});
    launch(backend, WithSignsOf<S>{y_, old, out, d_, n});
  }

 private:
  Index d_ = 0;
  Squares squares_;
  double *y_ = nullptr, *kept_ = nullptr, *gram_ = nullptr, *room_ = nullptr, *present_ = nullptr;
  int* flags_ = nullptr;
};

}  // namespace cuda
}  // namespace lowrank
