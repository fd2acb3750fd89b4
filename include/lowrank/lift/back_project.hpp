// BackProject: U = scale P N (GaLore, arXiv 2403.03507, eq. 9). No state.
#pragma once

#include <lowrank/lift/lift.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class LiftState<BackProject, S, K> {
 public:
  static constexpr bool uses_projection = true, uses_gradient = false, needs_core = false, keeps_error = false;

  LiftState() = default;
  LiftState(const BackProject& options, Index, Index) : options_(options) { check(); }

  BackProject& options() { return options_; }
  const BackProject& options() const { return options_; }
  void check() const { detail::check_scale("lowrank::BackProject", options_.scale); }

  void coefficients(Index r, Index w, const S*, S* N, const S*) const {
    if (options_.scale != 1) K::combine(r * w, options_.scale, N, 0.0, N, N);
  }
  void visit(auto&&) const {}

 private:
  BackProject options_;
};

}  // namespace lowrank
