// The passes of RealFft: P spectra of length m become one of length P m (combine), and the transpose (split). For each
// i = 0 .. m/2 one complex P-point transform of e^(-2 pi i iq / Pm) (V^q)_i, whose outputs V_(i + m s) take exactly the places
// of its inputs. w: the factors of i = 1 .. m/2, P - 1 pairs each.
#pragma once

#include <lowrank/linalg/dft.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {
namespace fft {

/// A spectrum in halfcomplex order: what a pass reads from and writes to.
template <class V, class S>
struct Halfcomplex {
  S* data;
  Index n;

  LOWRANK_INLINE void put(Index k, V re) const { re.store(data + k * V::lanes); }
  LOWRANK_INLINE void put(Index k, V re, V im) const {
    re.store(data + k * V::lanes);
    im.store(data + (n - k) * V::lanes);
  }
  LOWRANK_INLINE V get(Index k) const { return V::load(data + k * V::lanes); }
  LOWRANK_INLINE void get(Index k, V& re, V& im) const {
    re = V::load(data + k * V::lanes);
    im = V::load(data + (n - k) * V::lanes);
  }
};

template <Index P, class V, class S, class Out>
void combine_by(Index m, const S* w, const S* in, const Out& out) {
  constexpr Index L = V::lanes;
  V re[P], im[P];
  each<P>([&](auto q) LOWRANK_LAMBDA_INLINE { re[q] = V::load(in + q * m * L); });
  real_dft<P>(re);
  out.put(0, re[0]);
  each<(P - 1) / 2>([&](auto q) LOWRANK_LAMBDA_INLINE { out.put(m * (q + 1), re[q + 1], re[P - 1 - q]); });
  if constexpr (P % 2 == 0) out.put(m * P / 2, re[P / 2]);

  for (Index i = 1; 2 * i < m; ++i, w += 2 * (P - 1)) {
    each<P>([&](auto q) LOWRANK_LAMBDA_INLINE {
      re[q] = V::load(in + (q * m + i) * L);
      im[q] = V::load(in + (q * m + m - i) * L);
      if constexpr (q > 0) rotate(re[q], im[q], V::all(w[2 * q - 2]), V::all(w[2 * q - 1]));
    });
    dft<P>(re, im);
    each<P>([&](auto q) LOWRANK_LAMBDA_INLINE {
      if constexpr (2 * q < P)
        out.put(i + m * q, re[q], im[q]);
      else
        out.put(m * (P - q) - i, re[q], negative(im[q]));
    });
  }
  if (m % 2 != 0) return;
  const Index i = m / 2;
  each<P>([&](auto q) LOWRANK_LAMBDA_INLINE {
    re[q] = V::load(in + (q * m + i) * L);
    im[q] = V::zero();
    if constexpr (q > 0) rotate(re[q], im[q], V::all(w[2 * q - 2]), V::all(w[2 * q - 1]));
  });
  dft<P>(re, im);
  each<P / 2>([&](auto q) LOWRANK_LAMBDA_INLINE { out.put(i + m * q, re[q], im[q]); });
  if constexpr (P % 2 != 0) out.put(i + m * (P / 2), re[P / 2]);
}

template <Index P, class V, class S, class In>
void split_by(Index m, const S* w, const In& in, S* out) {
  constexpr Index L = V::lanes;
  V re[P], im[P];
  re[0] = in.get(0);
  each<(P - 1) / 2>([&](auto q) LOWRANK_LAMBDA_INLINE { in.get(m * (q + 1), re[q + 1], re[P - 1 - q]); });
  if constexpr (P % 2 == 0) re[P / 2] = in.get(m * P / 2);
  real_adjoint<P>(re);
  each<P>([&](auto q) LOWRANK_LAMBDA_INLINE { re[q].store(out + q * m * L); });

  for (Index i = 1; 2 * i < m; ++i, w += 2 * (P - 1)) {
    each<P>([&](auto q) LOWRANK_LAMBDA_INLINE {
      if constexpr (2 * q < P) {
        in.get(i + m * q, re[q], im[q]);
      } else {
        in.get(m * (P - q) - i, re[q], im[q]);
        im[q] = negative(im[q]);
      }
    });
    dft<P>(im, re);
    each<P>([&](auto q) LOWRANK_LAMBDA_INLINE {
      if constexpr (q > 0) rotate(im[q], re[q], V::all(w[2 * q - 2]), V::all(w[2 * q - 1]));
      re[q].store(out + (q * m + i) * L);
      im[q].store(out + (q * m + m - i) * L);
    });
  }
  if (m % 2 != 0) return;
  const Index i = m / 2;
  each<P>([&](auto q) LOWRANK_LAMBDA_INLINE { re[q] = im[q] = V::zero(); });
  each<P / 2>([&](auto q) LOWRANK_LAMBDA_INLINE { in.get(i + m * q, re[q], im[q]); });
  if constexpr (P % 2 != 0) re[P / 2] = in.get(i + m * (P / 2));
  dft<P>(im, re);
  each<P>([&](auto q) LOWRANK_LAMBDA_INLINE {
    if constexpr (q > 0) rotate(im[q], re[q], V::all(w[2 * q - 2]), V::all(w[2 * q - 1]));
    re[q].store(out + (q * m + i) * L);
  });
}

/// The same for a prime P > 7, with the complex transform made of two real ones: X = R + i I, and for k = 1 .. (P-1)/2
/// X_k = (Re R_k - Im I_k) + i (Im R_k + Re I_k), X_(P-k) = (Re R_k + Im I_k) + i (Re I_k - Im R_k).
template <class V, class S, class Prime, class Out>
void combine_prime(const Prime& prime, Index m, const S* w, const S* in, const Out& out, S* scratch) {
  constexpr Index L = V::lanes;
  const Index P = prime.length();
  S *re = scratch, *im = re + P * L, *R = im + P * L, *I = R + P * L, *work = I + P * L;
  prime.forward([&](Index q) LOWRANK_LAMBDA_INLINE { return in + q * m * L; }, R, work);
  out.put(0, V::load(R));
  for (Index q = 1; 2 * q < P; ++q) out.put(m * q, V::load(R + q * L), V::load(R + (P - q) * L));

  for (Index i = 1; 2 * i <= m; ++i) {
    for (Index q = 0; q < P; ++q) {
      V x = V::load(in + (q * m + i) * L), y = 2 * i < m ? V::load(in + (q * m + m - i) * L) : V::zero();
      if (q > 0) rotate(x, y, V::all(w[0]), V::all(w[1])), w += 2;
      x.store(re + q * L);
      y.store(im + q * L);
    }
    prime.forward([&](Index q) LOWRANK_LAMBDA_INLINE { return re + q * L; }, R, work);
    prime.forward([&](Index q) LOWRANK_LAMBDA_INLINE { return im + q * L; }, I, work);
    out.put(i, V::load(R), V::load(I));
    for (Index q = 1; 2 * q < P; ++q) {
      const V a = V::load(R + q * L), b = V::load(R + (P - q) * L);
      const V c = V::load(I + q * L), d = V::load(I + (P - q) * L);
      if (2 * i < m || 2 * q + 1 < P)
        out.put(i + m * q, a - d, b + c);
      else
        out.put(i + m * q, a - d);
      if (2 * i < m) out.put(m * q - i, a + d, b - c);  // the conjugate of X_(P-q)
    }
  }
}
template <class V, class S, class Prime, class In>
void split_prime(const Prime& prime, Index m, const S* w, const In& in, S* out, S* scratch) {
  constexpr Index L = V::lanes;
  const Index P = prime.length();
  S *re = scratch, *im = re + P * L, *R = im + P * L, *I = R + P * L, *work = I + P * L;
  in.get(0).store(R);
  for (Index q = 1; 2 * q < P; ++q) {
    V a, b;
    in.get(m * q, a, b);
    a.store(R + q * L);
    b.store(R + (P - q) * L);
  }
  prime.adjoint(R, [&](Index q) LOWRANK_LAMBDA_INLINE { return out + q * m * L; }, work);

  for (Index i = 1; 2 * i <= m; ++i) {
    V x, y;
    in.get(i, x, y);
    x.store(R);
    y.store(I);
    for (Index q = 1; 2 * q < P; ++q) {
      V xr, xi = V::zero(), yr = V::zero(), yi = V::zero();
      if (2 * i < m || 2 * q + 1 < P)
        in.get(i + m * q, xr, xi);
      else
        xr = in.get(i + m * q);
      if (2 * i < m) in.get(m * q - i, yr, yi);
      (xr + yr).store(R + q * L);
      (xi + yi).store(R + (P - q) * L);
      (xi - yi).store(I + q * L);
      (yr - xr).store(I + (P - q) * L);
    }
    prime.adjoint(R, [&](Index q) LOWRANK_LAMBDA_INLINE { return re + q * L; }, work);
    prime.adjoint(I, [&](Index q) LOWRANK_LAMBDA_INLINE { return im + q * L; }, work);
    for (Index q = 0; q < P; ++q) {
      x = V::load(re + q * L), y = V::load(im + q * L);
      if (q > 0) rotate(y, x, V::all(w[0]), V::all(w[1])), w += 2;
      x.store(out + (q * m + i) * L);
      if (2 * i < m) y.store(out + (q * m + m - i) * L);
    }
  }
}

}  // namespace fft
}  // namespace linalg
}  // namespace lowrank
