// Golore: the gradient's leading subspace for the first `random_after` steps, random orthonormal bases afterwards (GoLore,
// ICML 2025; reference: pkumelon/Golore, read for its equations only).
// Deviations from its code: leading directions by block iteration; the random basis is orth(Z) of a d x r Gaussian on both
// sides (there, on one side, the inverse root of a singular n x n Gram matrix); moments move to the new coordinates and stay
// there (there the rotated moment is dropped after one step).
// State: the basis, d x r, and the number of steps.
#pragma once

#include <lowrank/projector/random_orthogonal.hpp>
#include <lowrank/projector/subspace.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class ProjectorState<Golore, S, K> : public detail::BlockIteration<Golore, S, K> {
  using Base = detail::BlockIteration<Golore, S, K>;
  using typename Base::Source;
  using typename Base::Team;

 public:
  using typename Base::Work;

  ProjectorState() = default;
  ProjectorState(const Golore& options, Index d, Index k) : Base("lowrank::Golore", options, d, k) { check(); }

  void check() const {
    Base::check();
    if (this->options_.random_after < 0)
      detail::bad_argument("lowrank::Golore", "random_after = " + std::to_string(this->options_.random_after), "a number of steps >= 0");
  }

  bool random() const { return steps_ >= std::uint64_t(this->options_.random_after); }

  bool refresh(const Source& a, S* R, Work& work, const Team& team) const {
    if (!random()) return Base::refresh(a, R, work, team);
    // streams from 1 on: 0 belongs to the cold start
    detail::draw_orthogonal(work.dense.candidate, this->basis_.rows(), this->rank(), this->options_.seed, steps_ + 1, work.orth, team);
    work.dense.stale_energy = 0;
    this->announce(a, work, this->freshness_.captured_at_refresh > 0 ? this->options_.transport : Transport::Keep, team);
    return true;
  }
  void observe(double captured, bool refreshed) {
    Base::observe(captured, refreshed);
    ++steps_;
  }

  void visit(auto&& f) {
    Base::visit(f);
    f("projector_steps", steps_);
  }
  void visit(auto&& f) const {
    Base::visit(f);
    f("projector_steps", steps_);
  }

 private:
  std::uint64_t steps_ = 0;
};

}  // namespace lowrank
