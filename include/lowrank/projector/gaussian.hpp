// Gaussian: P has independent N(0, 1/r) entries and is not orthogonalised (APOLLO, arXiv 2412.05270, alg. 1). Entry
// (i, j) after the c-th refresh is element i + j d of stream c of the counter generator under `seed`, so P is drawn again
// every step and never kept. State: the number of refreshes.
#pragma once

#include <cmath>  // std::sqrt

#include <lowrank/core/rng.hpp>
#include <lowrank/projector/dense.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class ProjectorState<Gaussian, S, K> {
 public:
  using Source = linalg::Source<S, K>;
  using Team = linalg::Team<S, K>;

  static constexpr bool whole_gradient = false, orthonormal = false;

  ProjectorState() = default;
  ProjectorState(const Gaussian& options, Index d, Index k)
      : options_(options), d_(d), k_(k), r_(detail::checked_rank("lowrank::Gaussian", options, std::min(d, k))) {}

  struct Work {
    detail::DenseWork<S, K> dense;
    S* basis = nullptr;  // d x r: the one the candidate replaces

    Work() = default;
    Work(Arena& arena, const ProjectorState& p, int) : dense(arena, p.d_, p.r_), basis(arena.take<S>(p.d_ * p.r_)) {}
  };

  Gaussian& options() { return options_; }
  const Gaussian& options() const { return options_; }
  void check() const { detail::check_changed("lowrank::Gaussian", options_, std::min(d_, k_), r_); }
  Index rank() const { return r_; }
  Index core_rows() const { return r_; }
  Index core_cols() const { return k_; }
  Side side() const { return options_.side; }
  bool due(std::uint64_t steps) const { return freshness_.due(options_, steps); }
  double captured_at_refresh() const { return freshness_.captured_at_refresh; }

  bool refresh(const Source& a, S*, Work& work, const Team& team) const {
    using Change = linalg::BasisChange<S>;
    draw(refreshes_ + 1, work.dense.candidate, team);
    work.dense.change = Change{};
    if (options_.transport == Transport::Reset && refreshes_ > 0) work.dense.change.kind = Change::Kind::Reset;
    if (options_.transport == Transport::Rotate && refreshes_ > 0) {
      draw(refreshes_, work.basis, team);
      linalg::gemm<K>(r_, r_, d_, linalg::transposed<K, S>(work.dense.candidate, d_), linalg::columns<K, S>(work.basis, d_),
                      work.dense.rotation, r_, team);
      work.dense.change = {Change::Kind::Rotate, nullptr, work.dense.rotation};
    }
    work.dense.packed.pack_down(linalg::transposed<K, S>(work.dense.candidate, d_), team, a.outside());
    return true;
  }
  void prepare(const Source& a, Work& work, const Team& team) const {
    draw(refreshes_, work.dense.candidate, team);
    work.dense.packed.pack_down(linalg::transposed<K, S>(work.dense.candidate, d_), team, a.outside());
  }
  void prepare_lift(Work& work, const Team& team) const {
    work.dense.packed.pack_up(linalg::columns<K, S>(work.dense.candidate, d_), team);
  }
  void prepare_update(linalg::Order order, Work& work, const Team& team) const {
    if (order == linalg::Order::Columns) return prepare_lift(work, team);
    work.dense.packed.pack_rows(linalg::transposed<K, S>(work.dense.candidate, d_), team);
  }
  void project(const Source& a, Index j0, Index w, S* R, double* energy, int slot, const Work& work,
               const Team& team) const {
    work.dense.packed.project(a.inside(), j0, w, R, energy, team[slot], a.outside());
  }
  template <class Sink>
  void lift(const S* N, Index, Index w, int slot, const Work& work, const Team& team, const Sink& sink) const {
    work.dense.packed.lift(N, w, team[slot], sink);
  }
  bool updates(linalg::Order order, const Work& work, const Team& team) const { return work.dense.packed.updates(order, team); }
  template <bool adds>
  void update(const S* N, Index j0, Index w, int slot, const Work& work, const Team& team, const linalg::WeightUpdate<S, adds>& u) const {
    work.dense.packed.update(N, j0, w, u, team[slot]);
  }
  bool valid() const { return freshness_.pending <= 1; }  // P is not orthonormal: captured may exceed 1
  void commit(Work&) { ++refreshes_; }
  void observe(double captured, bool refreshed) { freshness_.observe(captured, refreshed, 0); }

  void visit(auto&& f) { visit_state(*this, f); }
  void visit(auto&& f) const { visit_state(*this, f); }

 private:
  void draw(std::uint64_t count, S* P, const Team& team) const {
    const Index piece = 4096;
    detail::for_each((d_ * r_ + piece - 1) / piece, team.threads(), [&](Index i, int) {
      const Index n = std::min(piece, d_ * r_ - i * piece);
      fill_normal(P + i * piece, n, options_.seed, count, std::uint64_t(i * piece));
      K::combine(n, 1 / std::sqrt(double(r_)), P + i * piece, 0.0, P + i * piece, P + i * piece);
    });
  }
  static void visit_state(auto& self, auto&& f) {
    f("refreshes", self.refreshes_);
    detail::Freshness::visit(self.freshness_, f);
  }

  Gaussian options_;
  Index d_ = 0, k_ = 0, r_ = 0;
  std::uint64_t refreshes_ = 0;
  detail::Freshness freshness_;
};

}  // namespace lowrank
