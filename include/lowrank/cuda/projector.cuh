// Projectors on a device: where the gradient lives. In canonical orientation the gradient A is d x k, d the projected side; a step
// works with a basis P (d x r) in device memory, R = P^T A and P N being products. A projector says where P comes from.
//
// ProjectorState<Options, S, B> has
//   Work(arena, state), of which Work::candidate is d x r
//   refresh(backend, intake, work, control, warm)   launches what makes a candidate from A; work.previous (r x k) <- P^T A of the basis
//                                                   in use where `compares`, since the device may then keep that basis
//   prepare(backend, work, control)                 otherwise: P ready in basis(work)
//   commit(backend, work, control)                  after the decision: basis(work) is the candidate, or what it was
//   replaced(work)                                  during a refresh: the basis that the candidate would replace
//   core(backend, work, R), moved_from(work)        optional: P^T A of the candidate without a product; a gather instead of a rotation
//   visit(f), numbers(kept, f)                      f(name, Array) and f(name, number): what is kept between steps
// The basis' clock (when it is due) is the host's, from the last report.
#pragma once

#include <lowrank/cuda/decide.cuh>
#include <lowrank/cuda/sweep.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

template <class Options, class S, class B>
class ProjectorState;

/// The caller's gradient as products read it, canonical d x k. Another scalar than S is widened panel by panel on the way.
template <class S, class T, class B>
struct Intake {
  static constexpr bool widens = !std::is_same_v<S, T>;
  static constexpr Index panel_size = Index(1) << 22;

  B& backend;
  View<const T> a;
  const Control<S>* control;
  S* panel;

  /// The same, element by element.
  Gradient<S, T> source() const { return {.a = a}; }
  /// Columns that are widened at once.
  static Index panel_columns(Index d, Index k) { return least(k, most<Index>(64, panel_size / most<Index>(d, 1))); }

  /// R (r x k, leading dimension r) <- scale P^T A.
  void down(const S* P, Index r, S* R) const {
    each_panel([&](Operand<const S> A, Index j0, Index w) {
      backend.gemm(transposed(P, a.rows), A, columns(R + j0 * r, r), r, w, a.rows, Scale<S>{1, 0, control->input.intake, true});
    });
  }
  /// Y (d x n) <- scale A X, X being k x n.
  void times(Operand<const S> X, Index n, S* Y) const {
    each_panel([&](Operand<const S> A, Index j0, Index w) {
      const Operand<const S> part{X.data + (X.transposed ? j0 * X.ld : j0), X.ld, X.transposed};
      const S* scale = control->input.intake + (j0 == 0 ? 0 : 2);
      backend.gemm(A, part, columns(Y, a.rows), a.rows, n, w, Scale<S>{1, 0, scale, true});
    });
  }

 private:
  template <class F>
  void each_panel(const F& f) const {
    if constexpr (!widens) {
      f(operand(a), Index(0), a.cols);
    } else {
      const Index wide = panel_columns(a.rows, a.cols);
      for (Index j0 = 0; j0 < a.cols; j0 += wide) {
        const Index w = least(wide, a.cols - j0);
        const View<const T> part{a.data + j0 * a.col_stride, a.rows, w, a.row_stride, a.col_stride};
        launch(backend, sweep(Gradient<S, T>{.a = part, .scaled = false}, Columns<S>{panel, a.rows}, a.rows, w, control, true));
        f(columns<const S>(panel, a.rows), j0, w);
      }
    }
  }
};

namespace detail {

template <class Options>
Index checked_rank(const char* who, const Options& o, Index limit) {
  require(o.rank >= 1, who, "rank", double(o.rank), "rank >= 1");
  require(o.refresh_every >= 0, who, "refresh_every", double(o.refresh_every), "a number of steps >= 0 (0: only once)");
  require(o.phase >= 0, who, "phase", double(o.phase), "a number of steps >= 0");
  if constexpr (requires { o.refresh_on_drift; })
    require(o.refresh_on_drift >= 0 && o.refresh_on_drift < 1, who, "refresh_on_drift", o.refresh_on_drift, "0 <= fraction < 1 (0: never)");
  if constexpr (requires { o.adapt; })
    require(o.adapt.energy == 0, who, "adapt.energy", o.adapt.energy, "0: ranks adapt on the CPU only");
  if constexpr (requires { o.sweeps; }) require(o.sweeps >= 1, who, "sweeps", double(o.sweeps), "sweeps >= 1");
  return least<Index>(o.rank, limit);
}

/// When a basis is to be renewed: at the first step that has a gradient, every T steps, and on drift.
template <class Options, class Kept>
bool due(const Options& o, const Kept& kept) {
  return kept.refresh_pending != 0 || (o.refresh_every > 0 && (kept.steps + std::uint64_t(o.phase)) % std::uint64_t(o.refresh_every) == 0);
}

}  // namespace detail

/// P = the first r unit vectors.
template <class S>
struct UnitBasis {
  S* P;
  Index d, r;

  LOWRANK_HOST_DEVICE Index size() const { return d * r; }
  LOWRANK_DEVICE void operator()(Index e) const { P[e] = e % d == e / d ? S(1) : S(0); }
};

/// What projectors that keep their basis share.
template <class Options, class S, class B>
class DenseProjector {
 public:
  static constexpr bool declines = true, compares = true;

  Options& options() { return options_; }
  const Options& options() const { return options_; }
  Index rank() const { return basis_.cols(); }
  void check() const {
    if (detail::checked_rank(who_, options_, limit_) != rank())
      detail::bad_argument(who_, "rank = " + std::to_string(options_.rank), std::to_string(rank()) + ", as at construction");
  }
  template <class Kept>
  static bool warm(const Kept& kept) { return kept.captured_at_refresh > 0; }
  void begin(B& backend) { launch(backend, UnitBasis<S>{basis_.data(), basis_.rows(), rank()}); }

  template <class Work>
  void prepare(B&, Work&, Control<S>*) const {}
  template <class Work>
  const S* basis(const Work&) const { return basis_.data(); }
  template <class Work>
  const S* replaced(const Work&) const { return basis_.data(); }
  template <class Work>
  void commit(B& backend, const Work& work, Control<S>* control) {
    launch(backend, CopyIf<S, S>{work.candidate, basis_.data(), basis_.size(), control});
  }
  void visit(auto&& f) { f("basis", basis_); }
  static void numbers(auto& kept, auto&& f) {
    f("refresh_pending", kept.refresh_pending), f("captured_at_refresh", kept.captured_at_refresh);
  }

 protected:
  DenseProjector() = default;
  DenseProjector(const char* who, const Options& options, Index d, Index limit)
      : options_(options), basis_(d, detail::checked_rank(who, options, limit)), who_(who), limit_(limit) {}

  Options options_;
  Array<S, B> basis_;
  const char* who_ = "";
  Index limit_ = 0;
};

}  // namespace cuda
}  // namespace lowrank
