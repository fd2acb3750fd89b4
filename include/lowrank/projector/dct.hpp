// Dct: the r vectors of the cosine basis on which the gradient scores highest (DCT-AdamW, arXiv 2505.17967). The basis is
// implicit: with T the orthonormal transform of each column of A (d x k),
//   S = T(A),   score_i = sum_j |S_ij|^p,   idx = the r largest, ascending,   R = S[idx, :],   P N = T^-1(N at idx).
// Fast route: transforms both ways, O(d k log d) whatever r is and nothing stored. Selected route: products with the r
// cosine vectors, built from the indices every step; cheaper below r of about 4 log2 d. Error feedback stays in the
// transform domain (E^ = S with the selected rows zero), which saves its back-projection; it needs the fast route.
// Deviations from the published code: any d instead of one shared size; indices are sorted; the basis is Cosines for
// every route (the published FFT and matmul paths differ); coordinates that survive keep their moments (Rotate).
// State: r indices (int32).
#pragma once

#include <cmath>  // std::cos, std::log2, std::sqrt

#include <lowrank/linalg/dct.hpp>
#include <lowrank/linalg/interleaved.hpp>
#include <lowrank/linalg/packed_basis.hpp>
#include <lowrank/linalg/top_k.hpp>
#include <lowrank/projector/energies.hpp>
#include <lowrank/projector/projector.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class ProjectorState<Dct, S, K> {
 public:
  using Source = linalg::Source<S, K>;
  using Team = linalg::Team<S, K>;

  static constexpr bool whole_gradient = false, refresh_checks = true;
  static constexpr Index lanes = K::template lanes<S>;

  ProjectorState() = default;
  ProjectorState(const Dct& options, Index d, Index k)
      : options_(options), plan_(d), indices_(Buffer<std::int32_t>::shaped(detail::checked_rank("lowrank::Dct", options, d), 1)), table_(4 * d, 1), d_(d), k_(k), energies_(options.adapt, indices_.rows()) {
    detail::check_adaptive("lowrank::Dct", options.adapt);
    for (Index t = 0; t < 4 * d; ++t)
      table_[t] = S(std::sqrt(2 / double(d)) * std::cos(3.14159265358979323846 * double(t) / double(2 * d)));
  }

  struct Dense {
    linalg::BasisChange<S> change = {};
    double stale_energy = 0;
  };
  struct Work {
    Dense dense;
    linalg::PackedBasis<S, K> packed;      // Selected route
    S* signals = nullptr;                  // per thread: a tile's columns interleaved by groups, r x lanes, the plan's scratch
    S* spectrum = nullptr;                 // d x k, interleaved by groups of `lanes` columns; Spectrum::Store only
    double* partial = nullptr;             // d scores per tile
    double* lengths = nullptr;             // k squared norms; with the stored spectrum
    std::int32_t *order = nullptr, *candidate = nullptr, *from = nullptr, *slot_of = nullptr;
    const std::int32_t* in_use = nullptr;
    Index stride = 0;
    bool fast = true, stored = false;

    Work() = default;
    Work(Arena& arena, const ProjectorState& p, int threads) {
      const Index r = p.rank(), tiles = (p.k_ + linalg::tile_columns - 1) / linalg::tile_columns;
      stride = p.d_ * std::max(linalg::tile_columns, 2 * lanes) + r * lanes + p.plan_.work_size();
      stride = (stride + lanes - 1) / lanes * lanes;
      if (!p.prefers_fast()) packed = linalg::PackedBasis<S, K>(arena, p.d_, r);
      signals = arena.take<S>(stride * threads);
      if (p.options_.spectrum == Spectrum::Store) {
        spectrum = arena.take<S>(p.d_ * ((p.k_ + lanes - 1) / lanes * lanes));
        lengths = arena.take<double>(p.k_);
      }
      partial = arena.take<double>(p.d_ * (tiles + 1));
      order = arena.take<std::int32_t>(p.d_);
      candidate = arena.take<std::int32_t>(r);
      from = arena.take<std::int32_t>(r);
      slot_of = arena.take<std::int32_t>(p.d_);
    }
  };

  /// The state was just allocated: the lowest frequencies until the first gradient that is not zero.
  void begin() {
    for (Index i = 0; i < indices_.size(); ++i) indices_[i] = std::int32_t(i);
  }

  /// Whether a state that was read from a file can be one: ascending indices below d.
  bool valid() const {
    for (Index i = 0; i < indices_.size(); ++i)
      if (indices_[i] < (i == 0 ? 0 : indices_[i - 1] + 1) || indices_[i] >= d_) return false;
    return freshness_.valid() && energies_.valid();
  }

  Dct& options() { return options_; }
  const Dct& options() const { return options_; }
  void check() const {
    detail::check_changed("lowrank::Dct", options_, d_, rank());
    detail::check_adaptive("lowrank::Dct", options_.adapt, energies_.kept());
  }
  Index rank() const { return indices_.rows(); }
  Index core_rows() const { return rank(); }
  Index core_cols() const { return k_; }
  Side side() const { return options_.side; }
  const Buffer<std::int32_t>& indices() const { return indices_; }
  bool due(std::uint64_t steps) const { return freshness_.due(options_, steps); }
  double captured_at_refresh() const { return freshness_.captured_at_refresh; }

  bool refresh(const Source& a, S*, Work& work, const Team& team) const {
    using Change = linalg::BasisChange<S>;
    const Index tile = linalg::tile_columns, tiles = (k_ + tile - 1) / tile, r = rank();
    detail::for_each(tiles, team.threads(), [&](Index t, int slot) {
      double* score = work.partial + t * d_;
      std::fill_n(score, d_, 0.0);
      const Index begin = t * tile, w = std::min(tile, k_ - begin);
      S* x = work.spectrum != nullptr ? work.spectrum + begin * d_ : signals(slot, work);
      columns().load(a, begin, w, x, team[slot]);
      for (Index j = 0; j < w; j += lanes) {
        const Index n = std::min(lanes, w - j);
        transform(a, begin + j, n, x + j * d_, slot, work, team);
        columns().add_scores(x + j * d_, options_.score != Score::L1, score);
        if (work.spectrum != nullptr) columns().energies(x + j * d_, n, work.lengths + begin + j);
      }
    });
    double* total = work.partial + tiles * d_;
    std::fill_n(total, d_, 0.0);
    for (Index t = 0; t < tiles; ++t)
      for (Index i = 0; i < d_; ++i) total[i] += work.partial[t * d_ + i];
    double sum = 0;
    for (Index i = 0; i < d_; ++i) sum += total[i];
    if (!(sum > 0) || !detail::is_finite(sum)) return false;
    linalg::top_k(total, d_, r, work.order, work.candidate);

    std::fill_n(work.slot_of, d_, -1);
    for (Index i = 0; i < r; ++i) work.slot_of[indices_[i]] = std::int32_t(i);
    for (Index i = 0; i < r; ++i) work.from[i] = work.slot_of[work.candidate[i]];
    work.dense.change = Change{};
    if (freshness_.captured_at_refresh > 0 && options_.transport == Transport::Reset)
      work.dense.change.kind = Change::Kind::Reset;
    if (freshness_.captured_at_refresh > 0 && options_.transport == Transport::Rotate)
      work.dense.change = {Change::Kind::Gather, work.from, nullptr};
    use(a, work.candidate, work, team);
    work.stored = work.spectrum != nullptr;
    return true;
  }
  void prepare(const Source& a, Work& work, const Team& team) const {
    use(a, indices_.data(), work, team);
    work.stored = false;
  }
  void prepare_lift(Work& work, const Team& team) const {
    if (!work.fast) work.packed.pack_up(Cosines<false>{*this, work.in_use}, team);
  }
  bool updates(linalg::Order order, const Work& work, const Team& team) const { return work.fast || work.packed.updates(order, team); }
  void prepare_update(linalg::Order order, Work& work, const Team& team) const {
    if (order == linalg::Order::Columns) return prepare_lift(work, team);
    if (!work.fast) work.packed.pack_rows(Cosines<true>{*this, work.in_use}, team);
  }

  void project(const Source& a, Index j0, Index w, S* R, double* energy, int slot, const Work& work,
               const Team& team) const {
    if (!work.fast) return work.packed.project(a.inside(), j0, w, R, energy, team[slot], a.outside());
    const Index r = rank();
    S* all = work.stored ? work.spectrum + j0 * d_ : signals(slot, work);
    if (!work.stored) columns().load(a, j0, w, all, team[slot]);
    for (Index j = 0; j < w; j += lanes) {
      const Index n = std::min(lanes, w - j);
      S* x = all + j * d_;
      if (!work.stored) transform(a, j0 + j, n, x, slot, work, team);
      S* rows = selected(slot, work);
      for (Index i = 0; i < r; ++i) std::memcpy(rows + i * lanes, x + work.in_use[i] * lanes, lanes * sizeof(S));
      K::transpose(n, r, rows, lanes, R + j * r, r);
      if (energy == nullptr) continue;
      if (work.stored) std::copy_n(work.lengths + j0 + j, n, energy + j);
      else columns().energies(x, n, energy + j);
    }
  }

  template <class Sink>
  void lift(const S* N, Index, Index w, int slot, const Work& work, const Team& team, const Sink& sink) const {
    if (!work.fast) return work.packed.lift(N, w, team[slot], sink);
    // whole tiles at a time: where a row of W is contiguous, that is as much of it as there is
    constexpr Index height = linalg::block_rows, tile = linalg::tile_columns;
    S* U = team[slot].rows;
    for (Index j0 = 0; j0 < w; j0 += tile) {
      const Index n = std::min(tile, w - j0);
      const S* all = lifted(N + j0 * rank(), n, slot, work);
      for (Index i0 = 0; i0 < d_; i0 += height) {
        const Index m = std::min(height, d_ - i0);
        for (Index j = 0; j < n; j += lanes) K::transpose(std::min(lanes, n - j), m, all + j * d_ + i0 * lanes, lanes, U + j * m, m);
        sink(i0, m, j0, n, U, m);
      }
    }
  }
  template <bool adds>
  void update(const S* N, Index j0, Index w, int slot, const Work& work, const Team& team, const linalg::WeightUpdate<S, adds>& u) const {
    if (!work.fast) return work.packed.update(N, j0, w, u, team[slot]);
    constexpr Index tile = linalg::tile_columns;
    for (Index j = 0; j < w; j += tile) {
      const Index n = std::min(tile, w - j);
      columns().update(lifted(N + j * rank(), n, slot, work), j0 + j, n, u, team[slot].rows);
    }
  }

  /// E^_J <- S_J with the selected rows zero.
  void keep(const Source& a, Index j0, Index w, const S*, linalg::CompactMatrix<S>& E, int slot, const Work& work,
            const Team& team) const {
    S* block = team[slot].stage;
    for (Index j = 0; j < w; j += lanes) {
      const Index n = std::min(lanes, w - j);
      S* x = signals(slot, work);
      columns().load(a, j0 + j, n, x, team[slot]);
      transform(a, j0 + j, n, x, slot, work, team);
      for (Index i = 0; i < rank(); ++i) std::memset(x + work.in_use[i] * lanes, 0, lanes * sizeof(S));
      for (Index i0 = 0; i0 < d_; i0 += linalg::block_rows) {
        const Index m = std::min(linalg::block_rows, d_ - i0);
        K::transpose(n, m, x + i0 * lanes, lanes, block, m);
        E.store(i0, m, j0 + j, n, block, m);
      }
    }
  }

  void commit(Work& work) { std::memcpy(indices_.data(), work.candidate, indices_.bytes()); }
  void observe(double captured, bool refreshed) { freshness_.observe(captured, refreshed, options_.refresh_on_drift); }
  void visit(auto&& f) { visit_state(*this, f); }
  void visit(auto&& f) const { visit_state(*this, f); }

  const detail::Energies& energies() const { return energies_; }
  Index largest_rank() const { return d_; }
  void record(const S* R, double energy) { energies_.template record<K>(R, k_, energy); }
  Index wants_rank() const { return energies_.wanted(options_.adapt, d_); }
  /// Takes over what fits of a state of another rank, the lowest free frequencies fill up; the next step is due. Gives for
  /// each coordinate which one it was, or -1. Allocates.
  std::vector<Index> inherit(const ProjectorState& old) {
    std::vector<Index> slot(std::size_t(d_), -2);  // of every frequency in old, -1: new, -2: not chosen
    std::vector<Index> kept = old.energies_.survivors(old.rank(), rank());
    for (const Index i : kept) slot[std::size_t(old.indices_[i])] = i;
    Index missing = rank() - Index(kept.size()), at = 0;
    for (std::size_t q = 0; q < slot.size() && missing > 0; ++q)
      if (slot[q] == -2) slot[q] = -1, --missing;
    std::vector<Index> from;
    for (std::size_t q = 0; q < slot.size(); ++q)
      if (slot[q] != -2) indices_[at++] = std::int32_t(q), from.push_back(slot[q]);
    freshness_ = old.freshness_;
    freshness_.pending = 1;
    energies_.inherit(old.energies_, from);
    return from;
  }

  /// Coefficients (d values) -> the column they stand for; what an error buffer in the transform domain means.
  void inverse(S* x, S* scratch) const {
    if (options_.basis == DctBasis::Cosines) plan_.dct3(x, scratch);
    else plan_.dct2(x, scratch);
  }

 private:
  /// The selected basis vectors as an operand (d x r), or its transpose.
  template <bool transposed>
  struct Cosines {
    const ProjectorState& p;
    const std::int32_t* index;
    void load(Index i0, Index m, Index j0, Index n, S* dst, Index ld) const {
      for (Index j = 0; j < n; ++j)
        for (Index i = 0; i < m; ++i)
          dst[i + j * ld] = transposed ? p.entry(j0 + j, index[i0 + i]) : p.entry(i0 + i, index[j0 + j]);
    }
  };
  /// Element `row` of basis vector `index`: sqrt(2/d) cos(pi q (2j+1) / 2d), times sqrt(1/2) for q = 0.
  S entry(Index row, Index index) const {
    const bool cosines = options_.basis == DctBasis::Cosines;
    const Index q = cosines ? index : row, j = cosines ? row : index;
    const S x = table_[q * (2 * j + 1) % (4 * d_)];
    return q == 0 ? S(0.70710678118654752440) * x : x;
  }

  bool prefers_fast() const {
    if (options_.route != DctRoute::Auto) return options_.route == DctRoute::Fast;
    return double(rank()) >= 4 * std::log2(double(d_) + 1);
  }
  void use(const Source& a, const std::int32_t* indices, Work& work, const Team& team) const {
    work.in_use = indices;
    work.fast = prefers_fast() || a.error != nullptr;
    if (!work.fast) work.packed.pack_down(Cosines<true>{*this, indices}, team, a.outside());
  }

  S* signals(int slot, const Work& work) const { return work.signals + slot * work.stride; }
  S* selected(int slot, const Work& work) const { return signals(slot, work) + d_ * std::max(linalg::tile_columns, 2 * lanes); }
  S* plan_work(int slot, const Work& work) const { return selected(slot, work) + rank() * lanes; }

  linalg::Interleaved<S, K> columns() const { return {d_}; }
  /// U = P N for w <= 64 columns of N, interleaved.
  const S* lifted(const S* N, Index w, int slot, const Work& work) const {
    const Index r = rank();
    S* all = signals(slot, work);
    S* rows = selected(slot, work);
    for (Index j = 0; j < w; j += lanes) {
      const Index n = std::min(lanes, w - j);
      S* x = all + j * d_;
      std::memset(x, 0, std::size_t(d_ * lanes) * sizeof(S));
      if (n < lanes) std::memset(rows, 0, std::size_t(r * lanes) * sizeof(S));
      K::transpose(r, n, N + j * r, r, rows, lanes);
      for (Index i = 0; i < r; ++i) std::memcpy(x + work.in_use[i] * lanes, rows + i * lanes, lanes * sizeof(S));
      inverse(x, plan_work(slot, work));
    }
    return all;
  }

  /// x <- T(x) (+ E^) for one group, its n columns of A from j.
  void transform(const Source& a, Index j, Index n, S* x, int slot, const Work& work, const Team& team) const {
    if (options_.basis == DctBasis::Cosines) plan_.dct2(x, plan_work(slot, work));
    else plan_.dct3(x, plan_work(slot, work));
    if (a.error == nullptr) return;
    S *e = plan_work(slot, work), *block = team[slot].stage;
    if (n < lanes) std::memset(e, 0, std::size_t(d_ * lanes) * sizeof(S));
    for (Index i0 = 0; i0 < d_; i0 += linalg::block_rows) {
      const Index m = std::min(linalg::block_rows, d_ - i0);
      a.error->load(i0, m, j, n, block, m);
      K::transpose(m, n, block, m, e + i0 * lanes, lanes);
    }
    K::combine(d_ * lanes, 1.0, x, 1.0, e, x);
  }

  static void visit_state(auto& self, auto&& f) {
    f("indices", self.indices_);
    detail::Freshness::visit(self.freshness_, f);
    detail::Energies::visit(self.energies_, f);
  }

  Dct options_;
  linalg::Dct<S, K> plan_;
  Buffer<std::int32_t> indices_;
  Buffer<S> table_;
  Index d_ = 0, k_ = 0;
  detail::Freshness freshness_;
  detail::Energies energies_;
};

}  // namespace lowrank
