// Subspace: warm-started block iteration. A refresh sweeps the gradient once or more from the basis in use,
//   Y = A (A^T P) + delta P,   P' = orth(Y),   column signs as in P,
// which cannot lose captured energy (the iteration is monotone for A A^T) and reaches the SVD's within a fraction of a
// percent when the subspace moves slowly. delta = 1e-4 ||P^T A||^2 / r is far below the energies that matter; where A
// has rank below r it keeps the old directions instead of arbitrary ones.
// Cold start: randomized range finder with 8 extra directions, two power sweeps and a Rayleigh-Ritz rotation, so that
// the r best of them are kept (Halko, Martinsson, Tropp 2011, arXiv 0909.4061, alg. 4.4 and 5.3).
// State: the basis, d x r. Cost of a warm sweep: 4 d k r flops.
#pragma once

#include <lowrank/core/rng.hpp>
#include <lowrank/linalg/eigh.hpp>
#include <lowrank/linalg/orth.hpp>
#include <lowrank/projector/dense.hpp>
#include <lowrank/projector/energies.hpp>

namespace lowrank::inline LOWRANK_ABI {

namespace detail {

/// For options with the fields of Subspace; products with the basis by Packed.
template <class Options, class S, class K, class Packed = linalg::PackedBasis<S, K>>
class BlockIteration : public DenseProjector<Options, S, K> {
 protected:
  using Base = DenseProjector<Options, S, K>;
  using typename Base::Source;
  using typename Base::Team;

 public:
  static constexpr Index oversampling = 8;

  BlockIteration() = default;
  BlockIteration(const char* who, const Options& options, Index d, Index k, Storage storage = Storage::Full)
      : Base(who, options, d, k, std::min(d, k), storage) {}

  struct Work {
    DenseWork<S, K, Packed> dense;
    linalg::Orth<S, K> orth, orth_wide;
    S* wide = nullptr;       // d x l, l = r + 8 directions of a cold start
    S* gram = nullptr;       // l x l Ritz problem
    double* ritz = nullptr;  // the same and its eigenvalues, in double
    linalg::Eigh<double> eigh;

    Work() = default;
    Work(Arena& arena, const BlockIteration& p, int)
        : dense(arena, p.basis_.rows(), p.rank(), p.basis_.storage()),
          orth(arena, p.basis_.rows(), p.rank()),
          orth_wide(arena, p.basis_.rows(), p.width()),
          wide(arena.take<S>(p.basis_.rows() * p.width())),
          gram(arena.take<S>(p.width() * p.width())),
          ritz(arena.take<double>(p.width() * (p.width() + 1))),
          eigh(arena, p.width()) {}
  };

  bool refresh(const Source& a, S* R, Work& work, const Team& team) const {
    if (!find(a, R, work, team)) return false;
    this->announce(a, work, this->freshness_.captured_at_refresh > 0 ? this->options_.transport : Transport::Keep, team);
    return true;
  }

  /// Rounding aside this does not happen; then the old basis stays.
  bool worse(double captured_energy, const Work& work) const { return captured_energy < work.dense.stale_energy; }

 protected:
  Index width() const { return std::min({this->rank() + oversampling, this->basis_.rows(), this->k_}); }

  /// A candidate; false for a gradient of zeros.
  bool find(const Source& a, S* R, Work& work, const Team& team) const {
    const bool warm = this->freshness_.captured_at_refresh > 0 && warm_start(a, R, work, team);
    return warm || cold_start(a, R, work, team);
  }

  /// False when the old basis holds nothing of this gradient: there is nothing to start from.
  bool warm_start(const Source& a, S* R, Work& work, const Team& team) const {
    const Index d = this->basis_.rows(), k = this->k_, r = this->rank();
    const S* old = this->in_use(work);
    S* P = work.dense.candidate;
    std::memcpy(P, old, std::size_t(d * r) * sizeof(S));
    for (std::int64_t sweep = 0; sweep < this->options_.sweeps; ++sweep) {
      work.dense.packed.pack_down(linalg::transposed<K, S>(P, d), team);
      project_all(work.dense.packed, a, R, team);
      const double energy = normalise(R, r, k);
      if (sweep == 0) work.dense.stale_energy = energy;
      if (energy == 0) return false;
      S* Y = work.wide;  // as wide as the candidate at least
      linalg::gemm<K>(d, r, k, a, linalg::transposed<K, S>(R, r), Y, d, team);
      K::combine(d * r, 1e-4 * std::sqrt(energy) / double(r), P, 1.0, Y, P);
      work.orth(P, team);
    }
    for (Index j = 0; j < r; ++j)
      if (linalg::dot<K>(d, old + j * d, P + j * d) < 0) K::combine(d, -1.0, P + j * d, 0.0, P + j * d, P + j * d);
    return true;
  }

