// Penalty: a function of the Jacobian J(x) = df/dx, added to a training loss.
//
//   Penalty penalty(Projection{.law = Law::Orthonormal, .n = 2}, FrobeniusNorm{});
//   net.forward(X, cache, Y);                                       // once, for the loss and the penalty
//   const double R = penalty.add_gradient(net, cache, X, grads, {.weight = 1e-3, .draw = {seed, step}, .loss = dY});
//
// leaves grads + grad_theta (loss + weight R), both from one backward sweep where the model can (Mlp does).
//
// Cost with one projection: a training step of S = sum_l n_l n_{l-1} multiply-adds per sample and product is 3S - c_1;
// the penalty adds vjp, jvp and outer products, 3S: twice to 2.3 times the plain step, 1 + C times for Law::Exact.
// A term that is not separable (FrobeniusNorm) with n > 1 needs all products before the first seed: n - 1 more vjps, so
// that the model's cache stays as large as for one.
//
// A Penalty owns its workspace, which grows at the first call and with a larger batch only. It is a regular value; one
// per thread.
#pragma once

#include <lowrank/core/buffer.hpp>
#include <lowrank/jacobian/route.hpp>
#include <lowrank/jacobian/projection.hpp>
#include <lowrank/jacobian/terms.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace jacobian {

/// One call of add_gradient. Views that are not set: none.
template <class S>
struct PenaltyStep {
  double weight = 1;               // of the penalty in the total loss
  Draw draw = {};                  // random projections...
  View<const S> projections = {};  // ...or these: C x (n B), block i of B columns being projection i of all samples
  View<const S> loss = {};         // C x B, dl/dY: grad_theta l is added as well
  View<S> input_gradient = {};     // d x B: weight dR/dX (+ J^T dl/dY) is added to it
};

template <class Term, class Route = Analytic, class K = kernel::Best>
class Penalty {
 public:
  Penalty(Projection projection, Term term, Route route = {}, K = {})
      : projection_(projection), term_(std::move(term)), route_(route) {}

  /// Options may be changed between steps.
  Projection& projection() { return projection_; }
  Term& term() { return term_; }

  /// R, unweighted. After forward on this cache, with the X of that forward.
  template <VjpModel M, class X>
  double value(const M& model, typename M::Cache& cache, const X& x, Draw draw) {
    PenaltyStep<typename M::Scalar> step{.draw = draw};
    return run<Ask::Value>(model, cache, batch(std::as_const(x)), static_cast<NoGrads*>(nullptr), step);
  }
  /// The same for explicit projections.
  template <VjpModel M, class X, class V>
  double value_of(const M& model, typename M::Cache& cache, const X& x, const V& projections) {
    PenaltyStep<typename M::Scalar> step{.projections = view(projections)};
    return run<Ask::Value>(model, cache, batch(std::as_const(x)), static_cast<NoGrads*>(nullptr), step);
  }

  /// grads += weight dR/dtheta (+ dl/dtheta); returns R. After forward on this cache, with the X of that forward.
  /// Throws std::invalid_argument (shapes, options) before anything is written.
  template <VjpModel M, class X, class Grads>
  double add_gradient(const M& model, typename M::Cache& cache, const X& x, Grads& grads,
                      const PenaltyStep<typename M::Scalar>& step) {
    constexpr bool analytic = std::is_same_v<Route, Analytic>;
    static_assert(
        !analytic || MixedModel<M>,
        "the penalty's gradient needs a second derivative: add mixed_vjp(cache, V, G, grads, dX) to the model, or "
        "pass FiniteDifference{.h = ...} to the Penalty (wrong where a step crosses a kink of ReLU)");
    static_assert(analytic || ParamModel<M>, "FiniteDifference needs param_vjp(cache, V, grads) in the model");
    if constexpr (analytic ? MixedModel<M> : ParamModel<M>)
      return run<Ask::Gradient>(model, cache, batch(std::as_const(x)), &grads, step);
    return 0;
  }

 private:
  enum class Ask { Value, Gradient };
  static constexpr const char* who = "lowrank::jacobian::Penalty";

