// Identity: the gradient as it is, R = A, so every rule is also its own full-rank optimizer through the same step. There
// is no basis, no R and no workspace: the optimizer hands tiles of the gradient to the rule and tiles of the direction to
// the weight.
#pragma once

#include <lowrank/projector/projector.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class ProjectorState<Identity, S, K> {
 public:
  static constexpr bool whole_gradient = true;

  ProjectorState() = default;
  ProjectorState(const Identity&, Index d, Index k) : d_(d), k_(k) {}

  struct Work {
    Work() = default;
    Work(Arena&, const ProjectorState&, int) {}
  };

  Identity& options() { return options_; }
  const Identity& options() const { return options_; }
  Index rank() const { return d_; }
  Index core_rows() const { return d_; }
  Index core_cols() const { return k_; }
  Side side() const { return Side::Left; }
  void visit(auto&&) const {}

 private:
  Identity options_;
  Index d_ = 0, k_ = 0;
};

}  // namespace lowrank
