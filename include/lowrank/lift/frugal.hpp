// Frugal: FRUGAL (arXiv 2411.07837, alg. 1). The rule moves the weight inside the subspace, a rule without state outside,
//   U = P N + (scale / gain) f(A - P R),   f = sign or the identity
// so that W <- W - lr (gain P N + scale f(A - P R)). No state, no copy of the gradient: a second product with P per step.
// Reference: fzmushko/FRUGAL. The moments are reset at a refresh by the projector's Transport::Reset.
#pragma once

#include <lowrank/lift/lift.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class LiftState<Frugal, S, K> {
 public:
  static constexpr bool uses_projection = true, uses_gradient = false, needs_core = false, keeps_error = false;
  static constexpr bool uses_remainder = true;

  LiftState() = default;
  LiftState(const Frugal& options, Index, Index) : options_(options) { check(); }

  Frugal& options() { return options_; }
  const Frugal& options() const { return options_; }
  void check() const { detail::check_scale("lowrank::Frugal", options_.scale); }

  void coefficients(Index, Index, const S*, S*, const S*) const {}

  /// out <- (scale / gain) f(A - P R) for n elements.
  void remain(Index n, const S* A, const S* PR, S* out, double gain) const {
    const double factor = gain > 0 ? options_.scale / gain : 0;
    if (options_.remainder == Remainder::Sgd) return K::combine(n, factor, A, -factor, PR, out);
    const S step = S(factor);
    for (Index i = 0; i < n; ++i) out[i] = A[i] > PR[i] ? step : A[i] < PR[i] ? -step : S(0);
  }
  void visit(auto&&) const {}

 private:
  Frugal options_;
};

}  // namespace lowrank
