// Svd: P is the r leading left singular vectors of the gradient, exactly (GaLore, arXiv 2403.03507, alg. 2). In each the
// entry of largest magnitude is positive. A gradient of rank below r is completed by unit vectors and stays due.
// The slow reference: O(d^2 k + d^3) per refresh, in double. Not reached from lowrank.hpp's recipes by default.
// State: the basis, d x r.
#pragma once

#include <lowrank/linalg/svd.hpp>
#include <lowrank/projector/dense.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class ProjectorState<Svd, S, K> : public detail::DenseProjector<Svd, S, K> {
  using Base = detail::DenseProjector<Svd, S, K>;
  using typename Base::Source;
  using typename Base::Team;

 public:
  ProjectorState() = default;
  ProjectorState(const Svd& options, Index d, Index k) : Base("lowrank::Svd", options, d, k, std::min(d, k)) {}

  struct Work {
    detail::DenseWork<S, K> dense;
    linalg::TruncatedSvd<S, K> svd;
    double* sigma = nullptr;
    Index found = 0;

    Work() = default;
    Work(Arena& arena, const ProjectorState& p, int)
        : dense(arena, p.basis_.rows(), p.rank()),
          svd(arena, p.basis_.rows(), p.k_, p.rank()),
          sigma(arena.take<double>(p.rank())) {}
  };

  bool refresh(const Source& a, S*, Work& work, const Team& team) const {
    work.found = work.svd(a, work.dense.candidate, nullptr, work.sigma, team);
    if (work.found == 0) return false;
    this->announce(a, work, this->freshness_.captured_at_refresh > 0 ? this->options_.transport : Transport::Keep, team);
    return true;
  }
  void commit(Work& work) {
    Base::commit(work);
    deficient_ = work.found < this->rank();
  }
  void observe(double captured, bool refreshed) {
    Base::observe(captured, refreshed);
    if (refreshed && deficient_) this->freshness_.pending = 1;
  }

 private:
  bool deficient_ = false;  // of the refresh in this step; what lasts is freshness_.pending
};

}  // namespace lowrank
