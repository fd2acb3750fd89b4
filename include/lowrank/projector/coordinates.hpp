// Coordinates: P are r unit vectors, R are r rows of the gradient as they are (the canonical d x k one: columns of the
// user's when the right side is projected). Nothing is multiplied: projecting is a gather, lifting a scatter.
//   score_i = sum_j |A_ij|^p;   Top: the r largest,   Sampled: without replacement, probabilities as sqrt(sum A_ij^2)
//   (p = 2) or sum |A_ij| (p = 1),   Uniform: any r rows
// (GRASS, arXiv 2406.17660, of which there is no code; Dion2's and FRUGAL's selections.) The c-th refresh draws from stream
// c under `seed`.
// State: r indices (int32) and the number of refreshes.
#pragma once

#include <lowrank/linalg/sample.hpp>
#include <lowrank/projector/projector.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class ProjectorState<Coordinates, S, K> {
 public:
  using Source = linalg::Source<S, K>;
  using Team = linalg::Team<S, K>;

  static constexpr bool whole_gradient = false, refresh_checks = true;

  ProjectorState() = default;
  ProjectorState(const Coordinates& options, Index d, Index k)
      : options_(options),
        indices_(Buffer<std::int32_t>::shaped(detail::checked_rank("lowrank::Coordinates", options, d), 1)),
        d_(d),
        k_(k) {}

  struct Dense {
    linalg::BasisChange<S> change = {};
    double stale_energy = 0;
  };
  struct Work {
    Dense dense;
    double* partial = nullptr;  // d scores, then d per tile
    std::int32_t *order = nullptr, *candidate = nullptr, *from = nullptr, *slot_of = nullptr;
    const std::int32_t* in_use = nullptr;

    Work() = default;
    Work(Arena& arena, const ProjectorState& p, int)
        : partial(arena.take<double>(p.d_ * (1 + (p.k_ + linalg::tile_columns - 1) / linalg::tile_columns))),
          order(arena.take<std::int32_t>(p.d_)),
          candidate(arena.take<std::int32_t>(p.rank())),
          from(arena.take<std::int32_t>(p.rank())),
          slot_of(arena.take<std::int32_t>(p.d_)) {}
  };

  /// The state was just allocated: the first rows until the first gradient that is not zero.
  void begin() {
    for (Index i = 0; i < indices_.size(); ++i) indices_[i] = std::int32_t(i);
  }
  bool valid() const {
    for (Index i = 0; i < indices_.size(); ++i)
      if (indices_[i] < (i == 0 ? 0 : indices_[i - 1] + 1) || indices_[i] >= d_) return false;
    return freshness_.valid();
  }

  Coordinates& options() { return options_; }
  const Coordinates& options() const { return options_; }
  void check() const { detail::check_changed("lowrank::Coordinates", options_, d_, rank()); }
  Index rank() const { return indices_.rows(); }
  Index core_rows() const { return rank(); }
  Index core_cols() const { return k_; }
  Side side() const { return options_.side; }
  const Buffer<std::int32_t>& indices() const { return indices_; }
  bool due(std::uint64_t steps) const { return freshness_.due(options_, steps); }
  double captured_at_refresh() const { return freshness_.captured_at_refresh; }

  bool refresh(const Source& a, S*, Work& work, const Team& team) const {
    using Change = linalg::BasisChange<S>;
    const Index r = rank();
    double* score = work.partial;
    add_scores(a, work, team);
    double sum = 0;
    for (Index i = 0; i < d_; ++i) sum += score[i];
    if (!(sum > 0) || !detail::is_finite(sum)) return false;
    if (options_.selection == Selection::Top) {
      linalg::top_k(score, d_, r, work.order, work.candidate);
    } else {
      for (Index i = 0; i < d_; ++i)
        score[i] = options_.selection == Selection::Uniform ? 1 : options_.score == Score::L2 ? std::sqrt(score[i]) : score[i];
      linalg::sample(score, d_, r, options_.seed, refreshes_, work.order, work.candidate);
    }
    std::fill_n(work.slot_of, d_, -1);
    for (Index i = 0; i < r; ++i) work.slot_of[indices_[i]] = std::int32_t(i);
    for (Index i = 0; i < r; ++i) work.from[i] = work.slot_of[work.candidate[i]];
    work.dense.change = Change{};
    const bool first = !(freshness_.captured_at_refresh > 0);
    if (!first && options_.transport == Transport::Reset) work.dense.change.kind = Change::Kind::Reset;
    if (!first && options_.transport == Transport::Rotate) work.dense.change = {Change::Kind::Gather, work.from, nullptr};
    work.in_use = work.candidate;
    return true;
  }
  void prepare(const Source&, Work& work, const Team&) const { work.in_use = indices_.data(); }
  void prepare_lift(Work&, const Team&) const {}

  void project(const Source& a, Index j0, Index w, S* R, double* energy, int slot, const Work& work, const Team& team) const {
    const Index r = rank();
    S* block = team[slot].stage;
    std::fill_n(energy, w, 0.0);
    Index begin = 0;
    for_blocks([&](Index i0, Index m) {
      a.load(i0, m, j0, w, block, m);
      for (Index j = 0; j < w; ++j) energy[j] += K::sum_squares(m, block + j * m);
      for (; begin < r && work.in_use[begin] < i0 + m; ++begin)
        for (Index j = 0; j < w; ++j) R[begin + j * r] = block[work.in_use[begin] - i0 + j * m];
    });
  }

  template <class Sink>
  void lift(const S* N, Index, Index w, int slot, const Work& work, const Team& team, const Sink& sink) const {
    const Index r = rank();
    S* U = team[slot].rows;
    Index begin = 0;
    for_blocks([&](Index i0, Index m) {
      std::memset(U, 0, std::size_t(m * w) * sizeof(S));
      for (; begin < r && work.in_use[begin] < i0 + m; ++begin)
        for (Index j = 0; j < w; ++j) U[work.in_use[begin] - i0 + j * m] = N[begin + j * r];
      sink(i0, m, Index(0), w, U, m);
    });
  }

  /// E_J <- A_J with the selected rows zero.
  void keep(const Source& a, Index j0, Index w, const S*, linalg::CompactMatrix<S>& E, int slot, const Work& work,
            const Team& team) const {
    S* block = team[slot].stage;
    Index begin = 0;
    for_blocks([&](Index i0, Index m) {
      a.load(i0, m, j0, w, block, m);
      for (; begin < rank() && work.in_use[begin] < i0 + m; ++begin)
        for (Index j = 0; j < w; ++j) block[work.in_use[begin] - i0 + j * m] = 0;
      E.store(i0, m, j0, w, block, m);
    });
  }

  void commit(Work& work) {
    std::memcpy(indices_.data(), work.candidate, indices_.bytes());
    ++refreshes_;
  }
  void observe(double captured, bool refreshed) { freshness_.observe(captured, refreshed, options_.refresh_on_drift); }
  void visit(auto&& f) { visit_state(*this, f); }
  void visit(auto&& f) const { visit_state(*this, f); }

 private:
  template <class F>
  void for_blocks(const F& f) const {
    for (Index i0 = 0; i0 < d_; i0 += linalg::block_rows) f(i0, std::min(linalg::block_rows, d_ - i0));
  }

  /// partial[0..d) <- scores of the rows, tile partials added in order.
  void add_scores(const Source& a, Work& work, const Team& team) const {
    const Index tile = linalg::tile_columns, tiles = (k_ + tile - 1) / tile;
    detail::for_each(tiles, team.threads(), [&](Index t, int slot) {
      double* mine = work.partial + (t + 1) * d_;
      std::fill_n(mine, d_, 0.0);
      const Index w = std::min(tile, k_ - t * tile);
      S* block = team[slot].stage;
      for_blocks([&](Index i0, Index m) {
        a.load(i0, m, t * tile, w, block, m);
        for (Index j = 0; j < w; ++j) {
          if (options_.score == Score::L1) K::add_abs(m, block + j * m, mine + i0);
          else K::add_squares(m, block + j * m, mine + i0);
        }
      });
    });
    std::fill_n(work.partial, d_, 0.0);
    for (Index t = 1; t <= tiles; ++t)
      for (Index i = 0; i < d_; ++i) work.partial[i] += work.partial[t * d_ + i];
  }

  static void visit_state(auto& self, auto&& f) {
    f("indices", self.indices_);
    f("refreshes", self.refreshes_);
    detail::Freshness::visit(self.freshness_, f);
  }

  Coordinates options_;
  Buffer<std::int32_t> indices_;
  Index d_ = 0, k_ = 0;
  std::uint64_t refreshes_ = 0;
  detail::Freshness freshness_;
};

}  // namespace lowrank
