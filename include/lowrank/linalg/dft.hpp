// Small discrete Fourier transforms in registers, of a length P known at compile time. Every register carries independent
// signals in its lanes, so that all twiddle factors are scalars.
//
//   dft<P>           X_k = sum_j z_j e^(-2 pi i jk / P)      re, im in natural order; dft<P>(im, re) has the sign of i changed
//   real_dft<P>      the same of P reals, in halfcomplex order: Re X_k at k, Im X_k at P - k
//   real_adjoint<P>  its transpose: halfcomplex order in, P reals out
//
// Even P: one radix-2 step in time. Odd P: z_j and z_(P-j) share their cosines and sines.
// Source: Cooley and Tukey, Math. Comp. 19 (1965); Sorensen et al., IEEE Trans. ASSP 35 (1987) for real input.
#pragma once

#include <type_traits>  // std::integral_constant
#include <utility>      // std::index_sequence

#include <lowrank/kernel/vector.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {
namespace fft {

/// e^(-2 pi i t / n) = re + i im
struct Root {
  double re, im;
};

/// The angle is reduced to [0, pi/4] in integers, where both series end after ten terms.
constexpr Root root(Index t, Index n) {
  t = (t % n + n) % n;
  Index s = 4 * t;  // in units of a turn / 4n
  const bool below = s > 2 * n;
  if (below) s = 4 * n - s;
  const bool left = s > n;
  if (left) s = 2 * n - s;
  const bool steep = 2 * s > n;
  if (steep) s = n - s;
  const double x = 1.5707963267948966192 * double(s) / double(n), x2 = x * x;
  double cosine = 1, sine = 1;
  for (int i = 20; i > 0; i -= 2) {
    cosine = 1 - cosine * x2 / (i * (i - 1));
    sine = 1 - sine * x2 / (i * (i + 1));
  }
  sine *= x;
  const double c = steep ? sine : cosine, d = steep ? cosine : sine;
  return {left ? -c : c, below ? d : -d};
}

/// f(0), ..., f(n - 1) with constants as arguments.
template <Index n, class F>
LOWRANK_INLINE void each(const F& f) {
  [&]<std::size_t... i>(std::index_sequence<i...>) LOWRANK_LAMBDA_INLINE {
    (f(std::integral_constant<Index, Index(i)>{}), ...);
  }(std::make_index_sequence<std::size_t(n)>{});
}

template <class V>
LOWRANK_INLINE V negative(V a) { return {-a.v}; }
template <class V>
LOWRANK_INLINE V all(double x) { return V::all(decltype(V::zero().v[0] + 0)(x)); }

/// (re + i im) <- (re + i im)(c + i d)
template <class V>
LOWRANK_INLINE void rotate(V& re, V& im, V c, V d) {
  const V x = re;
  re = kernel::fma(negative(im), d, x * c);
  im = kernel::fma(im, c, x * d);
}

/// (x, y) <- (x + w y, x - w y) with w = e^(-2 pi i k / P)
template <Index k, Index P, class V>
LOWRANK_INLINE void butterfly(V& xr, V& xi, V& yr, V& yi) {
  V tr = yr, ti = yi;
  if constexpr (4 * k == P) {
    tr = yi;
    ti = negative(yr);
  } else if constexpr (8 * k == P || 8 * k == 3 * P) {
    constexpr double h = 0.70710678118654752440;
    const V sum = k * 8 == P ? yr + yi : yi - yr, difference = k * 8 == P ? yi - yr : negative(yr + yi);
    yr = kernel::fma(all<V>(-h), sum, xr);
    yi = kernel::fma(all<V>(-h), difference, xi);
    xr = kernel::fma(all<V>(h), sum, xr);
    xi = kernel::fma(all<V>(h), difference, xi);
    return;
  } else if constexpr (k != 0) {
    constexpr Root w = root(k, P);
    rotate(tr, ti, all<V>(w.re), all<V>(w.im));
  }
  yr = xr - tr;
  yi = xi - ti;
  xr = xr + tr;
  xi = xi + ti;
}

template <Index P, class V>
LOWRANK_INLINE void dft(V* re, V* im) {
  if constexpr (P % 2 == 0) {
    constexpr Index B = P / 2;
    V er[B], ei[B], odd_r[B], odd_i[B];
    each<B>([&](auto j) LOWRANK_LAMBDA_INLINE {
      er[j] = re[2 * j], ei[j] = im[2 * j], odd_r[j] = re[2 * j + 1], odd_i[j] = im[2 * j + 1];
    });
    dft<B>(er, ei);
    dft<B>(odd_r, odd_i);
    each<B>([&](auto k) LOWRANK_LAMBDA_INLINE {
      butterfly<k, P>(er[k], ei[k], odd_r[k], odd_i[k]);
      re[k] = er[k], im[k] = ei[k], re[k + B] = odd_r[k], im[k + B] = odd_i[k];
    });
  } else if constexpr (P > 1) {
    // X_k, X_(P-k) = z_0 + sum_j c_jk (z_j + z_(P-j)) -+ i sum_j s_jk (z_j - z_(P-j)),   j = 1 .. h
    constexpr Index h = (P - 1) / 2;
    V ar[h], ai[h], br[h], bi[h];
    each<h>([&](auto j) LOWRANK_LAMBDA_INLINE {
      ar[j] = re[1 + j] + re[P - 1 - j], br[j] = re[1 + j] - re[P - 1 - j];
      ai[j] = im[1 + j] + im[P - 1 - j], bi[j] = im[1 + j] - im[P - 1 - j];
    });
    const V zr = re[0], zi = im[0];
    each<h>([&](auto j) LOWRANK_LAMBDA_INLINE { re[0] = re[0] + ar[j], im[0] = im[0] + ai[j]; });
    each<h>([&](auto k) LOWRANK_LAMBDA_INLINE {
      V cr = zr, ci = zi, sr = V::zero(), si = V::zero();
      each<h>([&](auto j) LOWRANK_LAMBDA_INLINE {
        constexpr Root w = root((decltype(j)::value + 1) * (decltype(k)::value + 1), P);
        const V c = all<V>(w.re), s = all<V>(-w.im);
        cr = kernel::fma(c, ar[j], cr), ci = kernel::fma(c, ai[j], ci);
        sr = j == 0 ? s * br[j] : kernel::fma(s, br[j], sr), si = j == 0 ? s * bi[j] : kernel::fma(s, bi[j], si);
      });
      re[1 + k] = cr + si, im[1 + k] = ci - sr;
      re[P - 1 - k] = cr - si, im[P - 1 - k] = ci + sr;
    });
  }
}

template <Index P, class V>
LOWRANK_INLINE void real_dft(V* x) {
  if constexpr (P % 2 == 0) {
    constexpr Index B = P / 2;
    V e[B], o[B];
    each<B>([&](auto j) LOWRANK_LAMBDA_INLINE { e[j] = x[2 * j], o[j] = x[2 * j + 1]; });
    real_dft<B>(e);
    real_dft<B>(o);
    x[0] = e[0] + o[0];
    x[B] = e[0] - o[0];
    each<(B - 1) / 2>([&](auto i) LOWRANK_LAMBDA_INLINE {
      constexpr Index k = i + 1;
      butterfly<k, P>(e[k], e[B - k], o[k], o[B - k]);
      x[k] = e[k], x[P - k] = e[B - k];
      x[B - k] = o[k], x[B + k] = negative(o[B - k]);  // X_(k+B) is the conjugate of X_(B-k)
    });
    if constexpr (B % 2 == 0) x[B / 2] = e[B / 2], x[P - B / 2] = negative(o[B / 2]);
  } else if constexpr (P > 1) {
    constexpr Index h = (P - 1) / 2;
    V a[h], b[h];
    each<h>([&](auto j) LOWRANK_LAMBDA_INLINE {
      a[j] = x[1 + j] + x[P - 1 - j], b[j] = x[P - 1 - j] - x[1 + j];
    });
    const V z = x[0];
    each<h>([&](auto j) LOWRANK_LAMBDA_INLINE { x[0] = x[0] + a[j]; });
    each<h>([&](auto k) LOWRANK_LAMBDA_INLINE {
      V c = z, s = V::zero();
      each<h>([&](auto j) LOWRANK_LAMBDA_INLINE {
        constexpr Root w = root((decltype(j)::value + 1) * (decltype(k)::value + 1), P);
        c = kernel::fma(all<V>(w.re), a[j], c);
        s = kernel::fma(all<V>(-w.im), b[j], s);
      });
      x[1 + k] = c, x[P - 1 - k] = s;
    });
  }
}

template <Index P, class V>
LOWRANK_INLINE void real_adjoint(V* x) {
  if constexpr (P % 2 == 0) {
    constexpr Index B = P / 2;
    V e[B], o[B];
    e[0] = x[0] + x[B];
    o[0] = x[0] - x[B];
    each<(B - 1) / 2>([&](auto i) LOWRANK_LAMBDA_INLINE {
      constexpr Index k = i + 1;
      constexpr Root w = root(k, P);
      e[k] = x[k] + x[B - k], o[k] = x[k] - x[B - k];
      e[B - k] = x[P - k] - x[B + k], o[B - k] = x[P - k] + x[B + k];
      rotate(o[k], o[B - k], all<V>(w.re), all<V>(-w.im));
    });
    if constexpr (B % 2 == 0) e[B / 2] = x[B / 2], o[B / 2] = negative(x[P - B / 2]);
    real_adjoint<B>(e);
    real_adjoint<B>(o);
    each<B>([&](auto j) LOWRANK_LAMBDA_INLINE { x[2 * j] = e[j], x[2 * j + 1] = o[j]; });
  } else if constexpr (P > 1) {
    constexpr Index h = (P - 1) / 2;
    V re[h], im[h];
    each<h>([&](auto k) LOWRANK_LAMBDA_INLINE { re[k] = x[1 + k], im[k] = x[P - 1 - k]; });
    const V z = x[0];
    each<h>([&](auto k) LOWRANK_LAMBDA_INLINE { x[0] = x[0] + re[k]; });
    each<h>([&](auto j) LOWRANK_LAMBDA_INLINE {
      V c = z, s = V::zero();
      each<h>([&](auto k) LOWRANK_LAMBDA_INLINE {
        constexpr Root w = root((decltype(j)::value + 1) * (decltype(k)::value + 1), P);
        c = kernel::fma(all<V>(w.re), re[k], c);
        s = kernel::fma(all<V>(w.im), im[k], s);
      });
      x[1 + j] = c + s, x[P - 1 - j] = c - s;
    });
  }
}

}  // namespace fft
}  // namespace linalg
}  // namespace lowrank
