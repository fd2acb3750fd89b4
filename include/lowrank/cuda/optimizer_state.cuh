// What an Optimizer on a device is between its steps: the parts it is made of, their arrays, and the numbers kept beside them.
#pragma once

#include <lowrank/cuda/canonical.cuh>
#include <lowrank/cuda/dct_projector.cuh>
#include <lowrank/cuda/gaussian.cuh>
#include <lowrank/cuda/lift.cuh>
#include <lowrank/cuda/method.cuh>
#include <lowrank/cuda/momentum_rule.cuh>
#include <lowrank/cuda/subspace.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

template <class S, class P, class R, class L, class B>
class OptimizerState {
  static_assert(std::is_same_v<S, float> || std::is_same_v<S, double>, "state is kept in float or double");

 public:
  /// Whether there is a projection at all.
  static constexpr bool projected = !std::is_same_v<P, Identity>;

 protected:
  /// A method of one part, in the projector's place.
  static constexpr bool coupled = std::is_same_v<R, Coupled>;
  /// A rule that turns all of R into N at once.
  static constexpr bool orthogonal = std::is_same_v<R, Orthogonal>;
  /// What the projection loses comes back with the next gradient.
  static constexpr bool feeds_back = std::is_same_v<L, ErrorFeedback>;
  static_assert(!feeds_back || std::is_same_v<P, Dct>, "on a device errors are fed back as cosine coefficients: use Dct{}");
  /// A rule with a kernel of its own instead of an element function.
  static constexpr bool by_kernel = requires(RuleState<R, S, B> rule, S* x, Control<S>* c) { rule.kernel(x, x, c); };
  static_assert(!orthogonal || !LiftState<L, S>::limits, "an orthogonal direction has no columns to measure: use BackProject{}");
  static_assert(projected || std::is_same_v<L, BackProject>, "Identity keeps the whole gradient: there is nothing to scale; use BackProject{}");
  struct Nothing {
    Identity options_;
    Identity& options() { return options_; }
    const Identity& options() const { return options_; }
    void check() const {}
  };
  template <bool, class = void>
  struct Chosen { using type = Nothing; };
  template <class Void>
  struct Chosen<true, Void> { using type = ProjectorState<P, S, B>; };
  using Projector = typename Chosen<projected>::type;

 public:
  using Scalar = S;

  /// Options may be read and changed between steps, except rank and side. A graph keeps those it was captured with.
  P& projector() { return projector_.options(); }
  R& rule() { return rule_.options(); }
  L& lift() { return lift_.options(); }
  const P& projector() const { return projector_.options(); }
  const R& rule() const { return rule_.options(); }
  const L& lift() const { return lift_.options(); }

  Index rows() const { return shape_.rows; }
  Index cols() const { return shape_.cols; }
  /// Whether the user's matrix is transposed into the canonical d x k that the state is laid out for.
  bool transposed() const { return shape_.transposed; }
  Index rank() const { return projected ? rank_of() : least(shape_.rows, shape_.cols); }
  /// As of the last report.
  std::uint64_t steps() const { return kept_.steps; }

  /// Bytes of everything that is kept between steps and grows with the matrix.
  std::size_t state_bytes() const {
    std::size_t bytes = 0;
    const_cast<OptimizerState*>(this)->visit([&](const char*, const auto& array) { bytes += array.bytes(); });
    return bytes + (LiftState<L, S>::limits ? sizeof(S) : 0);
  }

  /// Waits for the device; what the last step that ran there says of itself.
  Report report() {
    Control<S> now;
    backend_->download(&now, control_.data(), sizeof now);
    return report(now);
  }
  /// The same in two halves, for a fleet: the device's copy to `to`, enqueued, and what it says once it was downloaded.
  void tell(Control<S>* to) { launch(*backend_, Copy<Control<S>>{control_.data(), to, 1}); }
  Report report(const Control<S>& now) {
    kept_ = now.kept;
    return now.report;
  }
  /// Whether the next step renews the basis, as of the last report.
  bool due() const {
    if constexpr (coupled) return true;
    else if constexpr (projected) return detail::due(projector_.options(), kept_);
    else return false;
  }

