// Polar: X (r x k, column-major) towards the nearest matrix with orthonormal rows or columns, by five odd polynomials of its singular
// values, products only:  X <- X / (margin ||X||_F + eps),  then  X <- (a I + b G + c G^2) X,  G = X X^T  (from the right for r > k).
// Coefficients and sources: lowrank/linalg/newton_schulz.hpp. A matrix of zeros stays one.
#pragma once

#include <lowrank/cuda/sums.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// a, b, c of each step; margin and eps of the first scaling.
struct PolarPolynomial {
  double coefficient[5][3];
  double margin, eps;
};
inline PolarPolynomial polar_polynomial(Polynomial which) {
  switch (which) {
    case Polynomial::Tuned:  // Dion's code
      return {{{4.0848, -6.8946, 2.9270}, {3.9505, -6.3029, 2.6377}, {3.7418, -5.5913, 2.3037}, {2.8769, -3.1427, 1.2046}, {2.8366, -3.0525, 1.2012}}, 1, 1e-7};
    case Polynomial::PolarExpress:  // arXiv 2505.16932, for singular values from 1e-3
      return {{{8.156554524902461, -22.48329292557795, 15.878769915207462},
               {4.042929935166739, -2.808917465908714, 0.5000178451051316},
               {3.8916678022926607, -2.772484153217685, 0.5060648178503393},
               {3.285753657755655, -2.3681294933425376, 0.46449024233003106},
               {2.3465413258596377, -1.7097828382687081, 0.42323551169305323}}, 1.02, 1e-6};
    default:  // Muon
      return {{{3.4445, -4.7750, 2.0315}, {3.4445, -4.7750, 2.0315}, {3.4445, -4.7750, 2.0315}, {3.4445, -4.7750, 2.0315}, {3.4445, -4.7750, 2.0315}}, 1, 1e-7};
  }
}

/// out = x / (margin ||X|| + eps), the squared norm being in control->norm.
template <class S>
struct Margin {
  const S* x;
  S* out;
  Index n;
  double margin, eps;
  const Control<S>* control;

  LOWRANK_HOST_DEVICE Index size() const { return n; }
  LOWRANK_DEVICE void operator()(Index i) const { out[i] = S(double(x[i]) / (margin * std::sqrt(control->norm) + eps)); }
};

/// square <- a I + b G + c square, n x n.
template <class S>
struct Quadratic {
  const S* gram;
  S* square;
  Index n;
  S a, b, c;

  LOWRANK_HOST_DEVICE Index size() const { return n * n; }
  LOWRANK_DEVICE void operator()(Index e) const {
    const S x = std::fma(c, square[e], b * gram[e]);
    square[e] = e / n == e % n ? x + a : x;
  }
};

template <class S>
class Polar {
 public:
  Polar() = default;
  Polar(Arena& arena, Index r, Index k)
      : r_(r), k_(k), n_(least(r, k)), gram_(arena.take<S>(n_ * n_)), square_(arena.take<S>(n_ * n_)), other_(arena.take<S>(r * k)), squares_(arena, r, k) {}

  template <class B>
  void operator()(B& backend, S* X, Polynomial which, Control<S>* control) const {
    const PolarPolynomial set = polar_polynomial(which);
    squares_.template operator()<S, S>(backend, View<const S>{X, r_, k_, 1, r_});
    launch(backend, Norm<S>{squares_.column, k_, control});
    launch(backend, Margin<S>{X, X, r_ * k_, set.margin, set.eps, control});
    S *from = X, *to = other_;
    for (const auto& [a, b, c] : set.coefficient) {
      const auto x = columns<const S>(from, r_), xt = transposed<const S>(from, r_), G = columns<const S>(gram_, n_), P = columns<const S>(square_, n_);
      if (r_ <= k_) backend.gemm(x, xt, columns(gram_, n_), n_, n_, k_, Scale<S>{});
      else backend.gemm(xt, x, columns(gram_, n_), n_, n_, r_, Scale<S>{});
      backend.gemm(G, G, columns(square_, n_), n_, n_, n_, Scale<S>{});
      launch(backend, Quadratic<S>{gram_, square_, n_, S(a), S(b), S(c)});
      if (r_ <= k_) backend.gemm(P, x, columns(to, r_), r_, k_, n_, Scale<S>{});
      else backend.gemm(x, P, columns(to, r_), r_, k_, n_, Scale<S>{});
      std::swap(from, to);
    }
    backend.copy(X, other_, std::size_t(r_ * k_) * sizeof(S));  // five steps end in the other one
  }

 private:
  Index r_ = 0, k_ = 0, n_ = 0;
  S *gram_ = nullptr, *square_ = nullptr, *other_ = nullptr;
  Squares squares_;
};

}  // namespace cuda
}  // namespace lowrank
