// ChannelScale: APOLLO (arXiv 2412.05270). The weight moves along the whole gradient; the projected rule only says how
// far, per column (Channel) or once (Tensor, APOLLO-Mini):
//   phi_j = ||N_j|| / (||R_j|| + 1e-8),   S = A diag(phi),   limited to grow by gamma a step,   U = sqrt(scale) S.
// ||S||^2 = sum_j phi_j^2 ||a_j||^2, so the gradient is read twice and never copied, and there is no back-projection.
// One factor per column of the canonical gradient (the side that is not projected); the published code picks the axis
// from the gradient's shape, which is the same wherever it runs. Its `scale` is the paper's alpha squared.
// State: one number, the limited norm.
#pragma once

#include <lowrank/lift/lift.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class LiftState<ChannelScale, S, K> {
 public:
  static constexpr bool uses_projection = false, uses_gradient = true, needs_core = false, keeps_error = false;

  LiftState() = default;
  LiftState(const ChannelScale& options, Index, Index) : options_(options) { check(); }

  ChannelScale& options() { return options_; }
  const ChannelScale& options() const { return options_; }
  void check() const {
    detail::check_scale("lowrank::ChannelScale", options_.scale);
    detail::check_limiter("lowrank::ChannelScale", options_.limiter);
  }

  detail::TileSums measure(Index w, Index r, const S* R, const S* N, const double* energy, S* phi) const {
    detail::TileSums sums;
    for (Index j = 0; j < w; ++j) {
      const double core = K::sum_squares(r, R + j * r), direction = K::sum_squares(r, N + j * r);
      const double factor = std::sqrt(direction) / (std::sqrt(core) + 1e-8);
      phi[j] = S(factor);
      sums.squared_norm += factor * factor * energy[j];
      sums.direction += direction;
      sums.core += core;
      sums.gradient += energy[j];
    }
    return sums;
  }

  void limit(const detail::TileSums& sums, double, Index k, S* phi) {
    const bool tensor = options_.granularity == Granularity::Tensor;
    const double factor = std::sqrt(sums.direction) / (std::sqrt(sums.core) + 1e-8), alpha = std::sqrt(options_.scale);
    const double norm = tensor ? factor * std::sqrt(sums.gradient) : std::sqrt(sums.squared_norm);
    const bool front = options_.scale_order == ScaleOrder::BeforeLimiter;
    const double c = growth_(options_.limiter, front ? alpha * norm : norm);
    for (Index j = 0; j < k; ++j) phi[j] = S((tensor ? factor : double(phi[j])) * (alpha / c));
  }

  void visit(auto&& f) { detail::GrowthLimit<S>::visit(growth_, f); }
  void visit(auto&& f) const { detail::GrowthLimit<S>::visit(growth_, f); }

 private:
  ChannelScale options_;
  detail::GrowthLimit<S> growth_;
};

}  // namespace lowrank
