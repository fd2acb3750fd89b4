// RandomOrthogonal: P = orth(Z), Z with independent N(0, 1) entries, so every r-dimensional subspace is as likely as any
// other. Entry (i, j) of Z at the c-th refresh is element i + j d of stream c under `seed`.
// State: the basis, d x r, and the number of refreshes. Cost of a refresh: 4 d r^2 flops, the gradient is not looked at.
#pragma once

#include <lowrank/core/rng.hpp>
#include <lowrank/linalg/orth.hpp>
#include <lowrank/projector/dense.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

/// P <- orth(Z) of one stream.
template <class S, class K>
void draw_orthogonal(S* P, Index d, Index r, std::uint64_t seed, std::uint64_t stream, const linalg::Orth<S, K>& orth,
                     const linalg::Team<S, K>& team) {
  fill_normal(P, d * r, seed, stream, 0);
  orth(P, team);
}

}  // namespace detail

template <class S, class K>
class ProjectorState<RandomOrthogonal, S, K> : public detail::DenseProjector<RandomOrthogonal, S, K> {
  using Base = detail::DenseProjector<RandomOrthogonal, S, K>;
  using typename Base::Source;
  using typename Base::Team;

 public:
  ProjectorState() = default;
  ProjectorState(const RandomOrthogonal& options, Index d, Index k) : Base("lowrank::RandomOrthogonal", options, d, k, d) {}

  struct Work {
    detail::DenseWork<S, K> dense;
    linalg::Orth<S, K> orth;

    Work() = default;
    Work(Arena& arena, const ProjectorState& p, int)
        : dense(arena, p.basis_.rows(), p.rank()), orth(arena, p.basis_.rows(), p.rank()) {}
  };

  bool refresh(const Source& a, S*, Work& work, const Team& team) const {
    detail::draw_orthogonal(work.dense.candidate, this->basis_.rows(), this->rank(), this->options_.seed, refreshes_, work.orth, team);
    this->announce(a, work, refreshes_ > 0 ? this->options_.transport : Transport::Keep, team);
    return true;
  }
  void commit(Work& work) {
    Base::commit(work);
    ++refreshes_;
  }

  void visit(auto&& f) {
    Base::visit(f);
    f("refreshes", refreshes_);
  }
  void visit(auto&& f) const {
    Base::visit(f);
    f("refreshes", refreshes_);
  }

 private:
  std::uint64_t refreshes_ = 0;
};

}  // namespace lowrank
