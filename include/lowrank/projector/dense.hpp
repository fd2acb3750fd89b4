// What projectors with a dense basis share: the basis (d x r, column-major), its packed form for a step, the candidate
// of a refresh, the rotation into it, and the products. A projector adds refresh().
#pragma once

#include <cmath>   // std::sqrt
#include <vector>

#include <lowrank/core/rng.hpp>
#include <lowrank/linalg/compact_matrix.hpp>
#include <lowrank/projector/projector.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

/// Workspace of one dense projection, its products by Packed.
template <class S, class K, class Packed = linalg::PackedBasis<S, K>>
struct DenseWork {
  Packed packed;
  S* candidate = nullptr;  // d x r
  S* decoded = nullptr;    // d x r: the basis in use, where it is kept in few bits
  S* rotation = nullptr;   // C, r x r
  linalg::BasisChange<S> change = {};
  double stale_energy = 0;  // what the replaced basis holds of the same gradient

  DenseWork() = default;
  DenseWork(Arena& arena, Index d, Index r, Storage storage = Storage::Full)
      : packed(arena, d, r),
        candidate(arena.take<S>(d * r)),
        decoded(storage == Storage::Full ? nullptr : arena.take<S>(d * r)),
        rotation(arena.take<S>(r * r)) {}
};

template <class Options, class S, class K>
class DenseProjector {
 public:
  using Source = linalg::Source<S, K>;
  using Team = linalg::Team<S, K>;

  static constexpr bool whole_gradient = false;

  Options& options() { return options_; }
  const Options& options() const { return options_; }
  void check() const { check_changed(who_, options_, largest_rank_, rank()); }
  Index rank() const { return basis_.cols(); }
  Index core_rows() const { return rank(); }
  Index core_cols() const { return k_; }
  Side side() const { return options_.side; }
  const Buffer<S>& basis() const { return basis_.full(); }
  bool due(std::uint64_t steps) const { return freshness_.due(options_, steps); }
  double captured_at_refresh() const { return freshness_.captured_at_refresh; }

  template <class Work>
  void prepare(const Source& a, Work& work, const Team& team) const {
    pack(decode(work), a, work, team);
  }
  template <class Work>
  void prepare_lift(Work& work, const Team& team) const {
    work.dense.packed.pack_up(linalg::columns<K, S>(in_use(work), basis_.rows()), team);
  }

  /// U = P N for a weight that update() moves where it is.
  template <class Work>
  void prepare_update(linalg::Order order, Work& work, const Team& team) const {
    if (order == linalg::Order::Columns) return prepare_lift(work, team);
    work.dense.packed.pack_rows(linalg::transposed<K, S>(in_use(work), basis_.rows()), team);
  }

  template <class Work>
  void project(const Source& a, Index j0, Index w, S* R, double* energy, int slot, const Work& work,
               const Team& team) const {
    work.dense.packed.project(a.inside(), j0, w, R, energy, team[slot], a.outside());
  }
  template <class Work, class Sink>
  void lift(const S* N, Index, Index w, int slot, const Work& work, const Team& team, const Sink& sink) const {
    work.dense.packed.lift(N, w, team[slot], sink);
  }

  template <class Work>
  bool updates(linalg::Order order, const Work& work, const Team& team) const { return work.dense.packed.updates(order, team); }
  template <class Work, bool adds>
  void update(const S* N, Index j0, Index w, int slot, const Work& work, const Team& team, const linalg::WeightUpdate<S, adds>& u) const {
    work.dense.packed.update(N, j0, w, u, team[slot]);
  }

  /// E_J <- A_J - P R_J; E is part of A, read before it is written. Needs prepare_lift().
  template <class Work>
  void keep(const Source& a, Index j0, Index w, const S* R, linalg::CompactMatrix<S>& E, int slot, const Work& work,
            const Team& team) const {
    work.dense.packed.lift(R, w, team[slot], [&](Index i0, Index m, Index, Index n, const S* U, Index ld) {
      S* block = team[slot].stage;
      a.load(i0, m, j0, n, block, m);
      for (Index j = 0; j < n; ++j)
        K::combine(m, -1.0, U + j * ld, 1.0, block + j * m, block + j * m);
      E.store(i0, m, j0, n, block, m);
    });
  }

