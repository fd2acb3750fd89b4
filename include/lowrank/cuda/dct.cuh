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
  /// Flops of the transform of a column per element of it: 34 for four outputs of a four, 8 (p - 1) for each of a prime's, two columns
  /// at a time, and 10 for what lies around the DFT.
  double flops() const {
    double sum = 10;
    for (int i = 0; i < count; ++i) sum += radix[i] == 4 ? 34.0 / 8 : 4.0 * (radix[i] - 1);
    return sum;
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
  S* table;
  Index n;

  LOWRANK_HOST_DEVICE Index size() const { return 4 * n; }
  LOWRANK_DEVICE void operator()(Index i) const { table[i] = S(std::cos(3.14159265358979323846 * double(i) / double(2 * n))); }
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

  /// cos and sin of pi t / 2n, t < 4n
  LOWRANK_DEVICE S cosine(int t) const { return table[t]; }
  LOWRANK_DEVICE S sine(int t) const { return table[t < int(n) ? t + 3 * int(n) : t - int(n)]; }
  /// Where input j of the DFT lies before its first pass.
  LOWRANK_DEVICE int reversed(int j) const {
    int at = 0, size = int(n);
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
    const int points = int(n);  // divisions of 64 bits are slow
    const bool forward = basis == DctBasis::Cosines;
    const S half = S(0.70710678118654752440), scale = S(std::sqrt(2.0 / double(n)));
    block.each([&](int t) {
      const auto from = source.begin(*control);
      const auto get = [&](Index i, Index j) { return j < cols ? from(i, j) : S(0); };
      for (int i = t; i < points; i += threads) {
        if (forward) {
          const int x = 2 * i < points ? 2 * i : 2 * (points - i) - 1;
          z[reversed(i)] = {get(x, j0), get(x, j0 + 1)};
        } else {
          // the transpose: v = Re DFT(s_k c_k e^(-i theta)) = DFT(h),  h_k = e^(-i theta) (s_k c_k + i s_(n-k) c_(n-k)) / 2
          const S c = cosine(i), s = sine(i), f = i == 0 ? half * scale : scale * S(0.5);
          const S a = get(i, j0), b = i == 0 ? S(0) : get(points - i, j0), p = get(i, j0 + 1), q = i == 0 ? S(0) : get(points - i, j0 + 1);
          z[reversed(i)] = {f * (a * c + b * s - (q * c - p * s)), f * (b * c - a * s + p * c + q * s)};
        }
      }
    });
    transform(block, z);
    block.each([&](int t) {
      if (control->go == 0 && !always) return;
      const auto to = sink.begin(*control);
      for (int i = t; i < points; i += threads) {
        if (forward) {
          const Complex x = z[i], y = z[i == 0 ? 0 : points - i];
          const S c = cosine(i), s = sine(i), f = (i == 0 ? half : S(1)) * scale * S(0.5);
          // V = ((x + conj y) / 2, (x - conj y) / 2i), Re(e^(-i theta) V) = Re V cos + Im V sin
          to(i, j0, f * ((x.re + y.re) * c + (x.im - y.im) * s));
          if (j0 + 1 < cols) to(i, j0 + 1, f * ((x.im + y.im) * c + (y.re - x.re) * s));
        } else {
          const int x = 2 * i < points ? 2 * i : 2 * (points - i) - 1;
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
    const int points = int(n);
    int size = 1;
    for (int f = 0; f < factors.count; ++f) {
      const int radix = factors.radix[f];
      const int step = 4 * points / (size * radix);  // of the table per root of this pass
      if (radix == 4) {
        block.each([&](int t) {
          for (int b = t; b < points / 4; b += threads) {
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
        const int together = threads / radix, butterflies = points / radix;
        auto out = block.template local<Complex>();
        for (int b0 = 0; b0 < butterflies; b0 += together) {
          const auto mine = [&](int t, Complex*& x, int& k) {
            const int b = b0 + t / radix;
            x = z + b / size * radix * size + b % size;
            k = b % size + t % radix * size;  // the output's number in its group
            return t / radix < together && b < butterflies;
          };
          block.each([&](int t) {
            Complex* x;
            int k;
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
            int k;
            if (mine(t, x, k)) x[t % radix * size] = out[t];
          });
        }
      }
      size *= radix;
    }
  }
  /// x e^(-i pi t / 2n)
  LOWRANK_DEVICE Complex times(Complex x, int t) const {
    const S c = cosine(t), s = sine(t);
    return {x.re * c + x.im * s, x.im * c - x.re * s};
  }
};

/// Whether columns of n go to r chosen coefficients in less time by the transform, of which the others are thrown away, than by a
/// product with r cosines; and so back. Time is counted in bytes of memory traffic, as in fused.cuh, of S bytes each:
///   transform = max(2 n S, n flops() / own)      product = max(n S, 2 n r / library)      a column
/// The transform's rate is that of its passes through shared memory. Both rates are estimates for a data-centre GPU, which bench_cuda's rows
/// "fast" and "selected" are there to correct. Doubles do half of both.
inline bool transform_pays(Index r, std::size_t S, const Factors& factors) {
  constexpr double library = 8, own = 1.5;
  const double slower = S == 8 ? 2 : 1;
  return most(2 * double(S), slower * factors.flops() / own) < most(double(S), slower * 2 * double(r) / library);
}

/// Throws unless columns of n can be transformed on a device: the shared memory of sm_80, and a block's threads.
template <class S>
void check_transform(const char* who, Index n) {
  constexpr Index room = 160 * 1024;
  if (n * 2 * Index(sizeof(S)) > room || Factors(n).largest() > 1024)
    detail::bad_argument(who, "columns of " + std::to_string(n), "at most " + std::to_string(room / 2 / Index(sizeof(S))) + ", without a prime factor above 1024; the CPU transforms any");
}

}  // namespace cuda
}  // namespace lowrank
