// Optimizer on a device: the projector, rule and lift of lowrank/options.hpp on matrices in GPU memory, as lowrank::Optimizer does it
// on the CPU, and with the same state.
//
//   lowrank::cuda::Context context(stream);
//   lowrank::cuda::Optimizer opt(context, view(w, rows, cols), lowrank::Subspace{.rank = 128}, lowrank::AdamW{}, lowrank::BackProject{.scale = 0.25});
//   opt.step(view(w, rows, cols), view(g, rows, cols), {.lr = lr});
//
// step() waits for the device and returns what the step says of itself. enqueue() does not: it only launches, reads its numbers from
// device memory and allocates nothing once a refresh and a plain step have been taken, so a CUDA graph can hold it:
//
//   opt.set({.lr = lr});                 // outside the graph, before every launch of it
//   opt.enqueue(w, g, Refresh::No);      // captured
//   opt.report();                        // waits; from then on due() knows of what happened on the device
//
// Phases as in lowrank/optimizer/engine.hpp: project, decide (on the device), rule, measure, write. Nothing is written before the
// decision. Results do not depend on the storage order of the gradient but for cuBLAS' products.
#pragma once

#include <lowrank/cuda/fused.cuh>
#include <lowrank/cuda/optimizer_state.cuh>
#include <lowrank/cuda/transport.cuh>
#include <lowrank/cuda/write.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// Whether a step that only enqueues renews the basis.
enum class Refresh { No, Yes };

template <class S, class P, class R, class L, class B>
class Optimizer : public OptimizerState<S, P, R, L, B> {
  using State = OptimizerState<S, P, R, L, B>;
  using State::backend_, State::shape_, State::projector_, State::rule_, State::lift_, State::control_, State::error_, State::kept_, State::rank_of;
  using State::coupled, State::orthogonal, State::feeds_back, State::by_kernel, State::moves;
  using typename State::Projector;
  /// Whether there is a form of the step that is fused (fused.cuh).
  static constexpr bool fusible = State::projected && !coupled && !orthogonal && !by_kernel && std::is_same_v<L, BackProject>;

 public:
  using State::projected, State::report, State::due;

  /// For matrices of w's shape, on a backend (Context) that outlives the optimizer. Allocates the state and room for a step.
  /// Throws std::invalid_argument naming the option and the rule. w must not be empty.
  template <class T>
  Optimizer(B& backend, const View<T>& w, P projector, R rule = {}, L lift = {}) : State(backend, w, projector, rule, lift) {
    backend.workspace(workspace_bytes());
  }

  /// One step: W <- W - update(G), and what it says of itself. W and G have the constructor's shape; their storage orders and
  /// scalars are free, as long as both compute in the state's scalar. Throws std::invalid_argument (shapes, overlap, lr, options)
  /// before anything is touched. A gradient that is not finite, or whose square overflows, changes nothing: report.skipped.
  template <class T, class U>
  Report step(const View<T>& w, const View<U>& g, const Step& step) {
    check(w, g, step);
    set(step);
    enqueue(w, g, due() ? Refresh::Yes : Refresh::No);
    return report();
  }

  /// The numbers of the next step, for enqueue() and graphs that hold one.
  void set(const Step& step) {
    known_norm_ = step.grad_norm.has_value();
    go(Fill<typename Control<S>::Input>{&control_.data()->input, 1, typename Control<S>::Input(step)});
  }
  /// Launches a step and returns. Whether set() was given a gradient's norm decides what is launched; the norm itself is read there.
  template <class T, class U>
  void enqueue(const View<T>& w, const View<U>& g, Refresh refresh) {
    Arena arena(backend_->workspace(workspace_bytes()));
    const View<const U> gradient{g.data, g.rows, g.cols, g.row_stride, g.col_stride};
    if constexpr (coupled) run_coupled(arena, shape_(w), shape_(View<const std::remove_const_t<U>>(gradient)));
    else if constexpr (projected) run_projected(arena, shape_(w), shape_(View<const std::remove_const_t<U>>(gradient)), refresh == Refresh::Yes);
    else run_whole(arena, shape_(w), shape_(View<const std::remove_const_t<U>>(gradient)));
  }

