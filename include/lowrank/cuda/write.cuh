// Where a step ends: the sinks of a gradient's sweep, and the write of a projected step.
#pragma once

#include <lowrank/cuda/lift.cuh>
#include <lowrank/cuda/projector.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// A gradient's element through the rule and into the weight: the sink of a dense step.
template <class S, class Element, class Sink>
struct Ruled {
  Element element;
  Sink weight;
  Index ld;
  bool down;

  LOWRANK_DEVICE auto begin(const Control<S>& c) const {
    const auto e = element.begin(c);
    const auto w = weight.begin(c);
    return Ruled<S, std::remove_const_t<decltype(e)>, std::remove_const_t<decltype(w)>>{e, w, ld, down};
  }
  LOWRANK_DEVICE void operator()(Index i, Index j, S x) const { weight(i, j, element(x, i + j * ld)); }
};

/// W <- W - after move X: what is left to do once P N was added and the decay applied.
template <class S, class T>
struct Remaining {
  Weight<S, T> weight;
  bool down = weight.down;

  LOWRANK_DEVICE Remaining begin(const Control<S>& c) const {
    Remaining r{weight.begin(c)};
    r.weight.move *= r.weight.after;
    r.weight.before = r.weight.after = 1;
    return r;
  }
  LOWRANK_DEVICE void operator()(Index i, Index j, S x) const { weight(i, j, x); }
};

/// A gradient's element through the rule into an array: the sink of a dense step whose rule then needs all directions at once.
template <class S, class Element>
struct Directed {
  Element element;
  S* direction;
  Index ld;
  bool down = true;

  LOWRANK_DEVICE Directed begin(const Control<S>& c) const { return {element.begin(c), direction, ld, down}; }
  LOWRANK_DEVICE void operator()(Index i, Index j, S x) const { direction[i + j * ld] = element(x, i + j * ld); }
};

/// A sink of `factor` times what is written.
template <class S, class Sink>
struct Times {
  Sink sink;
  S factor;
  bool down = sink.down;

  LOWRANK_DEVICE Times begin(const Control<S>& c) const { return {sink.begin(c), factor}; }
  LOWRANK_DEVICE void operator()(Index i, Index j, S x) const { sink(i, j, factor * x); }
};

/// W <- after (before W - move scale P N), P N by the projector's transform: into W where columns are contiguous, otherwise panel by panel
/// and turned.
template <class S, class B, class Projector, class Work, class T>
void write_transformed(B& backend, const Projector& projector, const Work& work, const S* direction, S scale, S* panel, const Weight<S, T>& weight,
                       const Control<S>* c) {
  using Sink = Times<S, Weight<S, T>>;
  const Index d = weight.w.rows, k = weight.w.cols;
  if (weight.down) return projector.back(backend, work, direction, Sink{weight, scale}, 0, k, c);
  const Index wide = Intake<S, S, B>::panel_columns(d, k);
  for (Index j0 = 0; j0 < k; j0 += wide) {
    const Index n = least(wide, k - j0);
    projector.back(backend, work, direction, Columns<S>{panel, d}, j0, n, c);
    launch(backend, sweep(Columns<S>{panel, d}, Sink{weight.columns(j0, n), scale}, d, n, c));
  }
}

/// W <- after (before W - move (P N + A diag(phi))), P d x r, N r x k, phi of k numbers where the lift has them. panel: d x
/// Intake::panel_columns(d, k), for a W of another scalar than S.
template <class L, class S, class B, class T, class U>
void write(B& backend, const LiftState<L, S>& lift, const S* basis, const S* direction, Index r, const S* phi, S* panel,
           const Weight<S, T>& weight, const View<const U>& g, const Control<S>* c) {
  const View<T>& w = weight.w;
  const Index d = w.rows, k = w.cols;
  if constexpr (!LiftState<L, S>::uses_projection) {
    launch(backend, sweep(Gradient<S, U>{.a = g, .factor = phi}, weight, d, k, c));
  } else if constexpr (std::is_same_v<S, T>) {
    backend.gemm(columns(basis, d), columns(direction, r), operand(w), d, k, r, Scale<S>{1, 0, c->write});
    if constexpr (LiftState<L, S>::uses_gradient)
      launch(backend, sweep(Gradient<S, U>{.a = g, .factor = phi}, Remaining<S, T>{weight}, d, k, c));
  } else {
    const Index wide = Intake<S, S, B>::panel_columns(d, k);
    for (Index j0 = 0; j0 < k; j0 += wide) {
      const Index n = least(wide, k - j0);
      backend.gemm(columns(basis, d), columns(direction + j0 * r, r), columns(panel, d), d, n, r, Scale<S>{S(lift.scale())});
      if constexpr (LiftState<L, S>::uses_gradient) {
        const View<const U> part{g.data + j0 * g.col_stride, d, n, g.row_stride, g.col_stride};
        launch(backend, sweep(Gradient<S, U>{.a = part, .factor = phi + j0}, Added<S>{panel, d}, d, n, c));
      }
      launch(backend, sweep(Columns<S>{panel, d}, weight.columns(j0, n), d, n, c));
    }
  }
}

}  // namespace cuda
}  // namespace lowrank
