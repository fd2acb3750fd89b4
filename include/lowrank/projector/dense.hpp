// What projectors with a dense basis share: the basis (d x r, column-major), its packed form for a step, the candidate
// of a refresh, the rotation into it, and the products. A projector adds refresh().
#pragma once

#include <lowrank/projector/projector.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

/// Workspace of one dense projection.
template <class S, class K>
struct DenseWork {
  linalg::PackedBasis<S, K> packed;
  S* candidate = nullptr;  // d x r
  S* rotation = nullptr;   // C, r x r
  linalg::BasisChange<S> change = {};
  double stale_energy = 0;  // what the replaced basis holds of the same gradient

  DenseWork() = default;
  DenseWork(Arena& arena, Index d, Index r)
      : packed(arena, d, r), candidate(arena.take<S>(d * r)), rotation(arena.take<S>(r * r)) {}
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
  const Buffer<S>& basis() const { return basis_; }
  bool due(std::uint64_t steps) const { return freshness_.due(options_, steps); }
  double captured_at_refresh() const { return freshness_.captured_at_refresh; }

  template <class Work>
  void prepare(const Source&, Work& work, const Team& team) const {
    work.dense.packed.pack_down(linalg::transposed<K, S>(basis_.data(), basis_.rows()), team);
  }
  template <class Work>
  void prepare_lift(Work& work, const Team& team) const {
    work.dense.packed.pack_up(linalg::columns<K, S>(basis_.data(), basis_.rows()), team);
  }

  template <class Work>
  void project(const Source& a, Index j0, Index w, S* R, double* energy, int slot, const Work& work,
               const Team& team) const {
    work.dense.packed.project(a, j0, w, R, energy, team[slot]);
  }
  template <class Work, class Sink>
  void lift(const S* N, Index, Index w, int slot, const Work& work, const Team& team, const Sink& sink) const {
    work.dense.packed.lift(N, w, team[slot], sink);
  }

  /// E_J <- A_J - P R_J; E is part of A, read before it is written. Needs prepare_lift().
  template <class Work>
  void keep(const Source& a, Index j0, Index w, const S* R, S* E, int slot, const Work& work, const Team& team) const {
    const Index d = basis_.rows();
    work.dense.packed.lift(R, w, team[slot], [&](Index i0, Index m, Index, Index n, const S* U, Index ld) {
      S* block = team[slot].stage;
      a.load(i0, m, j0, n, block, m);
      for (Index j = 0; j < n; ++j)
        K::combine(m, -1.0, U + j * ld, 1.0, block + j * m, E + i0 + (j0 + j) * d);
    });
  }

  /// The state was just allocated: unit vectors until the first gradient that is not zero.
  void begin() {
    for (Index i = 0; i < basis_.cols(); ++i) basis_(i, i) = S(1);
  }
  bool valid() const { return freshness_.valid(); }
  template <class Work>
  void commit(Work& work) {
    std::memcpy(basis_.data(), work.dense.candidate, basis_.bytes());
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
  DenseProjector(const char* who, const Options& options, Index d, Index k, Index largest_rank)
      : options_(options),
        basis_(Buffer<S>::shaped(d, checked_rank(who, options, largest_rank))),
        k_(k),
        who_(who),
        largest_rank_(largest_rank) {}

  /// The candidate is complete: how old coordinates become new ones, and the candidate ready to project with.
  template <class Work>
  void announce(Work& work, Transport transport, const Team& team) const {
    using Change = linalg::BasisChange<S>;
    const Index d = basis_.rows(), r = basis_.cols();
    work.dense.change = Change{};
    if (transport == Transport::Reset) work.dense.change.kind = Change::Kind::Reset;
    if (transport == Transport::Rotate) {
      linalg::gemm<K>(r, r, d, linalg::transposed<K, S>(work.dense.candidate, d),
                      linalg::columns<K, S>(basis_.data(), d), work.dense.rotation, r, team);
      work.dense.change = {Change::Kind::Rotate, nullptr, work.dense.rotation};
    }
    work.dense.packed.pack_down(linalg::transposed<K, S>(work.dense.candidate, d), team);
  }

  static void visit_state(auto& self, auto&& f) {
    f("basis", self.basis_);
    Freshness::visit(self.freshness_, f);
  }

  Options options_;
  Buffer<S> basis_;
  Index k_ = 0;
  Freshness freshness_;
  const char* who_ = "";
  Index largest_rank_ = 0;
};

}  // namespace detail
}  // namespace lowrank