  template <Ask ask, class M, class S, class Grads>
  double run(const M& model, typename M::Cache& cache, ConstBatch<S> X, Grads* grads, const PenaltyStep<S>& step) {
    const Index d = model.input_dim(), C = model.output_dim(), B = X.cols();
    if (B == 0) lowrank::detail::bad_argument(who, "an empty batch", "a sample or more");
    detail::check_batch(who, X.rows(), B, d, B);
    const bool given = step.projections.data != nullptr;
    if (given && (step.projections.rows != C || step.projections.cols == 0 || step.projections.cols % B != 0))
      lowrank::detail::bad_argument(
          who, "projections " + lowrank::detail::shape_text(step.projections.rows, step.projections.cols),
          std::to_string(C) + " rows and a multiple of " + std::to_string(B) + " columns");
    if (step.loss.data != nullptr) detail::check_batch(who, step.loss.rows, step.loss.cols, C, B);
    if (step.input_gradient.data != nullptr)
      detail::check_batch(who, step.input_gradient.rows, step.input_gradient.cols, d, B);
    const Index n = given ? step.projections.cols / B : detail::projections(who, projection_, C);
    const double factor = given ? double(C) / double(n) : detail::projection_factor(projection_, n, C);
    const ConstBatch<S> loss =
        step.loss.data != nullptr ? ConstBatch<S>(batch(step.loss)) : ConstBatch<S>(no_batch<S>());
    const Batch<S> dX = step.input_gradient.data != nullptr ? batch(step.input_gradient) : no_batch<S>();

    constexpr bool one_by_one = Term::separable && !std::is_same_v<Route, FiniteDifference>;
    const Index kept = one_by_one ? 1 : n;
    Arena count;
    (void)Pieces<S>(count, d, C, B, n, kept);
    if (workspace_.bytes() < count.used()) workspace_ = Buffer<std::byte>(Index(count.used()), 1);
    Arena arena(workspace_);
    const Pieces<S> piece(arena, d, C, B, n, kept);
    if (given) {
      const ConstBatch<S> from = batch(step.projections);
      for (Index j = 0; j < n * B; ++j) std::copy_n(from.data() + j * from.outerStride(), C, piece.V + j * C);
    } else {
      detail::draw<K>(projection_, n, C, B, step.draw, piece.V);
    }
    const auto v = [&](Index i) { return ConstBatch<S>(batch(piece.V + i * B * C, C, B)); };
    const auto q = [&](Index i) { return batch(piece.Q + i * B * d, d, B); };

    double value = 0;
    if constexpr (one_by_one) {
      for (Index i = 0; i < n; ++i) {
        model.vjp(cache, v(i), q(0));
        value +=
            term_.template seeds<K>(Products<S>{X, piece.V + i * B * C, piece.Q, d, C, B, 1, factor}, step.weight, dX);
        if constexpr (ask == Ask::Gradient) detail::add_mixed(model, cache, v(i), ConstBatch<S>(q(0)), *grads, dX);
      }
    } else {
      for (Index i = 0; i < n; ++i) model.vjp(cache, v(i), q(i));
      value = term_.template seeds<K>(Products<S>{X, piece.V, piece.Q, d, C, B, n, factor}, step.weight, dX);
      if constexpr (ask == Ask::Gradient && std::is_same_v<Route, Analytic>) {
        // the last vjp is still in the cache; the others are repeated
        for (Index i = n - 1; i >= 0; --i) {
          if (i < n - 1) model.vjp(cache, v(i), batch(piece.unused, d, B));
          detail::add_mixed(model, cache, v(i), ConstBatch<S>(q(i)), *grads, dX);
        }
      }
    }
    if constexpr (ask == Ask::Gradient) {
      if constexpr (std::is_same_v<Route, FiniteDifference>) {
        detail::finish<K>(model, cache, loss, *grads, dX, piece.unused);
        for (Index i = 0; i < n; ++i)
          detail::central_difference<K>(route_, model, cache, X, v(i), ConstBatch<S>(q(i)), *grads, dX,
                                        piece.difference());
        model.forward(X, cache, batch(piece.outputs, C, B));
      } else {
        detail::finish<K>(model, cache, loss, *grads, dX, piece.unused);
      }
    }
    return value;
  }

  template <class S>
  struct Pieces {
    S *V, *Q, *unused, *outputs, *shifted, *cotangent;
    Pieces(Arena& arena, Index d, Index C, Index B, Index n, Index kept)
        : V(arena.take<S>(C * n * B)),
          Q(arena.take<S>(d * kept * B)),
          unused(arena.take<S>(d * B)),
          outputs(arena.take<S>(C * B)),
          shifted(arena.take<S>(d * B)),
          cotangent(arena.take<S>(C * B)) {}
    detail::DifferenceRoom<S> difference() const { return {shifted, cotangent, outputs, unused}; }
  };

  Projection projection_;
  Term term_;
  Route route_;
  Buffer<std::byte> workspace_;
};

template <class Term>
Penalty(Projection, Term) -> Penalty<Term>;
template <class Term, class Route>
Penalty(Projection, Term, Route) -> Penalty<Term, Route>;
template <class Term, class Route, class K>
Penalty(Projection, Term, Route, K) -> Penalty<Term, Route, K>;

}  // namespace jacobian
}  // namespace lowrank