  /// The state was just allocated: unit vectors until the first gradient that is not zero.
  void begin() {
    Buffer<S> unit(basis_.rows(), 1);
    for (Index j = 0; j < basis_.cols(); ++j) {
      unit[j] = 1;
      basis_.store(0, basis_.rows(), j, 1, unit.data(), basis_.rows());
      unit[j] = 0;
    }
  }
  bool valid() const { return freshness_.valid(); }
  template <class Work>
  void commit(Work& work) {
    basis_.store(0, basis_.rows(), 0, rank(), work.dense.candidate, basis_.rows());
    decode(work);
  }
  void observe(double captured, bool refreshed) {
    double threshold = 0;
    if constexpr (requires { options_.refresh_on_drift; }) threshold = options_.refresh_on_drift;
    freshness_.observe(captured, refreshed, threshold);
  }

  void visit(auto&& f) { visit_state(*this, f); }
  void visit(auto&& f) const { visit_state(*this, f); }

 protected:
  DenseProjector() = default;
  DenseProjector(const char* who, const Options& options, Index d, Index k, Index largest_rank, Storage storage = Storage::Full)
      : options_(options),
        basis_(d, checked_rank(who, options, largest_rank), storage),
        k_(k),
        who_(who),
        largest_rank_(largest_rank) {}

  /// The basis before commit(), the candidate after it: d x r numbers, in the workspace where the state has codes for them.
  template <class Work>
  const S* in_use(const Work& work) const { return basis_.storage() == Storage::Full ? basis_.full().data() : work.dense.decoded; }
  template <class Work>
  const S* decode(Work& work) const {
    if (basis_.storage() != Storage::Full) basis_.load(0, basis_.rows(), 0, rank(), work.dense.decoded, basis_.rows());
    return in_use(work);
  }

  /// Makes P ready to project a with.
  template <class Work>
  void pack(const S* P, const Source& a, Work& work, const Team& team) const {
    work.dense.packed.pack_down(linalg::transposed<K, S>(P, basis_.rows()), team, a.outside());
  }

  /// The candidate is complete: how old coordinates become new ones, and the candidate ready to project with.
  template <class Work>
  void announce(const Source& a, Work& work, Transport transport, const Team& team) const {
    using Change = linalg::BasisChange<S>;
    const Index d = basis_.rows(), r = rank();
    work.dense.change = Change{};
    if (transport == Transport::Reset) work.dense.change.kind = Change::Kind::Reset;
    if (transport == Transport::Rotate) {
      linalg::gemm<K>(r, r, d, linalg::transposed<K, S>(work.dense.candidate, d),
                      linalg::columns<K, S>(in_use(work), d), work.dense.rotation, r, team);
      work.dense.change = {Change::Kind::Rotate, nullptr, work.dense.rotation};
    }
    pack(work.dense.candidate, a, work, team);
  }

  /// Column j <- column from[j] of old, or a random unit vector orthogonal to all others (-1). The next step is due.
  void adopt_columns(const DenseProjector& old, const std::vector<Index>& from) {
    const Index d = basis_.rows(), r = rank();
    S* P = basis_.full().data();
    freshness_ = old.freshness_;
    freshness_.pending = 1;
    for (Index j = 0; j < r; ++j) {
      S* x = P + j * d;
      if (from[std::size_t(j)] >= 0) {
        std::memcpy(x, old.basis_.full().column(from[std::size_t(j)]), std::size_t(d) * sizeof(S));
        continue;
      }
      fill_normal(x, d, 0x52414E4B, std::uint64_t(r), std::uint64_t(j * d));
      for (int pass = 0; pass < 2; ++pass) {
        for (Index q = 0; q < j; ++q) {
          double along = 0;
          for (Index i = 0; i < d; ++i) along += double(P[i + q * d]) * double(x[i]);
          K::combine(d, -along, P + q * d, 1.0, x, x);
        }
        K::combine(d, 1 / std::sqrt(K::sum_squares(d, x)), x, 0.0, x, x);
      }
    }
  }

  static void visit_state(auto& self, auto&& f) {
    self.basis_.visit("basis", "basis_codes", "basis_ranges", f);
    Freshness::visit(self.freshness_, f);
  }

  Options options_;
  linalg::CompactMatrix<S> basis_;
  Index k_ = 0;
  Freshness freshness_;
  const char* who_ = "";
  Index largest_rank_ = 0;
};

}  // namespace detail
}  // namespace lowrank
