// Operations<Bytes>: every inner loop of the library, written once over SIMD registers of Bytes bytes. Pairs says how bf16
// numbers are multiplied (bf16.hpp).
//
// Pointers may have any alignment and n any value: the last, partial register goes through the same instructions with
// its unused lanes zero, so an element's bits do not depend on its place in the array. Scalars come in double, rounded
// to S once per call.
#pragma once

#include <algorithm>  // std::min
#include <cstdint>    // std::uintptr_t

#include <lowrank/kernel/ahead.hpp>
#include <lowrank/kernel/bf16.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace kernel {

/// The numbers of W <- after (before W - step (U + scale G diag(phi))).
template <class S>
struct Motion {
  S step = 0, before = 1, after = 1, scale = 1;
};

/// Where a tile of U goes: W, and what is added to U on the way, either of which may be missing. Columns are contiguous.
template <class S>
struct Target {
  S* w = nullptr;
  Index ldw = 0;
  const S* g = nullptr;
  Index ldg = 0;
  const S* phi = nullptr;      // with g: one factor per column, or one per row
  bool phi_per_row = false;
};

template <int Bytes, class Pairs = WidenedPairs>
struct Operations {
  template <class S>
  using V = Vec<S, Bytes>;
  template <class S>
  static constexpr Index lanes = V<S>::lanes;

  /// A gemm_tile is up to 2 registers high and tile_cols wide: accumulators, two of A and one broadcast of B fit the
  /// register file (32 registers of 64 bytes, otherwise 16).
  static constexpr Index tile_cols = Bytes == 64 ? 8 : 4;

  /// C (=, +=) A B for one tile. A: `registers * lanes` x depth, packed (depth columns, contiguous); B: depth x
  /// tile_cols with B(p, j) at b[p * bk + j * bj], one of the two strides being 1; C column-major with leading dimension
  /// ldc. Each element is one chain of fused multiply-adds over p, then one add when accumulating. X is S, or Bf16Pair with
  /// S = float: depth then counts pairs.
  template <int registers, class X, class S, class Ahead>
  LOWRANK_NOINLINE static void gemm_tile(Index depth, const X* a, const X* b, Index bk, Index bj, S* c, Index ldc, bool accumulate, Ahead& ahead) {
    const auto sum = product<registers, S>(depth, a, b, bk, bj, ahead);
    each<registers>([&](auto i, auto j) LOWRANK_LAMBDA_INLINE {
      S* out = c + j * ldc + i * lanes<S>;
      (accumulate ? V<S>::load(out) + sum.of[j][i] : sum.of[j][i]).store(out);
    });
  }
  template <int registers, class X, class S>
  static void gemm_tile(Index depth, const X* a, const X* b, Index bk, Index bj, S* c, Index ldc, bool accumulate) {
    Idle idle;
    gemm_tile<registers>(depth, a, b, bk, bj, c, ldc, accumulate, idle);
  }

  /// W <- after (before W - step (U + scale G diag(phi))) for one tile, U = A B as above, plus `partial` where that is
  /// given (column-major without gaps). U never reaches memory: what move() does to each column, to the bit.
  template <int registers, class X, class S, class Ahead = Idle>
  LOWRANK_NOINLINE static void update_tile(Index depth, const X* a, const X* b, Index bk, Index bj, const S* partial, const Target<S>& to,
                          const Motion<S>& motion, Ahead&& ahead = {}) {
    constexpr Index L = lanes<S>;
    auto sum = product<registers, S>(depth, a, b, bk, bj, ahead);
    if (partial != nullptr)
      each<registers>([&](auto i, auto j) LOWRANK_LAMBDA_INLINE {
        sum.of[j][i] = V<S>::load(partial + (j * registers + i) * L) + sum.of[j][i];
      });
    const V<S> scale = V<S>::all(motion.scale);
    if (to.g != nullptr && to.phi_per_row)
      each<registers>([&](auto i, auto j) LOWRANK_LAMBDA_INLINE {
        sum.of[j][i] = fma(V<S>::load(to.phi + i * L), scale * V<S>::load(to.g + j * to.ldg + i * L), sum.of[j][i]);
      });
    else if (to.g != nullptr)
      each<registers>([&](auto i, auto j) LOWRANK_LAMBDA_INLINE {
        sum.of[j][i] = fma(V<S>::all(to.phi[j]), scale * V<S>::load(to.g + j * to.ldg + i * L), sum.of[j][i]);
      });
    const V<S> step = V<S>::all(-motion.step), before = V<S>::all(motion.before), after = V<S>::all(motion.after);
    each<registers>([&](auto i, auto j) LOWRANK_LAMBDA_INLINE {
      S* w = to.w + j * to.ldw + i * L;
      (after * fma(step, sum.of[j][i], before * V<S>::load(w))).store(w);
    });
  }