  /// False for a gradient of zeros.
  bool cold_start(const Source& a, S* R, Work& work, const Team& team) const {
    const Index d = this->basis_.rows(), k = this->k_, r = this->rank(), l = width();
    S* Q = work.wide;
    S* sample = R;  // k x l, read before R is needed
    fill_normal(sample, k * l, this->options_.seed, 0, 0);
    linalg::gemm<K>(d, l, k, a, linalg::columns<K, S>(sample, k), Q, d, team);
    work.orth_wide(Q, team);
    for (int sweep = 0; sweep < 2; ++sweep) {
      linalg::gemm<K>(l, k, d, linalg::transposed<K, S>(Q, d), a, R, l, team);
      if (normalise(R, l, k) == 0) return false;
      linalg::gemm<K>(d, l, k, a, linalg::transposed<K, S>(R, l), Q, d, team);
      work.orth_wide(Q, team);
    }
    // P = Q U_r, U the eigenvectors of (Q^T A)(Q^T A)^T with the largest eigenvalues
    linalg::gemm<K>(l, k, d, linalg::transposed<K, S>(Q, d), a, R, l, team);
    normalise(R, l, k);
    linalg::gemm<K>(l, l, k, linalg::columns<K, S>(R, l), linalg::transposed<K, S>(R, l), work.gram, l, team);
    for (Index i = 0; i < l * l; ++i) work.ritz[i] = double(work.gram[i]);
    work.eigh(work.ritz, work.ritz + l * l);
    for (Index i = 0; i < l * l; ++i) work.gram[i] = S(work.ritz[i]);
    linalg::gemm<K>(d, r, l, linalg::columns<K, S>(Q, d), linalg::columns<K, S>(work.gram, l), work.dense.candidate, d,
                    team);
    work.orth(work.dense.candidate, team);
    work.dense.stale_energy = 0;
    return true;
  }

  void project_all(const Packed& packed, const Source& a, S* R, const Team& team) const {
    const Index r = this->rank(), k = this->k_, tile = linalg::tile_columns;
    for_each((k + tile - 1) / tile, team.threads(), [&](Index t, int slot) {
      packed.project(a, t * tile, std::min(tile, k - t * tile), R + t * tile * r, nullptr, team[slot]);
    });
  }

  /// R <- R / ||R||_F, so that products of two gradients neither overflow nor vanish. Returns ||R||_F^2.
  static double normalise(S* R, Index r, Index k) {
    double total = 0;
    for (Index j = 0; j < k; ++j) total += K::sum_squares(r, R + j * r);
    if (total > 0) K::combine(r * k, 1 / std::sqrt(total), R, 0.0, R, R);
    return total;
  }
};

}  // namespace detail

template <class S, class K>
class ProjectorState<Subspace, S, K> : public detail::BlockIteration<Subspace, S, K> {
 public:
  using Base = detail::BlockIteration<Subspace, S, K>;

  ProjectorState() = default;
  ProjectorState(const Subspace& options, Index d, Index k)
      : Base("lowrank::Subspace", options, d, k), energies_(options.adapt, this->rank()) {
    detail::check_adaptive("lowrank::Subspace", options.adapt);
  }

  void check() const {
    Base::check();
    detail::check_adaptive("lowrank::Subspace", this->options_.adapt, energies_.kept());
  }

  const detail::Energies& energies() const { return energies_; }
  Index largest_rank() const { return this->largest_rank_; }
  /// The basis is new and R = P^T A.
  void record(const S* R, double energy) { energies_.template record<K>(R, this->k_, energy); }
  Index wants_rank() const { return energies_.wanted(this->options_.adapt, this->largest_rank_); }

  /// Takes over what fits of a state of another rank; new directions are random ones, orthogonal to the old; the next step
  /// is due. Gives for each coordinate which one it was, or -1. Allocates.
  std::vector<Index> inherit(const ProjectorState& old) {
    std::vector<Index> from = old.energies_.survivors(old.rank(), this->rank());
    from.resize(std::size_t(this->rank()), -1);
    this->adopt_columns(old, from);
    energies_.inherit(old.energies_, from);
    return from;
  }

  bool valid() const { return Base::valid() && energies_.valid(); }
  void visit(auto&& f) {
    Base::visit(f);
    detail::Energies::visit(energies_, f);
  }
  void visit(auto&& f) const {
    Base::visit(f);
    detail::Energies::visit(energies_, f);
  }

 private:
  detail::Energies energies_;
};

}  // namespace lowrank
