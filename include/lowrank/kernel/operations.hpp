// Operations<Bytes>: every inner loop of the library, written once over SIMD registers of Bytes bytes.
//
// Pointers may have any alignment and n any value: the last, partial register goes through the same instructions with
// its unused lanes zero, so an element's bits do not depend on its place in the array. Scalars come in double, rounded
// to S once per call.
#pragma once

#include <algorithm>  // std::min

#include <lowrank/kernel/vector.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace kernel {

template <int Bytes>
struct Operations {
  template <class S>
  using V = Vec<S, Bytes>;
  template <class S>
  static constexpr Index lanes = V<S>::lanes;

  /// A gemm_tile is up to 2 registers high and tile_cols wide: accumulators, two of A and one broadcast of B fit the
  /// register file (32 registers of 64 bytes, otherwise 16).
  static constexpr Index tile_cols = Bytes == 64 ? 8 : 4;

  /// C (=, +=) A B for one tile. A: `registers * lanes` x depth, packed (depth columns, contiguous); B: depth x
  /// tile_cols with B(p, j) at b[p * bk + j * bj]; C column-major with leading dimension ldc. Each element is one chain
  /// of fused multiply-adds over p, then one add when accumulating.
  template <int registers, class S>
  static void gemm_tile(Index depth, const S* a, const S* b, Index bk, Index bj, S* c, Index ldc, bool accumulate) {
    V<S> sum[tile_cols][registers];
    for (auto& column : sum)
      for (auto& x : column) x = V<S>::zero();
    for (Index p = 0; p < depth; ++p, a += registers * lanes<S>, b += bk) {
      V<S> column[registers];
      for (int i = 0; i < registers; ++i) column[i] = V<S>::load(a + i * lanes<S>);
      for (Index j = 0; j < tile_cols; ++j) {
        const V<S> broadcast = V<S>::all(b[j * bj]);
        for (int i = 0; i < registers; ++i) sum[j][i] = fma(column[i], broadcast, sum[j][i]);
      }
    }
    for (Index j = 0; j < tile_cols; ++j)
      for (int i = 0; i < registers; ++i) {
        S* out = c + j * ldc + i * lanes<S>;
        (accumulate ? V<S>::load(out) + sum[j][i] : sum[j][i]).store(out);
      }
  }

  /// m <- b1 m + (1-b1) g;  v <- b2 v + (1-b2) g^2;  out = m / (sqrt(v) + eps)
  template <class S>
  static void adam(Index n, const S* g, S* m, S* v, S* out, double beta1, double beta2, double epsilon) {
    const auto b1 = all<S>(beta1), c1 = all<S>(1 - beta1), b2 = all<S>(beta2), c2 = all<S>(1 - beta2);
    const auto eps = all<S>(epsilon);
    sweep<S>(n, [&](Index i, auto part) LOWRANK_LAMBDA_INLINE {
      const auto x = load(g + i, part);
      const auto first = fma(c1, x, b1 * load(m + i, part));
      const auto second = fma(c2 * x, x, b2 * load(v + i, part));
      store(m + i, first, part);
      store(v + i, second, part);
      store(out + i, first / (sqrt(second) + eps), part);
    });
  }

  /// v <- b v + (1-b) g^2;  out = g / (sqrt(v) + eps)
  template <class S>
  static void rmsprop(Index n, const S* g, S* v, S* out, double beta, double epsilon) {
    const auto b = all<S>(beta), c = all<S>(1 - beta), eps = all<S>(epsilon);
    sweep<S>(n, [&](Index i, auto part) LOWRANK_LAMBDA_INLINE {
      const auto x = load(g + i, part);
      const auto second = fma(c * x, x, b * load(v + i, part));
      store(v + i, second, part);
      store(out + i, x / (sqrt(second) + eps), part);
    });
  }

  /// m <- mu m + c g;  out = m, or g + mu m (Nesterov)
  template <class S>
  static void momentum(Index n, const S* g, S* m, S* out, double mu, double c, bool nesterov) {
    const auto decay = all<S>(mu), gain = all<S>(c);
    sweep<S>(n, [&](Index i, auto part) LOWRANK_LAMBDA_INLINE {
      const auto x = load(g + i, part);
      const auto first = fma(gain, x, decay * load(m + i, part));
      store(m + i, first, part);
      store(out + i, nesterov ? fma(decay, first, x) : first, part);
    });
  }

  /// out = sign(b1 m + (1-b1) g);  m <- b2 m + (1-b2) g
  template <class S>
  static void lion(Index n, const S* g, S* m, S* out, double beta1, double beta2) {
    const auto b1 = all<S>(beta1), c1 = all<S>(1 - beta1), b2 = all<S>(beta2), c2 = all<S>(1 - beta2);
    sweep<S>(n, [&](Index i, auto part) LOWRANK_LAMBDA_INLINE {
      const auto x = load(g + i, part), old = load(m + i, part);
      store(out + i, sign(fma(c1, x, b1 * old)), part);
      store(m + i, fma(c2, x, b2 * old), part);
    });
  }

  /// w <- after (before w - step u)
  template <class S>
  static void update(Index n, S* w, const S* u, double step, double before, double after) {
    const auto s = all<S>(-step), b = all<S>(before), c = all<S>(after);
    sweep<S>(n, [&](Index i, auto part) LOWRANK_LAMBDA_INLINE {
      store(w + i, c * fma(s, load(u + i, part), b * load(w + i, part)), part);
    });
  }

