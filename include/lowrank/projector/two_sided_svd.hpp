// TwoSidedSvd: both factors of the gradient's SVD, A ~ P S Q^T, R = P^T A Q (r x r), U = P N Q^T. GaLore's proj_type
// "full" (reference: galore_torch). The left product runs per tile like every other projector's; fold() finishes it and
// unfold() gives a tile of N Q^T. Moments stay as they are at a refresh (published).
// State: P (d x r) and Q (k x r).
#pragma once

#include <lowrank/linalg/svd.hpp>
#include <lowrank/projector/dense.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class ProjectorState<TwoSidedSvd, S, K> : public detail::DenseProjector<TwoSidedSvd, S, K> {
  using Base = detail::DenseProjector<TwoSidedSvd, S, K>;
  using typename Base::Source;
  using typename Base::Team;

 public:
  static constexpr bool two_sided = true;

  ProjectorState() = default;
  ProjectorState(const TwoSidedSvd& options, Index d, Index k)
      : Base("lowrank::TwoSidedSvd", options, d, k, std::min(d, k)), right_(Buffer<S>::shaped(k, this->rank())) {}

  void begin() {
    Base::begin();
    for (Index i = 0; i < right_.cols(); ++i) right_(i, i) = S(1);
  }

  Side side() const { return Side::Left; }
  Index core_cols() const { return this->rank(); }

  struct Work {
    detail::DenseWork<S, K> dense;
    linalg::TruncatedSvd<S, K> svd;
    double* sigma = nullptr;
    S* right = nullptr;  // k x r candidate
    S* core = nullptr;   // r x r
    const S* in_use = nullptr;
    Index found = 0;

    Work() = default;
    Work(Arena& arena, const ProjectorState& p, int)
        : dense(arena, p.basis_.rows(), p.rank()),
          svd(arena, p.basis_.rows(), p.k_, p.rank()),
          sigma(arena.take<double>(p.rank())),
          right(arena.take<S>(p.k_ * p.rank())),
          core(arena.take<S>(p.rank() * p.rank())) {}
  };

  bool refresh(const Source& a, S*, Work& work, const Team& team) const {
    work.found = work.svd(a, work.dense.candidate, work.right, work.sigma, team);
    work.in_use = work.right;
    if (work.found == 0) return false;
    this->announce(a, work, Transport::Keep, team);
    return true;
  }
  void prepare(const Source& a, Work& work, const Team& team) const {
    Base::prepare(a, work, team);
    work.in_use = right_.data();
  }
  void commit(Work& work) {
    Base::commit(work);
    std::memcpy(right_.data(), work.right, right_.bytes());
    deficient_ = work.found < this->rank();
  }
  void observe(double captured, bool refreshed) {
    Base::observe(captured, refreshed);
    if (refreshed && deficient_) this->freshness_.pending = 1;
  }

  /// The core R = T Q (r x r) from T = P^T A (r x k).
  S* fold(const S* T, Work& work, const Team& team) const {
    const Index r = this->rank();
    linalg::gemm<K>(r, r, this->k_, linalg::columns<K, S>(T, r), linalg::columns<K, S>(work.in_use, this->k_), work.core,
                    r, team);
    return work.core;
  }
  /// Columns [j0, j0+w) of N Q^T, each a chain over the rank.
  void unfold(const S* N, Index j0, Index w, S* out) const {
    const Index r = this->rank();
    for (Index j = 0; j < w; ++j) {
      std::fill_n(out + j * r, r, S(0));
      for (Index q = 0; q < r; ++q) K::combine(r, double(right_(j0 + j, q)), N + q * r, 1.0, out + j * r, out + j * r);
    }
  }

  void visit(auto&& f) {
    Base::visit(f);
    f("basis_right", right_);
  }
  void visit(auto&& f) const {
    Base::visit(f);
    f("basis_right", right_);
  }

 private:
  Buffer<S> right_;
  bool deficient_ = false;
};

}  // namespace lowrank
