// Geodesic: the basis moves along the Grassmann manifold, one rank-one turn per refresh (SubTrack++, arXiv 2502.01586;
// Balzano, Nowak, Recht: GROUSE, Allerton 2010). With R = P^T A, the loss ||(I - P P^T) A||^2 has the gradient
//   F = -2 (A - P R) R^T / ||R||^2 ~ sigma u v^T,
//   P <- P + (P v (cos theta - 1) - u sin theta) v^T,   theta = min(step sigma, pi / 2)
// which keeps P orthonormal; columns keep their meaning but for the turn of one direction, so moments move by C = P^T P_.
// A step of 1/2 is Gauss-Newton's where one direction dominates. A turn that captures less than before is not taken.
//
// The published code's defects, not repeated: with m >= n it multiplies the tangent by I - B B^T of a square B, which is
// zero, so those layers keep their first basis for ever; its angle grows with the square of the gradient's size; moments are
// transported one step early, from the first basis each time, with V multiplied by 1 - beta2.
// The first basis is Subspace's cold start. State: the basis, d x r. Cost of a refresh: 4 d k r flops.
#pragma once

#include <lowrank/projector/subspace.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class ProjectorState<Geodesic, S, K> : public detail::BlockIteration<Geodesic, S, K> {
  using Base = detail::BlockIteration<Geodesic, S, K>;
  using typename Base::Source;
  using typename Base::Team;

 public:
  ProjectorState() = default;
  ProjectorState(const Geodesic& options, Index d, Index k) : Base("lowrank::Geodesic", options, d, k) { check(); }

  void check() const {
    Base::check();
    const double step = this->options_.step;
    if (!(step >= 0 && step < 1e30) || !detail::is_finite(step))
      detail::bad_argument("lowrank::Geodesic", "step = " + std::to_string(step), "a finite number >= 0");
  }

  struct Work : Base::Work {
    double* square = nullptr;  // F^T F, r x r, and its eigenvalues
    S* turn = nullptr;         // R R^T, then F^T F, r x r; P v and u, d each
    S* along = nullptr;        // P R R^T, d x r
    linalg::Eigh<double> small;

    Work() = default;
    Work(Arena& arena, const ProjectorState& p, int threads)
        : Base::Work(arena, p, threads),
          square(arena.take<double>(p.rank() * (p.rank() + 1))),
          turn(arena.take<S>(p.rank() * p.rank() + 2 * p.basis_.rows())),
          along(arena.take<S>(p.basis_.rows() * p.rank())),
          small(arena, p.rank()) {}
  };

  bool refresh(const Source& a, S* R, Work& work, const Team& team) const {
    const bool warm = this->freshness_.captured_at_refresh > 0 && turn(a, R, work, team);
    if (!warm && !this->cold_start(a, R, work, team)) return false;
    this->announce(a, work, this->freshness_.captured_at_refresh > 0 ? this->options_.transport : Transport::Keep, team);
    return true;
  }

 private:
  /// False when the old basis holds nothing of this gradient.
  bool turn(const Source& a, S* R, Work& work, const Team& team) const {
    const Index d = this->basis_.rows(), k = this->k_, r = this->rank();
    const S* old = this->in_use(work);
    S* P = work.dense.candidate;
    S* F = work.wide;
    std::memcpy(P, old, std::size_t(d * r) * sizeof(S));
    work.dense.packed.pack_down(linalg::transposed<K, S>(P, d), team);
    this->project_all(work.dense.packed, a, R, team);
    const double energy = this->normalise(R, r, k);
    work.dense.stale_energy = energy;
    if (energy == 0) return false;
    // F / -2 = A R^T / ||R|| - P (R R^T), R normalised
    const auto Rt = linalg::transposed<K, S>(R, r);
    linalg::gemm<K>(d, r, k, a, Rt, F, d, team);
    K::combine(d * r, 1 / std::sqrt(energy), F, 0.0, F, F);
    linalg::gemm<K>(r, r, k, linalg::columns<K, S>(R, r), Rt, work.turn, r, team);
    linalg::gemm<K>(d, r, r, linalg::columns<K, S>(P, d), linalg::columns<K, S>(work.turn, r), work.along, d, team);
    K::combine(d * r, -2.0, F, 2.0, work.along, F);

    linalg::gemm<K>(r, r, d, linalg::transposed<K, S>(F, d), linalg::columns<K, S>(F, d), work.turn, r, team);
    for (Index i = 0; i < r * r; ++i) work.square[i] = double(work.turn[i]);
    work.small(work.square, work.square + r * r);
    const double sigma = std::sqrt(std::max(0.0, work.square[r * r]));
    if (!(sigma > 0)) return true;  // nothing is lost: P stays
    const double theta = std::min(this->options_.step * sigma, 1.57079632679489661923);
    S* Pv = work.turn + r * r;
    S* u = Pv + d;
    std::fill_n(Pv, 2 * d, S(0));
    for (Index q = 0; q < r; ++q) {
      K::combine(d, work.square[q], P + q * d, 1.0, Pv, Pv);
      K::combine(d, work.square[q] / sigma, F + q * d, 1.0, u, u);
    }
    K::combine(d, std::cos(theta) - 1, Pv, -std::sin(theta), u, u);
    for (Index q = 0; q < r; ++q) K::combine(d, work.square[q], u, 1.0, P + q * d, P + q * d);
    work.orth(P, team);  // rounding would add up over many turns
    return true;
  }
};

}  // namespace lowrank