  /// out <- alpha x + beta y; out may be x or y. beta == 0: y is not read.
  template <class S>
  static void combine(Index n, double alpha, const S* x, double beta, const S* y, S* out) {
    const auto a = all<S>(alpha), b = all<S>(beta);
    if (beta == 0)
      sweep<S>(n, [&](Index i, auto part) LOWRANK_LAMBDA_INLINE { store(out + i, a * load(x + i, part), part); });
    else
      sweep<S>(n, [&](Index i, auto part) LOWRANK_LAMBDA_INLINE {
        store(out + i, fma(a, load(x + i, part), b * load(y + i, part)), part);
      });
  }

  /// out = x o y
  template <class S>
  static void multiply(Index n, const S* x, const S* y, S* out) {
    sweep<S>(n, [&](Index i, auto part) LOWRANK_LAMBDA_INLINE {
      store(out + i, load(x + i, part) * load(y + i, part), part);
    });
  }

  /// sum of x_i^2 and of |x_i|: registers over at most 256 elements at a time, those sums added in double. A float sum
  /// that overflows comes out infinite, which is how a gradient whose square overflows is noticed.
  template <class S>
  static double sum_squares(Index n, const S* x) {
    return sum<S>(n, x, [](V<S> a, V<S> acc) LOWRANK_LAMBDA_INLINE { return fma(a, a, acc); });
  }
  template <class S>
  static double sum_abs(Index n, const S* x) {
    return sum<S>(n, x, [](V<S> a, V<S> acc) LOWRANK_LAMBDA_INLINE { return acc + abs(a); });
  }

  /// y[i] <- y[i] + |x[i]| or + x[i]^2, in double per element (column-selection scores).
  template <class S>
  static void add_abs(Index n, const S* x, double* y) {
    for (Index i = 0; i < n; ++i) y[i] += x[i] < 0 ? double(-x[i]) : double(x[i]);
  }
  template <class S>
  static void add_squares(Index n, const S* x, double* y) {
    for (Index i = 0; i < n; ++i) y[i] += double(x[i]) * double(x[i]);
  }

  /// dst (cols x rows, column-major, leading dimension ldd) <- src^T, src rows x cols column-major. The columns of src may
  /// lie pages apart, where no hardware looks ahead: the next ones are asked for while these are turned.
  template <class S>
  static void transpose(Index rows, Index cols, const S* src, Index lds, S* dst, Index ldd) {
    constexpr Index L = lanes<S>;
    for (Index j0 = 0; j0 < cols; j0 += L)
      for (Index i0 = 0; i0 < rows; i0 += L) {
        if (i0 + L <= rows && j0 + L <= cols) {
          V<S> x[L];
          for (Index j = 0; j < L; ++j) x[j] = V<S>::load(src + i0 + (j0 + j) * lds);
          if (j0 + 2 * L <= cols)
            for (Index j = 0; j < L; ++j) __builtin_prefetch(src + i0 + (j0 + L + j) * lds);
          kernel::transpose(x);
          for (Index i = 0; i < L; ++i) x[i].store(dst + j0 + (i0 + i) * ldd);
        } else {
          for (Index j = j0; j < std::min(j0 + L, cols); ++j)
            for (Index i = i0; i < std::min(i0 + L, rows); ++i) dst[j + i * ldd] = src[i + j * lds];
        }
      }
  }

 private:
  struct Whole {};
  struct Part { Index n; };

  template <class S>
  static LOWRANK_INLINE V<S> all(double x) { return V<S>::all(S(x)); }
  template <class S>
  static LOWRANK_INLINE V<S> load(const S* p, Whole) { return V<S>::load(p); }
  template <class S>
  static LOWRANK_INLINE V<S> load(const S* p, Part part) { return V<S>::load(p, part.n); }
  template <class S>
  static LOWRANK_INLINE void store(S* p, V<S> x, Whole) { x.store(p); }
  template <class S>
  static LOWRANK_INLINE void store(S* p, V<S> x, Part part) { x.store(p, part.n); }

  template <class S, class F>
  static LOWRANK_INLINE void sweep(Index n, const F& f) {
    Index i = 0;
    for (; i + lanes<S> <= n; i += lanes<S>) f(i, Whole{});
    if (i < n) f(i, Part{n - i});
  }

  template <class S, class F>
  static double sum(Index n, const S* x, const F& f) {
    double total = 0;
    for (Index begin = 0; begin < n; begin += 256) {
      const Index end = std::min(n, begin + 256);
      V<S> acc[2] = {V<S>::zero(), V<S>::zero()};
      Index i = begin;
      for (; i + 2 * lanes<S> <= end; i += 2 * lanes<S>)
        for (Index u = 0; u < 2; ++u) acc[u] = f(V<S>::load(x + i + u * lanes<S>), acc[u]);
      for (; i < end; i += lanes<S>) acc[0] = f(V<S>::load(x + i, std::min(lanes<S>, end - i)), acc[0]);
      const V<S> both = acc[0] + acc[1];
      for (Index l = 0; l < lanes<S>; ++l) total += double(both.v[l]);
    }
    return total;
  }
};

}  // namespace kernel
}  // namespace lowrank