  /// Throws what step() would throw, and does nothing else.
  template <class T, class U>
  void check(const View<T>& w, const View<U>& g, const Step& step) const {
    static_assert(!std::is_const_v<T>, "the weight is written to: pass a view of memory that is not const");
    static_assert(std::is_same_v<compute_t<T>, S> && (std::is_same_v<compute_t<U>, S> || std::is_same_v<S, double>),
                  "weight and gradient compute in another scalar than this optimizer's state");
    const char* who = "lowrank::cuda::Optimizer::step";
    const auto shaped = [&](const auto& v) {
      if (v.rows != shape_.rows || v.cols != shape_.cols)
        detail::bad_argument(who, detail::shape_text(v.rows, v.cols), detail::shape_text(shape_.rows, shape_.cols));
    };
    shaped(w), shaped(g);
    detail::require(step.lr >= 0, who, "lr", step.lr, "a finite number >= 0");
    detail::require(true, who, "grad_scale", step.grad_scale, "a finite number");
    if (detail::overlap(w, g)) detail::bad_argument(who, "a weight and a gradient that overlap", "separate memory");
    if constexpr (!projected && RuleState<R, S, B>::follows_memory)
      if (shape_.d() > 1 && shape_.k() > 1 && (detail::contiguous(w).transposed != shape_.transposed))
        detail::bad_argument(who, "a weight in the other storage order", "the one of construction: moments lie as it does");
    projector_.check(), rule_.check(), lift_.check(), this->check_transport();
  }

  /// How steps between refreshes are taken from now on, where there is a choice. A graph keeps the form it was captured with.
  void form(Form form) { form_ = form; }
  /// Bytes a step needs and forgets.
  std::size_t workspace_bytes() const {
    Arena count;
    if constexpr (coupled) (void)Coupling(count, *this);
    else if constexpr (projected) (void)Pieces(count, *this);
    else (void)Whole(count, shape_.d(), shape_.k());
    return count.used();
  }

 private:
  /// What a step of a whole gradient cuts its workspace into.
  struct Whole {
    Squares squares;
    S* direction = nullptr;
    Polar<S> polar;

    Whole(Arena& arena, Index d, Index k) : squares(arena, d, k) {
      if (orthogonal || by_kernel) direction = arena.take<S>(d * k);
      if (orthogonal) polar = Polar<S>(arena, d, k);
    }
  };
  /// What a step of a method cuts its workspace into.
  struct Coupling {
    Squares gradient;
    S *panel, *direction, *phi = nullptr;
    typename Projector::Work projection;

    Coupling(Arena& arena, const Optimizer& o)
        : gradient(arena, o.shape_.d(), o.shape_.k()), panel(arena.take<S>(o.shape_.d() * Intake<S, S, B>::panel_columns(o.shape_.d(), o.shape_.k()))),
          projection(arena, o.projector_) {
      direction = projection.direction;
    }
  };
  /// What a step of a projected gradient cuts its workspace into.
  struct Pieces {
    Squares gradient, core_squares, previous_squares;
    S *core, *direction, *phi, *panel;
    S* chunks = nullptr;
    double* norms;
    Moving<S> moving;
    Polar<S> polar;
    typename Projector::Work projection;

    Pieces(Arena& arena, const Optimizer& o) {
      const Index d = o.shape_.d(), k = o.shape_.k(), r = o.rank_of();
      gradient = Squares(arena, d, k), core_squares = Squares(arena, r, k), previous_squares = Squares(arena, r, k);
      core = arena.take<S>(r * k);
      direction = std::is_same_v<L, Residual> ? arena.take<S>(r * k) : core;
      phi = arena.take<S>(k);
      norms = arena.take<double>(k);
      panel = arena.take<S>(d * Intake<S, S, B>::panel_columns(d, k));
      if (fusible && r <= largest_fused_rank) chunks = arena.take<S>(r * k * ColumnSquares<S, S>::chunks(d));
      if (o.projector().transport == Transport::Rotate) moving = Moving<S>(arena, r, k);
      if (orthogonal) polar = Polar<S>(arena, r, k);
      projection = typename Projector::Work(arena, o.projector_);
    }
  };

  template <class T>
  Weight<S, T> weight(const View<T>& w) const {
    return {.w = w, .number_of_row = shape_.transposed ? 1 : shape_.cols, .number_of_column = shape_.transposed ? shape_.cols : 1};
  }
  template <class K>
  void go(const K& kernel) { launch(*backend_, kernel); }

  void decide(const double* gradient, const double* core, const double* before, const Plan& plan) {
    const auto motion = [&] {
      if constexpr (coupled) return projector_.motion();
      else return rule_.motion();
    }();
    go(Decide<S, std::remove_const_t<decltype(motion)>>{gradient, core, before, shape_.k(), motion, rule_.beta1(), rule_.beta2(), lift_.scale(), plan, control_.data()});
  }