  /// The same for n values of one column: u null is a U of zeros (with g), g null a G of zeros. phi has one number, or n.
  template <class S>
  static void move(Index n, const S* u, const Target<S>& to, const Motion<S>& motion) {
    const auto scale = V<S>::all(motion.scale), step = V<S>::all(-motion.step), before = V<S>::all(motion.before);
    const auto after = V<S>::all(motion.after);
    const auto apply = [&](const auto& moved) LOWRANK_LAMBDA_INLINE {
      sweep<S>(n, [&](Index i, auto part) LOWRANK_LAMBDA_INLINE {
        store(to.w + i, after * fma(step, moved(i, part), before * load(to.w + i, part)), part);
      });
    };
    if (to.g == nullptr) return apply([&](Index i, auto part) LOWRANK_LAMBDA_INLINE { return load(u + i, part); });
    const auto with = [&](const auto& phi) LOWRANK_LAMBDA_INLINE {
      if (u == nullptr)
        apply([&](Index i, auto part) LOWRANK_LAMBDA_INLINE { return phi(i, part) * (scale * load(to.g + i, part)); });
      else
        apply([&](Index i, auto part) LOWRANK_LAMBDA_INLINE {
          return fma(phi(i, part), scale * load(to.g + i, part), load(u + i, part));
        });
    };
    if (to.phi_per_row) return with([&](Index i, auto part) LOWRANK_LAMBDA_INLINE { return load(to.phi + i, part); });
    const auto factor = V<S>::all(to.phi[0]);
    with([&](Index, auto) LOWRANK_LAMBDA_INLINE { return factor; });
  }

  /// m <- b1 m + (1-b1) x;  v <- b2 v + (1-b2) x^2;  m / (sqrt(v) + eps), of registers.
  template <class S>
  struct AdamStep {
    V<S> b1, c1, b2, c2, eps;

    AdamStep(double beta1, double beta2, double epsilon)
        : b1(all<S>(beta1)), c1(all<S>(1 - beta1)), b2(all<S>(beta2)), c2(all<S>(1 - beta2)), eps(all<S>(epsilon)) {}
    LOWRANK_INLINE V<S> operator()(V<S> x, V<S>& m, V<S>& v) const {
      m = b1 * m;
      v = b2 * v;
      return add(x, m, v);
    }
    /// From b1 m and b2 v.
    LOWRANK_INLINE V<S> add(V<S> x, V<S>& m, V<S>& v) const {
      m = fma(c1, x, m);
      v = fma(c2 * x, x, v);
      return m / (sqrt(v) + eps);
    }
  };

