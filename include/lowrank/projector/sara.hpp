// Sara: r of the gradient's left singular vectors, sampled without replacement with probabilities proportional to the
// singular values and kept in their order (SARA, NeurIPS 2025; "importance sampling" in pkumelon/Golore, read for its
// equations only). Leading directions are likely, none is certain, so the subspace does not freeze.
// Needs the whole SVD: as slow as Svd. Not reached from recipes by default.
// State: the basis, d x r, and the number of refreshes.
#pragma once

#include <lowrank/linalg/sample.hpp>
#include <lowrank/linalg/svd.hpp>
#include <lowrank/projector/dense.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class ProjectorState<Sara, S, K> : public detail::DenseProjector<Sara, S, K> {
  using Base = detail::DenseProjector<Sara, S, K>;
  using typename Base::Source;
  using typename Base::Team;

 public:
  ProjectorState() = default;
  ProjectorState(const Sara& options, Index d, Index k) : Base("lowrank::Sara", options, d, k, std::min(d, k)) {}

  struct Work {
    detail::DenseWork<S, K> dense;
    linalg::TruncatedSvd<S, K> svd;
    S* all = nullptr;          // d x n, n = min(d, k) singular vectors
    double* sigma = nullptr;   // n
    std::int32_t *order = nullptr, *chosen = nullptr;
    Index found = 0;

    Work() = default;
    Work(Arena& arena, const ProjectorState& p, int)
        : dense(arena, p.basis_.rows(), p.rank()),
          svd(arena, p.basis_.rows(), p.k_, p.all()),
          all(arena.take<S>(p.basis_.rows() * p.all())),
          sigma(arena.take<double>(p.all())),
          order(arena.take<std::int32_t>(p.all())),
          chosen(arena.take<std::int32_t>(p.rank())) {}
  };

  bool refresh(const Source& a, S*, Work& work, const Team& team) const {
    work.found = work.svd(a, work.all, nullptr, work.sigma, team);
    if (work.found == 0) return false;
    const Index d = this->basis_.rows();
    linalg::sample(work.sigma, all(), this->rank(), this->options_.seed, refreshes_, work.order, work.chosen);
    for (Index j = 0; j < this->rank(); ++j)
      std::memcpy(work.dense.candidate + j * d, work.all + work.chosen[j] * d, std::size_t(d) * sizeof(S));
    this->announce(a, work, this->freshness_.captured_at_refresh > 0 ? this->options_.transport : Transport::Keep, team);
    return true;
  }
  void commit(Work& work) {
    Base::commit(work);
    ++refreshes_;
    deficient_ = work.found < this->rank();
  }
  void observe(double captured, bool refreshed) {
    Base::observe(captured, refreshed);
    if (refreshed && deficient_) this->freshness_.pending = 1;
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
  Index all() const { return std::min(this->basis_.rows(), this->k_); }

  std::uint64_t refreshes_ = 0;
  bool deficient_ = false;  // of the refresh in this step; what lasts is freshness_.pending
};

}  // namespace lowrank
