// The orthonormal cosine transform of columns, as lowrank/linalg/dct.hpp: C_k = s_k sum_j x_j cos(pi k (2j+1) / 2n), or its transpose.
// Two columns at a time, in one block's shared memory, through one complex transform of n points (Makhoul, IEEE Trans. ASSP 28, 1980):
//   z = (x_0, x_2, x_4, .., x_5, x_3, x_1) of the one + i times that of the other,  Z = DFT(z),
//   V_k = (Z_k + conj Z_(n-k)) / 2 of the one, (Z_k - conj Z_(n-k)) / 2i of the other,   C_k = s_k Re(e^(-i pi k / 2n) V_k).
// The DFT runs over the prime factors of n (fours first), in place, its input in digit-reversed order; a prime is one product with its
// roots. 2048, 4096, 8192 are fours and a two, LLaMA's 5120, 11008, 13824 have fives, a 43, threes. n is bounded by shared memory: two
// columns of 2 n scalars and no prime above 1024. Roots come from one table of 4n cosines, exact to rounding.
#pragma once

#include <lowrank/cuda/sweep.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// The factors of n, at most 32 of them.
struct Factors {
  int count = 0;
  int radix[32] = {};

  Factors() = default;
  explicit Factors(Index n) {
    for (; n % 4 == 0; n /= 4) radix[count++] = 4;
    for (Index p = 2; n > 1; ++p)
      for (; n % p == 0; n /= p) radix[count++] = int(p);
  }
  int largest() const {
    int most = 1;
    for (int i = 0; i < count; ++i) most = cuda::most(most, radix[i]);
    return most;
  }
};

/// table[t] = cos(pi t / 2n), t < 4n.
template <class S>
struct CosineTable {
  static constexpr int threads = 256;
  S* table;
  Index n;