  // -- the state, for whoever moves it (lowrank/exchange/device.hpp) ------------------------------------------------------------------

  B& backend() { return *backend_; }
  /// f(name, array) of every array in device memory, canonical and column-major, under the CPU library's names.
  void visit(auto&& f) {
    if constexpr (projected) projector_.visit(f);
    rule_.visit(f);
    if constexpr (feeds_back) f("error", error_);
  }
  /// The numbers of the state as they are on the device, changed there if f changes them: f(name, number).
  void visit_numbers(auto&& f) {
    Control<S> now;
    backend_->download(&now, control_.data(), sizeof now);
    auto& kept = now.kept;
    f("steps", kept.steps);
    if constexpr (!coupled) f("rule_steps", kept.rule_steps);
    if constexpr (projected) Projector::numbers(kept, f);
    if constexpr (LiftState<L, S>::limits) f("limited_norm", kept.limited_norm);
    backend_->upload(&control_.data()->kept, &kept, sizeof kept);
    kept_ = kept;
  }

 protected:
  /// Allocates the state; throws std::invalid_argument naming the option and the rule.
  template <class T>
  OptimizerState(B& backend, const View<T>& w, const P& projector, const R& rule, const L& lift) : backend_(&backend), shape_(make_shape(w, projector)) {
    static_assert(std::is_same_v<compute_t<T>, S>, "the state's scalar is the one W computes in");
    if constexpr (coupled) projector_ = Projector(projector, shape_.d(), shape_.k(), shape_.rows, shape_.cols);
    else if constexpr (projected) projector_ = Projector(projector, shape_.d(), shape_.k());
    const Index r = projected ? rank_of() : shape_.d();
    rule_ = RuleState<R, S, B>(rule, r, shape_.k(), shape_.rows, shape_.cols);
    lift_ = LiftState<L, S>(lift);
    if constexpr (feeds_back) error_ = Array<S, B>(shape_.d(), shape_.k());
    check_transport();
    visit([&](const char*, auto& array) { array.allocate(backend); });
    control_.allocate(backend);
    const Control<S> fresh;
    backend.upload(control_.data(), &fresh, sizeof fresh);
    if constexpr (projected) projector_.begin(backend);
  }

  template <class T>
  static Canonical make_shape(const View<T>& w, const P& projector) {
    if (w.rows == 0 || w.cols == 0) detail::bad_argument("lowrank::cuda::Optimizer", detail::shape_text(w.rows, w.cols), "a matrix that is not empty");
    if constexpr (requires { projector.side; }) return detail::canonical(w.rows, w.cols, projector.side);
    else if constexpr (RuleState<R, S, B>::follows_memory) return detail::contiguous(w);
    else return {w.rows, w.cols, false};
  }
  Index rank_of() const {
    if constexpr (projected) return projector_.rank();
    else return shape_.d();
  }
  /// Whether the moments can move with the basis.
  static constexpr bool moves = requires(RuleState<R, S, B> rule) { rule.first(); };
  void check_transport() const {
    if constexpr (projected && !moves && !coupled)
      if (projector().transport != Transport::Keep)
        detail::bad_argument("lowrank::cuda::Optimizer", "moments in few bits that move with the basis", "Transport::Keep, or fp32 moments");
  }

  B* backend_;
  Canonical shape_;
  Projector projector_;
  RuleState<R, S, B> rule_;
  LiftState<L, S> lift_;
  Array<Control<S>, B> control_{1, 1};
  Array<S, B> error_;               // d x k, where it is fed back
  typename Control<S>::Kept kept_;  // as of the last report
};

}  // namespace cuda
}  // namespace lowrank