  // -- the whole gradient: two passes, or one when the caller knows the norm --------------------------------------------------------------

  template <class T, class U>
  void run_whole(Arena& arena, const View<T>& w, const View<const U>& g) {
    const Whole p(arena, shape_.d(), shape_.k());
    Control<S>* c = control_.data();
    if (!known_norm_) p.squares.template operator()<S, U>(*backend_, g, c);
    decide(known_norm_ ? nullptr : p.squares.column, nullptr, nullptr, {});
    const auto to = weight(w);
    Index d = shape_.d(), k = shape_.k();
    const Gradient<S, U> from{.a = g};
    if constexpr (orthogonal) {
      go(sweep(from, Directed<S, decltype(rule_.element())>{rule_.element(), p.direction, d}, d, k, c));
      p.polar(*backend_, p.direction, this->rule().polynomial, c);
      go(sweep(Columns<S>{p.direction, d}, to, d, k, c));
    } else if constexpr (by_kernel) {
      go(sweep(from, Columns<S>{p.direction, d}, d, k, c));
      go(rule_.kernel(p.direction, p.direction, c));
      go(sweep(Columns<S>{p.direction, d}, to, d, k, c));
    } else {
      const Ruled<S, decltype(rule_.element()), Weight<S, T>> sink{rule_.element(), to, d, to.down};
      // a matrix that is one stretch of memory is one column; stochastic rounding numbers its elements by two
      const bool stretch = to.down && w.col_stride == w.rows && g.row_stride == 1 && g.col_stride == g.rows && sizeof(T) != 2;
      if (stretch) d *= k, k = 1;
      go(sweep(from, sink, d, k, c));
    }
  }

  // -- a method of one part --------------------------------------------------------------------------------------------------------

  template <class T, class U>
  void run_coupled(Arena& arena, const View<T>& w, const View<const U>& g) {
    Coupling p(arena, *this);
    Control<S>* c = control_.data();
    if (!known_norm_) p.gradient.template operator()<S, U>(*backend_, g, c);
    decide(known_norm_ ? nullptr : p.gradient.column, nullptr, nullptr, {.refreshing = true});
    projector_.step(*backend_, Gradient<S, U>{.a = g}, p.projection, c);
    write<L, S>(*backend_, lift_, p.projection.candidate, p.direction, rank_of(), p.phi, p.panel, weight(w), g, c);
  }

  // -- projected ---------------------------------------------------------------------------------------------------------------------