  /// The same for n numbers: out <- the step along g, which it may be.
  template <class S>
  static void adam(Index n, const S* g, S* m, S* v, S* out, double beta1, double beta2, double epsilon) {
    const AdamStep<S> step(beta1, beta2, epsilon);
    sweep<S>(n, [&](Index i, auto part) LOWRANK_LAMBDA_INLINE {
      V<S> first = load(m + i, part), second = load(v + i, part);
      const V<S> direction = step(load(g + i, part), first, second);
      store(m + i, first, part);
      store(v + i, second, part);
      store(out + i, direction, part);
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
  /// The same of scale x.
  template <class S>
  static double sum_squares(Index n, const S* x, double scale) {
    if (scale == 1) return sum_squares(n, x);
    const auto s = all<S>(scale);
    return sum<S>(n, x, [s](V<S> a, V<S> acc) LOWRANK_LAMBDA_INLINE { return fma(s * a, s * a, acc); });
  }
  template <class S>
  static double sum_abs(Index n, const S* x) {
    return sum<S>(n, x, [](V<S> a, V<S> acc) LOWRANK_LAMBDA_INLINE { return acc + abs(a); });
  }

  /// Rows of X (m x n, X(i, j) at x[i * stride + j]) side by side: its columns in groups of tile_cols, group_stride(m) apart,
  /// the rows of a group without gaps. Columns beyond n are 0; there is room for n rounded up to whole registers.
  static constexpr Index group_stride(Index m) { return (m + 2) * tile_cols; }  // never a multiple of 4096 bytes
  template <class S>
  static void stage_rows(Index m, Index n, const S* x, Index stride, S* out) {
    constexpr Index L = lanes<S>;
    for (Index i = 0; i < m; ++i, x += stride) {
      Index j = 0;
      for (; j + L <= n; j += L) place(V<S>::load(x + j), out, group_stride(m), i, j);
      if (j < n) place(V<S>::load(x + j, n - j), out, group_stride(m), i, j);
    }
  }
  /// squares[j] += sum_squares(m, column j, scale) of one such group, m <= 256, to the bit: a number of row i of 2 * lanes belongs to
  /// lane i % lanes of that sum's register i / lanes, so 2 * tile_cols registers hold its partial sums of all columns.
  template <class S>
  static void group_squares(Index m, const S* x, double* squares, double scale = 1) {
    if (scale == 1) return group_squares<S>(m, x, squares, [](V<S> v) LOWRANK_LAMBDA_INLINE { return v; });
    group_squares<S>(m, x, squares, [s = all<S>(scale)](V<S> v) LOWRANK_LAMBDA_INLINE { return s * v; });
  }

  /// Floats rounded to bf16, nearest even, in pairs along the inner dimension of a product (bf16.hpp). Of columns: X depth x n
  /// with leading dimension ld, (depth + 1) / 2 pairs a column, ldp apart. Of rows: a group of stage_rows, and the pairs as such
  /// a group again. A pair that has only its first number gets a zero.
  static void pair_columns(Index depth, Index n, const float* x, Index ld, Bf16Pair* out, Index ldp) {
    for (Index j = 0; j < n; ++j) pair_up<detail::Neighbours>(depth, x + j * ld, out + j * ldp, (depth + 1) / 2);
  }
  static void pair_rows(Index depth, const float* x, Bf16Pair* out) {
    pair_up<detail::RowByRow<std::size_t(tile_cols)>>(depth * tile_cols, x, out, (depth + 1) / 2 * tile_cols);
  }
  /// out[i] = the pair of x[i] and y[i].
  static void pair(Index n, const float* x, const float* y, Bf16Pair* out) {
    using Each = detail::OneOfEach<std::size_t(lanes<float>)>;
    sweep<float>(n, [&](Index i, auto part) LOWRANK_LAMBDA_INLINE {
      store(out + i, Pairs::template paired<Each>(load(x + i, part), load(y + i, part)), part);
    });
  }

  /// sum_squares of columns that come row by row. Number i of a block of m <= 256 is added to a partial sum, one of 2 * lanes:
  /// sums[partial * ld + j] for column j of n; fold_squares adds those of a block to squares[j].
  template <class S>
  static void row_squares(Index i, Index m, Index n, const S* row, S* sums, Index ld, double scale) {
    constexpr Index L = lanes<S>;
    const Index even = m / (2 * L) * (2 * L);
    S* sum = sums + (i < even ? i % (2 * L) : (i - even) % L) * ld;
    const auto factor = all<S>(scale);
    sweep<S>(n, [&](Index j, auto part) LOWRANK_LAMBDA_INLINE {
      const auto value = factor * load(row + j, part);
      store(sum + j, fma(value, value, load(sum + j, part)), part);
    });
  }
  /// Of `partials` sums a column, those of lanes beyond are 0. Read up to a whole number of tile_cols columns.
  template <class S>
  static void fold_squares(Index n, const S* sums, Index ld, double* squares, Index partials = 2 * lanes<S>) {
    constexpr Index L = lanes<S>, wide = tile_cols;
    if (partials == 1) {  // one row: nothing to fold
      for (Index j = 0; j < n; ++j) squares[j] += double(sums[j]);
      return;
    }
    for (Index j0 = 0; j0 < n; j0 += wide, sums += wide) {
      double x[L][wide];
      Index left = std::min(L, partials);
      for (Index l = 0; l < left; ++l)
        for (Index j = 0; j < wide; ++j) x[l][j] = double(l + L < partials ? sums[l * ld + j] + sums[(l + L) * ld + j] : sums[l * ld + j]);
      for (Index half = L / 2; half > 0; left = std::min(left, half), half /= 2)
        for (Index l = 0; l + half < left; ++l)
          for (Index j = 0; j < wide; ++j) x[l][j] += x[l + half][j];
      for (Index j = 0; j < std::min(wide, n - j0); ++j) squares[j0 + j] += x[0][j];
    }
  }
  /// squares[j] += sum_squares(m, column j, scale) of a matrix in rows, X(i, j) at x[i * stride + j], m <= 256, to the bit.
  template <class S>
  static void column_squares(Index m, Index n, const S* x, Index stride, double* squares, double scale = 1) {
    constexpr Index wide = 512 / Index(sizeof(S));
    for (; n > 0; n -= wide, x += wide, squares += wide) {
      const Index w = std::min(n, wide);
      S sums[2 * lanes<S> * wide] = {};
      for (Index i = 0; i < m; ++i) {
        const S* row = x + i * stride;
        for (Index j = 0; j < w; j += 64 / Index(sizeof(S))) __builtin_prefetch(row + 16 * stride + j);  // rows are pages apart
        row_squares(i, m, w, row, sums, wide, scale);
      }
      fold_squares(w, sums, wide, squares);
    }
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
  /// lie pages apart, where no hardware looks ahead: the next ones are asked for while these are turned, and so many lines of `ahead`.
  template <class S, class Ahead = Idle>
  static void transpose(Index rows, Index cols, const S* src, Index lds, S* dst, Index ldd, Ahead&& ahead = {}) {
    constexpr Index L = lanes<S>;
    for (Index j0 = 0; j0 < cols; j0 += L)
      for (Index i0 = 0; i0 < rows; i0 += L) {
        if (i0 + L <= rows && j0 + L <= cols) {
          V<S> x[L];
          for (Index j = 0; j < L; ++j) x[j] = V<S>::load(src + i0 + (j0 + j) * lds);
          if (j0 + 2 * L <= cols)
            for (Index j = 0; j < L; ++j) __builtin_prefetch(src + i0 + (j0 + L + j) * lds);
          for (Index j = 0; j < L; ++j) ahead.next();
          kernel::transpose(x);
          for (Index i = 0; i < L; ++i) x[i].store(dst + j0 + (i0 + i) * ldd);
        } else {
          for (Index j = j0; j < std::min(j0 + L, cols); ++j)
            for (Index i = i0; i < std::min(i0 + L, rows); ++i) dst[j + i * ldd] = src[i + j * lds];
        }
      }
  }

  /// The same for a dst that is larger than the caches and not read soon: turned on the stack, then written past the caches by whole
  /// lines, which saves reading them first. Columns of dst that begin within a line are written one line late: the end of what was
  /// turned is kept for the next line, and only the first and the last one of a column are parts.
  template <class S>
  static void transpose_past(Index rows, Index cols, const S* src, Index lds, S* dst, Index ldd) {
    constexpr Index high = 128, wide = 128 / Index(sizeof(S)), line = 64 / Index(sizeof(S)), ld = line + wide;
    alignas(64) S stage[high * ld];  // of each column of dst, a line that was turned before and what is turned now
    for (Index i0 = 0; i0 < rows; i0 += high) {
      const Index m = std::min(high, rows - i0);
      for (Index j0 = 0; j0 < cols; j0 += wide) {
        const Index n = std::min(wide, cols - j0);
        using Next = Ahead<Access::Read>;
        const S* from = src + i0 + j0 * lds;
        transpose(m, n, from, lds, stage + line, ld, j0 + 2 * wide <= cols ? Next(from + wide * lds, m, wide, lds) : Next());
        for (Index i = 0; i < m; ++i) {
          S *turned = stage + i * ld + line, *to = dst + j0 + (i0 + i) * ldd;
          const Index past = Index(reinterpret_cast<std::uintptr_t>(to) % 64 / sizeof(S)), begin = j0 > 0 ? -past : 0;
          Index j = -past;
          if (j < begin && line - past <= n) j = copy(begin, line - past, turned, to);
          for (; j + line <= n; j += line)
            for (Index l = 0; l < line; l += lanes<S>) V<S>::load(turned + j + l).stream(to + j + l);
          if (j0 + n == cols) copy(std::max(j, begin), n, turned, to);
          else if (past > 0)
            for (Index l = 0; l < line; l += lanes<S>) V<S>::load(turned + wide - line + l).store(turned - line + l);
        }
      }
    }
    end_streams();
  }

 private:
  template <int registers, class S>
  struct Sums {
    V<S> of[tile_cols][registers];
  };
  /// A B for one tile: see gemm_tile. Which stride is 1 is known to the loop: 1.1 times the speed of two unknown ones. Loops over
  /// the tile are written out by unrolled(), and the two above are never part of their caller: left to the compiler, it depends on
  /// the caller whether the sums are registers.
  template <int registers, class S, class X, class Ahead>
  static LOWRANK_INLINE Sums<registers, S> product(Index depth, const X* a, const X* b, Index bk, Index bj, Ahead& ahead) {
    Sums<registers, S> sum;
    each<registers>([&](auto i, auto j) LOWRANK_LAMBDA_INLINE { sum.of[j][i] = V<S>::zero(); });
    Ahead later = ahead;
    const auto run = [&](auto step_k, auto step_j) LOWRANK_LAMBDA_INLINE {
      for (Index p = 0; p < depth; ++p, a += registers * lanes<X>, b += step_k) {
        V<X> column[registers];
        unrolled<registers>([&](auto i) LOWRANK_LAMBDA_INLINE { column[i] = V<X>::load(a + i * lanes<X>); });
        unrolled<tile_cols>([&](auto j) LOWRANK_LAMBDA_INLINE {
          const V<X> broadcast = V<X>::all(b[j * step_j]);
          unrolled<registers>([&](auto i) LOWRANK_LAMBDA_INLINE { sum.of[j][i] = multiply_add(column[i], broadcast, sum.of[j][i]); });
        });
        later.next();
      }
    };
    constexpr std::integral_constant<Index, 1> one;
    if (bk == 1) run(one, bj);
    else run(bk, one);
    ahead = later;
    return sum;
  }
  template <class S>
  static LOWRANK_INLINE V<S> multiply_add(V<S> a, V<S> b, V<S> c) { return fma(a, b, c); }
  static LOWRANK_INLINE V<float> multiply_add(V<Bf16Pair> a, V<Bf16Pair> b, V<float> c) { return Pairs::dot(a, b, c); }
  /// f(i, j) for the registers of a tile, and f(0), ..., f(n - 1), of constants.
  template <int registers, class F>
  static LOWRANK_INLINE void each(const F& f) {
    unrolled<tile_cols>([&](auto j) LOWRANK_LAMBDA_INLINE {
      unrolled<registers>([&](auto i) LOWRANK_LAMBDA_INLINE { f(i, j); });
    });
  }
  template <Index n, class F>
  static LOWRANK_INLINE void unrolled(const F& f) {
    [&]<Index... I>(std::integer_sequence<Index, I...>) LOWRANK_LAMBDA_INLINE {
      (f(std::integral_constant<Index, I>{}), ...);
    }(std::make_integer_sequence<Index, n>{});
  }

  /// Puts a register of row i, columns from j, where stage_rows wants it: a group, a part of one, or several in parts.
  template <class S>
  static LOWRANK_INLINE void place(V<S> v, S* out, Index apart, Index i, Index j) {
    S* row = out + i * tile_cols + j / tile_cols * apart;
    if constexpr (lanes<S> <= tile_cols) {
      v.store(row + j % tile_cols);
    } else {
      store_parts(v, row, apart, std::make_index_sequence<std::size_t(lanes<S> / tile_cols)>{});
    }
  }
  template <class S, std::size_t... I>
  static LOWRANK_INLINE void store_parts(V<S> v, S* out, Index apart, std::index_sequence<I...>) {
    (part<I>(v, std::make_index_sequence<std::size_t(tile_cols)>{}).store(out + Index(I) * apart), ...);
  }
  template <std::size_t which, class S, std::size_t... I>
  static LOWRANK_INLINE Vec<S, int(tile_cols) * int(sizeof(S))> part(V<S> v, std::index_sequence<I...>) {
    return {__builtin_shufflevector(v.v, v.v, (which * sizeof...(I) + I)...)};
  }

  /// n floats, two registers at a time, to `pairs` pairs.
  template <class Order>
  static void pair_up(Index n, const float* x, Bf16Pair* out, Index pairs) {
    constexpr Index L = lanes<float>;
    Index i = 0;
    for (; i + 2 * L <= n; i += 2 * L) Pairs::template paired<Order>(V<float>::load(x + i), V<float>::load(x + i + L)).store(out + i / 2);
    if (i == n) return;
    const Index left = n - i;
    const V<float> one = V<float>::load(x + i, std::min(left, L)), two = left > L ? V<float>::load(x + i + L, left - L) : V<float>::zero();
    Pairs::template paired<Order>(one, two).store(out + i / 2, pairs - i / 2);
  }
  template <class S, class Scaled>
  static LOWRANK_INLINE void group_squares(Index m, const S* x, double* squares, const Scaled& scaled) {
    constexpr Index L = lanes<S>, pair = 2 * L, count = 2 * tile_cols;
    V<S> acc[count];
    for (V<S>& sum : acc) sum = V<S>::zero();
    const Index even = m / pair * pair;
    for (Index i = 0; i < even; i += pair)
      for (Index t = 0; t < count; ++t) {
        const V<S> v = scaled(V<S>::load(x + i * tile_cols + t * L));
        acc[t] = fma(v, v, acc[t]);
      }
    for (Index i = even; i < m; ++i) {  // single registers, and a part of one, are added to the first
      S row[count * L] = {};
      const Index at = (i - even) % L * tile_cols;
      for (Index q = 0; q < tile_cols; ++q) row[at + q] = x[i * tile_cols + q];
      for (Index t = 0; t < tile_cols; ++t) {
        const V<S> v = scaled(V<S>::load(row + t * L));
        acc[t] = fma(v, v, acc[t]);
      }
    }
    S sums[count * L];
    for (Index t = 0; t < count; ++t) acc[t].store(sums + t * L);
    fold_squares(tile_cols, sums, tile_cols, squares);
  }

  /// to[j] = from[j] for j in [begin, end). Gives the end.
  template <class S>
  static Index copy(Index begin, Index end, const S* from, S* to) {
    for (Index j = begin; j < end; ++j) to[j] = from[j];
    return end;
  }

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
      total += sum_lanes(acc[0] + acc[1]);
    }
    return total;
  }
};

}  // namespace kernel
}  // namespace lowrank
