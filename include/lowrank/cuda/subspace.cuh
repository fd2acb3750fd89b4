// Subspace on a device: the warm-started block iteration.
#pragma once

#include <lowrank/cuda/orth.cuh>
#include <lowrank/cuda/projector.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// y[i] += (1e-4 ||R|| / r) p[i]: far below the energies that matter, it keeps old directions where A has rank below r.
template <class S>
struct Blend {
  const S* p;
  S* y;
  Index n, r;
  const Control<S>* control;

  LOWRANK_HOST_DEVICE Index size() const { return n; }
  LOWRANK_DEVICE void operator()(Index i) const { y[i] = std::fma(S(1e-4 * std::sqrt(control->norm) / double(r)), p[i], y[i]); }
};

/// S <- the numbers as they are, from double, columns in reverse order: eigenvectors of the largest eigenvalues first.
template <class S>
struct LastColumns {
  const double* x;
  S* out;
  Index n, r;

  LOWRANK_HOST_DEVICE Index size() const { return n * r; }
  LOWRANK_DEVICE void operator()(Index e) const { out[e] = S(x[e % n + (n - 1 - e / n) * n]); }
};
template <class S>
struct Widen {
  const S* x;
  double* out;
  Index n;

  LOWRANK_HOST_DEVICE Index size() const { return n; }
  LOWRANK_DEVICE void operator()(Index i) const { out[i] = is_finite(double(x[i])) ? double(x[i]) : 0.0; }
};

/// Warm-started block iteration, P <- orth(A (A^T P) + delta P), signs as in P; cold-started by a randomized range finder (Halko,
/// Martinsson, Tropp 2011, alg. 4.4). lowrank/projector/subspace.hpp has the equations. A gradient of which the basis in use holds
/// nothing at all is met by a cold start one step later than on the CPU, since only the device knows.
template <class S, class B>
class ProjectorState<Subspace, S, B> : public DenseProjector<Subspace, S, B> {
  using Base = DenseProjector<Subspace, S, B>;
  using Base::basis_, Base::options_;

 public:
  ProjectorState() = default;
  ProjectorState(const Subspace& options, Index d, Index k) : Base("lowrank::Subspace", options, d, least(d, k)), k_(k) {}

  struct Work {
    S *candidate, *previous;  // d x r, r x k
    Squares squares;
    Orth orth;
    S *wide, *sketch;         // d x l, l x k with l = r + 8
    S* turn;                  // l x r
    double *gram, *ritz;      // l x l, l
    S* gram_of_s;

    Work() = default;
    Work(Arena& arena, const ProjectorState& p)
        : candidate(arena.take<S>(p.basis_.size())), previous(arena.take<S>(p.rank() * p.k_)), squares(arena, p.width(), p.k_),
          orth(arena, p.basis_.rows(), p.width()), wide(arena.take<S>(p.basis_.rows() * p.width())),
          sketch(arena.take<S>(p.width() * p.k_)), turn(arena.take<S>(p.width() * p.rank())),
          gram(arena.take<double>(p.width() * p.width())), ritz(arena.take<double>(p.width())),
          gram_of_s(arena.take<S>(p.width() * p.width())) {}
  };

  template <class Intake>
  void refresh(B& backend, const Intake& a, Work& work, Control<S>* control, bool warm) const {
    const Index d = basis_.rows(), r = this->rank(), n = d * r;
    a.down(basis_.data(), r, work.previous);
    if (!warm) return start(backend, a, work, control);
    backend.copy(work.candidate, basis_.data(), basis_.bytes());
    for (std::int64_t sweep = 0; sweep < options_.sweeps; ++sweep) {
      const S* R = work.previous;
      if (sweep > 0) a.down(work.candidate, r, work.sketch), R = work.sketch;
      normalise(backend, R, r, work, control);
      a.times(transposed<const S>(work.sketch, r), r, work.wide);
      launch(backend, Blend<S>{work.candidate, work.wide, n, r, control});
      work.orth(backend, work.wide, r, basis_.data(), work.candidate);
    }
  }

 private:
  Index width() const { return least(least(this->rank() + 8, basis_.rows()), k_); }

  /// work.sketch = R / ||R||
  void normalise(B& backend, const S* R, Index rows, Work& work, Control<S>* control) const {
    work.squares.template operator()<S, S>(backend, View<const S>{R, rows, k_, 1, rows});
    launch(backend, Norm<S>{work.squares.column, k_, control});
    launch(backend, Normalise<S>{R, work.sketch, rows * k_, control});
  }
  template <class Intake>
  void start(B& backend, const Intake& a, Work& work, Control<S>* control) const {
    const Index d = basis_.rows(), r = this->rank(), l = width();
    launch(backend, FillNormal<S>{work.sketch, k_ * l, options_.seed, 0});
    a.times(columns<const S>(work.sketch, k_), l, work.wide);
    work.orth(backend, work.wide, l, static_cast<const S*>(nullptr), work.wide);
    for (int sweep = 0; sweep < 2; ++sweep) {
      a.down(work.wide, l, work.sketch);
      normalise(backend, work.sketch, l, work, control);
      a.times(transposed<const S>(work.sketch, l), l, work.wide);
      work.orth(backend, work.wide, l, static_cast<const S*>(nullptr), work.wide);
    }
    // P = Q U_r, U the eigenvectors of (Q^T A)(Q^T A)^T with the largest eigenvalues
    a.down(work.wide, l, work.sketch);
    normalise(backend, work.sketch, l, work, control);
    backend.gemm(columns<const S>(work.sketch, l), transposed<const S>(work.sketch, l), columns(work.gram_of_s, l), l, l, k_, Scale<S>{});
    launch(backend, Widen<S>{work.gram_of_s, work.gram, l * l});
    backend.eigh(l, work.gram, work.ritz);
    launch(backend, LastColumns<S>{work.gram, work.turn, l, r});
    backend.gemm(columns<const S>(work.wide, d), columns<const S>(work.turn, l), columns(work.candidate, d), d, r, l, Scale<S>{});
    work.orth(backend, work.candidate, r, static_cast<const S*>(nullptr), work.candidate);
  }

  Index k_ = 0;
};

}  // namespace cuda
}  // namespace lowrank