  template <class T, class U>
  void run_projected(Arena& arena, const View<T>& w, const View<const U>& g, bool refreshing) {
    Pieces p(arena, *this);
    Control<S>* c = control_.data();
    const Index r = rank_of(), k = shape_.k();
    if constexpr (fusible)
      if (!refreshing && !fast() && r <= largest_fused_rank && (form_ == Form::Fused || (form_ == Form::Auto && fused_pays(shape_.d(), k, r, sizeof(S), sizeof(T), sizeof(U)))))
        return run_fused(p, w, g);
    const Intake<S, U, B> a{*backend_, g, c, p.panel};
    Plan plan{.refreshing = refreshing, .warm = Projector::warm(kept_), .declines = Projector::declines, .compares = Projector::compares,
              .reset = this->projector().transport == Transport::Reset};
    plan.threshold = drift();

    constexpr bool takes = requires { projector_.core(*backend_, p.projection, p.core, c); };
    const bool transforms = feeds_back || (!refreshing && fast());  // otherwise a refresh does
    if constexpr (takes)
      if (transforms) projector_.transform(*backend_, a, p.projection, c, error_.data());
    if constexpr (feeds_back) {  // A = G + E is known by its coefficients only; the transform is orthonormal
      p.gradient.template operator()<S, S>(*backend_, View<const S>{p.projection.spectrum, shape_.d(), k, 1, shape_.d()});
      if (refreshing) projector_.choose(*backend_, p.projection);
    } else {
      p.gradient.template operator()<S, U>(*backend_, g, c);
      if (refreshing) projector_.refresh(*backend_, a, p.projection, c, plan.warm);
    }
    if (!refreshing && !transforms) projector_.prepare(*backend_, p.projection, c);
    if (takes && (refreshing || transforms)) {
      if constexpr (takes) projector_.core(*backend_, p.projection, p.core, c, refreshing);
    } else {
      if (!refreshing) draw(p);
      a.down(refreshing ? p.projection.candidate : projector_.basis(p.projection), r, p.core);
    }
    p.core_squares.template operator()<S, S>(*backend_, View<const S>{p.core, r, k, 1, r});
    const bool compares = refreshing && Projector::compares;
    if (compares) p.previous_squares.template operator()<S, S>(*backend_, View<const S>{p.projection.previous, r, k, 1, r});
    decide(p.gradient.column, p.core_squares.column, compares ? p.previous_squares.column : nullptr, plan);

    if (compares) {
      go(CopyIf<S, S>{p.projection.previous, p.core, r * k, c, true});
      go(CopyIf<double, S>{p.previous_squares.column, p.core_squares.column, k, c, true});
    }
    if (refreshing) {
      if constexpr (moves)
        if (plan.warm) p.moving(*backend_, projector_, p.projection, rule_, shape_.d(), r, k, c);
      projector_.commit(*backend_, p.projection, c);
    }
    if constexpr (feeds_back) projector_.keep(*backend_, p.projection, error_.data(), c);
    const double* norms = p.norms;
    if constexpr (by_kernel) {
      go(rule_.kernel(p.core, p.direction, c));
      if constexpr (LiftState<L, S>::limits) {
        p.previous_squares.template operator()<S, S>(*backend_, View<const S>{p.direction, r, k, 1, r});
        norms = p.previous_squares.column;
      }
    } else {
      go(Direction<S, decltype(rule_.element())>{rule_.element(), p.core, p.direction, r, k, LiftState<L, S>::limits ? p.norms : nullptr, c});
    }
    if constexpr (orthogonal) p.polar(*backend_, p.direction, this->rule().polynomial, c);
    if constexpr (LiftState<L, S>::limits)
      go(Limit<S, decltype(lift_.rule())>{lift_.rule(), {p.gradient.column, p.core_squares.column, norms}, k, p.phi, c});
    if constexpr (std::is_same_v<L, Residual>) go(Coefficients<S>{p.core, p.phi, p.direction, r, k, S(this->lift().scale), c});
    if constexpr (takes && LiftState<L, S>::uses_projection) {
      if constexpr (!LiftState<L, S>::uses_gradient)
        if (fast()) return write_transformed(*backend_, projector_, p.projection, p.direction, S(lift_.scale()), p.panel, weight(w), c);
      if (refreshing || transforms) draw(p);
    }
    write<L, S>(*backend_, lift_, projector_.basis(p.projection), p.direction, r, p.phi, p.panel, weight(w), g, c);
  }
  /// Whether a transform stands in for products with the basis.
  bool fast() const {
    if constexpr (requires { projector_.fast(); }) return projector_.fast();
    else return false;
  }
  /// The basis, where it is only drawn for a product.
  void draw(Pieces& p) {
    if constexpr (requires { projector_.draw(*backend_, p.projection); }) projector_.draw(*backend_, p.projection);
  }

  /// Between refreshes, with one pass over the gradient and one over the weight.
  template <class T, class U>
  void run_fused(Pieces& p, const View<T>& w, const View<const U>& g) {
    Control<S>* c = control_.data();
    const Index r = rank_of(), k = shape_.k();
    projector_.prepare(*backend_, p.projection, c);
    draw(p);
    const S* basis = projector_.basis(p.projection);
    project_small(*backend_, g, basis, r, p.chunks, p.gradient, p.core, static_cast<const Control<S>*>(c));
    p.core_squares.template operator()<S, S>(*backend_, View<const S>{p.core, r, k, 1, r});
    decide(p.gradient.column, p.core_squares.column, nullptr, {.threshold = drift()});
    go(RuleAndLift<S, T, decltype(rule_.element())>{rule_.element(), p.core, basis, r, weight(w), S(lift_.scale()), c});
  }
  double drift() const {
    if constexpr (requires { this->projector().refresh_on_drift; }) return this->projector().refresh_on_drift;
    else return 0;
  }

  bool known_norm_ = false;
  Form form_ = Form::Auto;
};

template <class B, class T, class P, class R>
Optimizer(B&, const View<T>&, P, R) -> Optimizer<compute_t<T>, P, R, BackProject, B>;
template <class B, class T, class P, class R, class L>
Optimizer(B&, const View<T>&, P, R, L) -> Optimizer<compute_t<T>, P, R, L, B>;

}  // namespace cuda
}  // namespace lowrank
