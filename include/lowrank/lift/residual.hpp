// Residual: Fira (arXiv 2410.01623). What the projection loses comes back scaled per column by how much the rule scaled
// the part that was kept,
//   phi_j = ||N_j|| / (||R_j|| + 1e-8),   S = (A - kappa P R) diag(phi),   limited to grow by gamma a step,
//   Code   U = alpha P N + S,         kappa = alpha, limiter on raw norms        (reference: Fira/optimizer)
//   Paper  U = alpha (P N + S),       kappa = 1, limiter on bias-corrected norms (eq. 6-9)
// in two products instead of three and without an m x n temporary (P orthonormal):
//   ||S||^2 = sum_j phi_j^2 (||a_j||^2 - kappa (2 - kappa) ||r_j||^2),
//   U = P (alpha N - (alpha / c) R diag(phi)) + A diag(psi / c),   psi = phi (Code), alpha phi (Paper).
// One factor per column of the canonical gradient. The published code picks the axis from R's shape; where that differs
// (r >= k) it multiplies mismatched shapes and stops, so there is nothing to reproduce.
// State: one number, the limited norm.
#pragma once

#include <lowrank/lift/lift.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class LiftState<Residual, S, K> {
 public:
  static constexpr bool uses_projection = true, uses_gradient = true, needs_core = true, keeps_error = false;

  LiftState() = default;
  LiftState(const Residual& options, Index, Index) : options_(options) { check(); }

  Residual& options() { return options_; }
  const Residual& options() const { return options_; }
  void check() const {
    detail::check_scale("lowrank::Residual", options_.scale);
    detail::check_limiter("lowrank::Residual", options_.limiter);
  }

  detail::TileSums measure(Index w, Index r, const S* R, const S* N, const double* energy, S* phi) const {
    const double kappa = options_.form == FiraForm::Code ? options_.scale : 1.0;
    detail::TileSums sums;
    for (Index j = 0; j < w; ++j) {
      const double core = K::sum_squares(r, R + j * r), direction = K::sum_squares(r, N + j * r);
      const double factor = std::sqrt(direction) / (std::sqrt(core) + 1e-8);
      phi[j] = S(factor);
      sums.squared_norm += factor * factor * std::max(0.0, energy[j] - kappa * (2 - kappa) * core);
    }
    return sums;
  }
  void limit(const detail::TileSums& sums, double gain, Index, S*) {
    const bool code = options_.form == FiraForm::Code;
    const double c = growth_(options_.limiter, std::sqrt(sums.squared_norm) * (code ? 1.0 : gain));
    kept_ = -options_.scale / c;
    back_ = (code ? 1.0 : options_.scale) / c;
  }

  /// N <- alpha N - (alpha / c) R diag(phi), then phi <- psi / c.
  void coefficients(Index r, Index w, const S* R, S* N, S* phi) const {
    for (Index j = 0; j < w; ++j) {
      K::combine(r, options_.scale, N + j * r, kept_ * double(phi[j]), R + j * r, N + j * r);
      phi[j] = S(back_ * double(phi[j]));
    }
  }

  void visit(auto&& f) { detail::GrowthLimit<S>::visit(growth_, f); }
  void visit(auto&& f) const { detail::GrowthLimit<S>::visit(growth_, f); }

 private:
  Residual options_;
  detail::GrowthLimit<S> growth_;
  double kept_ = 0, back_ = 0;  // of the step in progress
};

}  // namespace lowrank