  Grid grid() const { return {ceil_div(4 * n, threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    block.each([&](int t) {
      const Index i = block.index() * threads + t;
      if (i < 4 * n) table[i] = S(std::cos(3.14159265358979323846 * double(i) / double(2 * n)));
    });
  }
};

/// For every pair of columns (j, j+1) of the source: out(i, j, coefficient), out being a sink.
template <class S, class Source, class Sink>
struct CosineTransform {
  static constexpr int threads = 1024;
  Source source;
  Sink sink;
  Index n, cols;
  DctBasis basis;
  Factors factors;
  const S* table;
  const Control<S>* control;
  bool always = false;  // also when the step does not happen

  struct Complex {
    S re, im;
  };
  static std::size_t shared(Index n) { return shared_bytes<Complex>(int(n)); }
  Grid grid() const { return {ceil_div(cols, 2), shared(n)}; }

  /// cos and sin of pi t / 2n
  LOWRANK_DEVICE S cosine(Index t) const { return table[t % (4 * n)]; }
  LOWRANK_DEVICE S sine(Index t) const { return table[(t + 3 * n) % (4 * n)]; }
  /// Where input j of the DFT lies before its first pass.
  LOWRANK_DEVICE Index reversed(Index j) const {
    Index at = 0, size = n;
    for (int f = factors.count - 1; f >= 0; --f) {
      size /= factors.radix[f];
      at += j % factors.radix[f] * size;
      j /= factors.radix[f];
    }
    return at;
  }

  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    Complex* z = block.template shared<Complex>(int(n));
    const Index j0 = block.index() * 2;
    const bool forward = basis == DctBasis::Cosines;
    const S half = S(0.70710678118654752440), scale = S(std::sqrt(2.0 / double(n)));
    block.each([&](int t) {
      const auto from = source.begin(*control);
      const auto get = [&](Index i, Index j) { return j < cols ? from(i, j) : S(0); };
      for (Index i = t; i < n; i += threads) {
        if (forward) {
          const Index x = 2 * i < n ? 2 * i : 2 * (n - i) - 1;
          z[reversed(i)] = {get(x, j0), get(x, j0 + 1)};
        } else {
          // the transpose: v = Re DFT(s_k c_k e^(-i theta)) = DFT(h),  h_k = e^(-i theta) (s_k c_k + i s_(n-k) c_(n-k)) / 2
          const S c = cosine(i), s = sine(i), f = i == 0 ? half * scale : scale * S(0.5);
          const S a = get(i, j0), b = i == 0 ? S(0) : get(n - i, j0), p = get(i, j0 + 1), q = i == 0 ? S(0) : get(n - i, j0 + 1);
          z[reversed(i)] = {f * (a * c + b * s - (q * c - p * s)), f * (b * c - a * s + p * c + q * s)};
        }
      }
    });
    transform(block, z);
    block.each([&](int t) {
      if (control->go == 0 && !always) return;
      const auto to = sink.begin(*control);
      for (Index i = t; i < n; i += threads) {
        if (forward) {
          const Complex x = z[i], y = z[i == 0 ? 0 : n - i];
          const S c = cosine(i), s = sine(i), f = (i == 0 ? half : S(1)) * scale * S(0.5);
          // V = ((x + conj y) / 2, (x - conj y) / 2i), Re(e^(-i theta) V) = Re V cos + Im V sin
          to(i, j0, f * ((x.re + y.re) * c + (x.im - y.im) * s));
          if (j0 + 1 < cols) to(i, j0 + 1, f * ((x.im + y.im) * c + (y.re - x.re) * s));
        } else {
          const Index x = 2 * i < n ? 2 * i : 2 * (n - i) - 1;
          to(x, j0, z[i].re);
          if (j0 + 1 < cols) to(x, j0 + 1, z[i].im);
        }
      }
    });
  }

 private:
  /// Z <- DFT(z), decimation in time: `size` points are ready, radix of those groups become one.
  template <class Block>
  LOWRANK_DEVICE void transform(Block& block, Complex* z) const {
    Index size = 1;
    for (int f = 0; f < factors.count; ++f) {
      const int radix = factors.radix[f];
      const Index step = 4 * n / (size * radix);  // of the table per root of this pass
      if (radix == 4) {
        block.each([&](int t) {
          for (Index b = t; b < n / 4; b += threads) {
            Complex* x = z + b / size * 4 * size + b % size;
            const Complex a = x[0], q = times(x[size], b % size * step), p = times(x[2 * size], 2 * (b % size) * step),
                          r = times(x[3 * size], 3 * (b % size) * step);
            const Complex e{a.re + p.re, a.im + p.im}, o{a.re - p.re, a.im - p.im}, g{q.re + r.re, q.im + r.im}, h{q.re - r.re, q.im - r.im};
            x[0] = {e.re + g.re, e.im + g.im};
            x[size] = {o.re + h.im, o.im - h.re};  // o - i h
            x[2 * size] = {e.re - g.re, e.im - g.im};
            x[3 * size] = {o.re - h.im, o.im + h.re};
          }
        });
      } else {
        // one output a thread, as many butterflies at once as fit
        const Index together = threads / radix, butterflies = n / radix;
        auto out = block.template local<Complex>();
        for (Index b0 = 0; b0 < butterflies; b0 += together) {
          const auto mine = [&](int t, Complex*& x, Index& k) {
            const Index b = b0 + t / radix;
            x = z + b / size * radix * size + b % size;
            k = b % size + t % radix * size;  // the output's number in its group
            return t / radix < together && b < butterflies;
          };
          block.each([&](int t) {
            Complex* x;
            Index k;
            if (!mine(t, x, k)) return;
            Complex sum = x[0];
            for (int p = 1; p < radix; ++p) {
              const Complex y = times(x[p * size], p * k % (size * radix) * step);
              sum = {sum.re + y.re, sum.im + y.im};
            }
            out[t] = sum;
          });
          block.each([&](int t) {
            Complex* x;
            Index k;
            if (mine(t, x, k)) x[t % radix * size] = out[t];
          });
        }
      }
      size *= radix;
    }
  }
  /// x e^(-i pi t / 2n)
  LOWRANK_DEVICE Complex times(Complex x, Index t) const {
    const S c = cosine(t), s = sine(t);
    return {x.re * c + x.im * s, x.im * c - x.re * s};
  }
};

/// Throws unless columns of n can be transformed on a device: the shared memory of sm_80, and a block's threads.
template <class S>
void check_transform(const char* who, Index n) {
  constexpr Index room = 160 * 1024;
  if (n * 2 * Index(sizeof(S)) > room || Factors(n).largest() > 1024)
    detail::bad_argument(who, "columns of " + std::to_string(n), "at most " + std::to_string(room / 2 / Index(sizeof(S))) + ", without a prime factor above 1024; the CPU transforms any");
}

/// P (d x r) <- the chosen basis vectors.
template <class S>
struct Cosines {
  static constexpr int threads = 256;
  S* P;
  Index d, r;
  const int* index;
  const S* table;
  DctBasis basis;

