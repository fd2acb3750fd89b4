// SpectralPenalty: R = mean_b |J_b|_2, the largest singular value, by power iteration on J^T J:
//
//   w <- J^T J w / |J^T J w| (k times),  sigma = |J w|,  v = J w / sigma,  dR/dtheta = mean_b grad_theta <v_b, J_b
//   w_b>,
//
// w and v held fixed (envelope theorem: exact at convergence; sigma is never above |J|_2). Cost: 2kS + 3S a step.
// Yoshida, Miyato: Spectral norm regularization, arXiv 1705.10941, for weights; here for Jacobians.
#pragma once

#include <lowrank/jacobian/penalty.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace jacobian {

struct SpectralNorm {
  std::int64_t iterations = 3;
};

template <class K = kernel::Best>
class SpectralPenalty {
 public:
  explicit SpectralPenalty(SpectralNorm options, K = {}) : options_(options) {
    if (options.iterations < 1)
      lowrank::detail::bad_argument(who, std::to_string(options.iterations) + " iterations", "one or more");
  }

  /// R, unweighted. After forward of `samples` samples on this cache. w starts from a random draw, or from
  /// step.projections (d x B).
  template <JvpModel M>
  double value(const M& model, typename M::Cache& cache, Index samples, const PenaltyStep<typename M::Scalar>& step) {
    return iterate(model, cache, samples, step);
  }

  /// grads += weight dR/dtheta (+ dl/dtheta); returns R. w: as for value(). A sample with J w = 0 has no gradient.
  template <JvpModel M, class Grads>
  double add_gradient(const M& model, typename M::Cache& cache, Index samples, Grads& grads,
                      const PenaltyStep<typename M::Scalar>& step) {
    static_assert(
        MixedModel<M>,
        "the penalty's gradient needs a second derivative: add mixed_vjp(cache, V, G, grads, dX) to the model");
    using S = typename M::Scalar;
    const Index d = model.input_dim(), C = model.output_dim(), B = samples;
    if (step.loss.data != nullptr) detail::check_batch(who, step.loss.rows, step.loss.cols, C, B);
    if (step.input_gradient.data != nullptr)
      detail::check_batch(who, step.input_gradient.rows, step.input_gradient.cols, d, B);
    const Batch<S> dX = step.input_gradient.data != nullptr ? batch(step.input_gradient) : no_batch<S>();
    const ConstBatch<S> loss =
        step.loss.data != nullptr ? ConstBatch<S>(batch(step.loss)) : ConstBatch<S>(no_batch<S>());

    const double value = iterate(model, cache, samples, step);
    Arena arena(workspace_);
    const Pieces<S> piece(arena, d, C, B);
    const Batch<S> w = batch(piece.w, d, B), v = batch(piece.v, C, B);
    model.vjp(cache, ConstBatch<S>(v), batch(piece.q, d, B));
    K::combine(d * B, step.weight / double(B), piece.w, 0.0, piece.w, piece.w);
    detail::add_mixed(model, cache, ConstBatch<S>(v), ConstBatch<S>(w), grads, dX);
    detail::finish<K>(model, cache, loss, grads, dX, piece.q);
    return value;
  }

  /// The right singular vectors w (d x B) the last value() stopped at.
  template <class S>
  ConstBatch<S> directions(Index inputs, Index samples) const {
    return batch(reinterpret_cast<const S*>(workspace_.data()), inputs, samples);
  }

 private:
  static constexpr const char* who = "lowrank::jacobian::SpectralPenalty";

  template <class S>
  struct Pieces {
    S *w, *q, *v;
    Pieces(Arena& arena, Index d, Index C, Index B)
        : w(arena.take<S>(d * B)), q(arena.take<S>(d * B)), v(arena.take<S>(C * B)) {}
  };

  /// Leaves w and v = J w / sigma in the workspace.
  template <class M>
  double iterate(const M& model, typename M::Cache& cache, Index B, const PenaltyStep<typename M::Scalar>& step) {
    using S = typename M::Scalar;
    const Index d = model.input_dim(), C = model.output_dim();
    if (B < 1) lowrank::detail::bad_argument(who, "an empty batch", "a sample or more");
    Arena count;
    (void)Pieces<S>(count, d, C, B);
    if (workspace_.bytes() < count.used()) workspace_ = Buffer<std::byte>(Index(count.used()), 1);
    Arena arena(workspace_);
    const Pieces<S> piece(arena, d, C, B);
    const Batch<S> w = batch(piece.w, d, B), q = batch(piece.q, d, B), v = batch(piece.v, C, B);
    if (step.projections.data != nullptr) {
      detail::check_batch(who, step.projections.rows, step.projections.cols, d, B);
      const ConstBatch<S> from = batch(step.projections);
      for (Index b = 0; b < B; ++b) std::copy_n(from.data() + b * from.outerStride(), d, piece.w + b * d);
    } else {
      fill_normal(piece.w, d * B, step.draw.seed, step.draw.step, 0);
    }
    const auto unit = [](Index n, S* x) {
      const double norm = std::sqrt(K::sum_squares(n, x));
      K::combine(n, norm > 0 ? 1 / norm : 0, x, 0.0, x, x);
      return norm;
    };
    for (Index b = 0; b < B; ++b) unit(d, piece.w + b * d);
    double sum = 0;
    for (std::int64_t k = 0; k <= options_.iterations; ++k) {
      model.jvp(cache, ConstBatch<S>(w), v);
      sum = 0;
      for (Index b = 0; b < B; ++b) sum += unit(C, piece.v + b * C);
      if (k == options_.iterations) break;
      model.vjp(cache, ConstBatch<S>(v), q);
      for (Index b = 0; b < B; ++b)
        if (unit(d, piece.q + b * d) > 0) std::copy_n(piece.q + b * d, d, piece.w + b * d);
    }
    return sum / double(B);
  }

  SpectralNorm options_;
  Buffer<std::byte> workspace_;
};

}  // namespace jacobian
}  // namespace lowrank
