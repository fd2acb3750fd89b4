// The projected coordinates: the rule over R (r x k, column-major), and what a lift makes of N.
#pragma once

#include <lowrank/cuda/sums.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// N <- the rule's direction of R, moments updated, in one pass; N may be R. Where norms are asked for, norm[j] = ||n_j||^2.
/// A step that does not happen leaves the moments and gives N = 0.
template <class S, class Element>
struct Direction {
  static constexpr int threads = Lane::threads;
  Element element;
  const S* core;
  S* direction;
  Index r, k;
  double* norm;
  const Control<S>* control;

  Grid grid() const { return {ceil_div(k, Lane::columns), norm == nullptr ? 0 : shared_bytes<double>(threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    const Index j0 = block.index() * Lane::columns;
    double* room = norm == nullptr ? nullptr : block.template shared<double>(threads);
    block.each([&](int t) {
      const Lane at(t, true);
      const auto rule = element.begin(*control);
      const bool go = control->go != 0;
      double sum = 0;
      if (j0 + at.column < k)
        for (Index i = at.lane; i < r; i += Lane::lanes) {
          const Index e = i + (j0 + at.column) * r;
          const S n = go ? rule(core[e], e) : S(0);
          direction[e] = n;
          sum = std::fma(double(n), double(n), sum);
        }
      if (room != nullptr) room[at.slot()] = sum;
    });
    if (room != nullptr) add_lanes(block, room, k - j0, [&](int column, double sum) { norm[j0 + column] = sum; });
  }
};

/// N <- alpha N + kept_factor R diag(phi): Residual's coefficients of P, phi being what multiplies A.
template <class S>
struct Coefficients {
  const S *core, *phi;
  S* direction;
  Index r, k;
  S alpha;
  const Control<S>* control;

  LOWRANK_HOST_DEVICE Index size() const { return r * k; }
  LOWRANK_DEVICE void operator()(Index e) const {
    if (control->go == 0) return;
    direction[e] = std::fma(alpha, direction[e], control->kept_factor * phi[e / r] * core[e]);
  }
};

// -- moments that move with the basis (LDAdam, arXiv 2410.16103, eq. 8): the products are made in between ------------------------------

/// out = x o x; with v, out = v / c2 - m o m / c1^2 (x = m), the centred variance.
template <class S>
struct Square {
  const S *x, *v;
  S* out;
  Index n;
  const Control<S>* control;

  LOWRANK_HOST_DEVICE Index size() const { return n; }
  LOWRANK_DEVICE void operator()(Index i) const {
    out[i] = v == nullptr ? x[i] * x[i] : S(1 / control->c2) * v[i] - S(1 / (control->c1 * control->c1)) * (x[i] * x[i]);
  }
};

/// Where moments move: M <- moved = C M,  V <- |c2 ((C o C) centred + moved o moved / c1^2)|. V may be null.
template <class S>
struct Transported {
  const S *moved, *centred;
  S *first, *second;
  Index n;
  const Control<S>* control;
  bool reset;

  LOWRANK_HOST_DEVICE Index size() const { return n; }
  LOWRANK_DEVICE void operator()(Index i) const {
    constexpr S largest = sizeof(S) == 4 ? S(3.4028234663852886e38) : S(1.7976931348623157e308);
    if (control->moved == 0) return;
    if (second != nullptr) {
      const S x = reset ? S(0) : S(control->c2) * (centred[i] + S(1 / (control->c1 * control->c1)) * (moved[i] * moved[i]));
      second[i] = !is_finite(double(x)) ? largest : x < 0 ? -x : x;
    }
    first[i] = reset ? S(0) : moved[i];
  }
};

/// Where moments move: row i of X (r x k) <- row from[i] of old, or zero (-1).
template <class S>
struct GatherRows {
  const S* old;
  S* x;
  Index r, k;
  const int* from;
  const Control<S>* control;

  LOWRANK_HOST_DEVICE Index size() const { return r * k; }
  LOWRANK_DEVICE void operator()(Index e) const {
    if (control->moved == 0) return;
    const int i = from[e % r];
    x[e] = i < 0 ? S(0) : old[i + e / r * r];
  }
};

}  // namespace cuda
}  // namespace lowrank