  Grid grid() const { return {ceil_div(d * r, threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    block.each([&](int t) {
      const Index e = block.index() * threads + t;
      if (e >= d * r) return;
      const Index row = e % d, chosen = index[e / d], q = basis == DctBasis::Cosines ? chosen : row, j = basis == DctBasis::Cosines ? row : chosen;
      const S x = S(std::sqrt(2.0 / double(d))) * table[q * (2 * j + 1) % (4 * d)];
      P[e] = q == 0 ? S(0.70710678118654752440) * x : x;
    });
  }
};

// -- the r largest of n scores ----------------------------------------------------------------------------------------------------------

/// chosen[i] = 1 if fewer than r scores come before score i, larger ones or equal ones of lower index: n^2 comparisons, all at once.
struct Choose {
  static constexpr int threads = 256;
  const double* score;
  Index n, r;
  int* chosen;

  Grid grid() const { return {ceil_div(n, threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    block.each([&](int t) {
      const Index i = block.index() * threads + t;
      if (i >= n) return;
      Index before = 0;
      for (Index j = 0; j < n; ++j) before += score[j] > score[i] || (score[j] == score[i] && j < i);
      chosen[i] = before < r;
    });
  }
};
/// index = the chosen ones, ascending; old (null: none) is where each was in `old`, or -1.
struct Chosen {
  static constexpr int threads = 256;
  const int* chosen;
  Index n, r;
  int* index;
  const int* old;
  int* from;

  Grid grid() const { return {ceil_div(n, threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    block.each([&](int t) {
      const Index i = block.index() * threads + t;
      if (i >= n || chosen[i] == 0) return;
      Index slot = 0;
      for (Index j = 0; j < i; ++j) slot += chosen[j];
      if (slot >= r) return;  // scores that are not numbers choose everything
      index[slot] = int(i);
      if (old == nullptr) return;
      int was = -1;
      for (Index q = 0; q < r; ++q) was = old[q] == int(i) ? int(q) : was;
      from[slot] = was;
    });
  }
};

/// out (r x k) <- rows of x (d x k) and, where the step happens, those rows times `keep`.
template <class S>
struct TakeRows {
  static constexpr int threads = 256;
  S *x, *out;
  Index d, r, k;
  const int* index;
  S keep;
  const Control<S>* control;

  Grid grid() const { return {ceil_div(r * k, threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    block.each([&](int t) {
      const Index e = block.index() * threads + t;
      if (e >= r * k) return;
      S& from = x[index[e % r] + e / r * d];
      out[e] = from;
      if (keep != 1 && control->go != 0) from *= keep;
    });
  }
};

/// Where the step happens: rows of x (d x k) <- 0.
template <class S>
struct ZeroRows {
  static constexpr int threads = 256;
  S* x;
  Index d, r, k;
  const int* index;
  const Control<S>* control;

  Grid grid() const { return {ceil_div(r * k, threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    block.each([&](int t) {
      const Index e = block.index() * threads + t;
      if (e < r * k && control->go != 0) x[index[e % r] + e / r * d] = 0;
    });
  }
};
/// index[i] = i
struct FirstIndices {
  static constexpr int threads = 256;
  int* index;
  Index r;

  Grid grid() const { return {ceil_div(r, threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    block.each([&](int t) {
      const Index i = block.index() * threads + t;
      if (i < r) index[i] = int(i);
    });
  }
};

}  // namespace cuda
}  // namespace lowrank
