// Dion (Ahn et al., arXiv 2504.05295, alg. 1): the momentum keeps what a rank-r update leaves over.
//   B <- B + A,   P = orth(B Q),   R = B^T P,   B <- B - (1 - mu) P R^T,   Q_:i = R_:i / (||R_:i|| + 1e-8)
//   W <- (1 - lr wd) W - lr f P Q^T,    f = shape_factor(fan_out, fan_in)
// P is d x r along the larger dimension (Side::Larger), Q k x r along the other. Reference: microsoft/dion.
// Deviations: Q starts as our own Gaussian; orth() is Cholesky-QR with its fall-back, so a momentum of rank below r gives
// unit vectors and no NaN to be zeroed; a momentum of zeros leaves Q alone.
// State: d k + k r. Three products with r columns a step, the basis is never stored.
#pragma once

#include <lowrank/linalg/orth.hpp>
#include <lowrank/whole/whole.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class ProjectorState<Dion, S, K> : public detail::WholeMethod<Dion> {
 public:
  ProjectorState() = default;
  ProjectorState(const Dion& options, Index d, Index k, Index fan_out, Index fan_in)
      : detail::WholeMethod<Dion>("lowrank::Dion", options, d, k, std::min(d, k), fan_out, fan_in),
        momentum_(Buffer<S>::shaped(d, k)),
        right_(Buffer<S>::shaped(r_, k)) {
    check();
  }

  struct Work {
    linalg::PackedBasis<S, K> packed;
    linalg::Orth<S, K> orth;
    S* basis = nullptr;        // P, d x r
    double* squares = nullptr;  // of the rows of R^T, then the same per tile

    Work() = default;
    Work(Arena& arena, const ProjectorState& p, int)
        : packed(arena, p.d_, p.r_),
          orth(arena, p.d_, p.r_),
          basis(arena.take<S>(p.d_ * p.r_)),
          squares(arena.take<double>(p.r_ * (1 + (p.k_ + linalg::tile_columns - 1) / linalg::tile_columns))) {}
  };

  void check() const {
    this->check_rank("lowrank::Dion");
    detail::check_beta("lowrank::Dion", "mu", options_.mu);
    detail::check_decay("lowrank::Dion", options_.weight_decay);
  }
  /// Q^T with independent N(0, 1) entries.
  void begin() { fill_normal(right_.data(), right_.size(), options_.seed, 0, 0); }
  const Buffer<S>& momentum() const { return momentum_; }
  const Buffer<S>& right() const { return right_; }  // Q^T, r x k

  void step(const detail::Stage<S, K>& stage, Work& work, Report& report) {
    const auto& team = stage.team;
    stage.for_tiles([&](Index t, Index j0, Index w, int slot) {
      stage.partial[t] = 0;
      stage.each_block([&](Index i0, Index m) {
        S* block = team[slot].stage;
        stage.a.load_gradient(i0, m, j0, w, block, m);
        for (Index j = 0; j < w; ++j) {
          S* B = momentum_.column(j0 + j) + i0;
          K::combine(m, 1.0, block + j * m, 1.0, B, B);
          stage.partial[t] += K::sum_squares(m, B);
        }
      });
    });
    const double energy = stage.sum();
    double kept = 0;
    const bool zero = energy == 0;
    if (!zero) {
      linalg::gemm<K>(d_, r_, k_, linalg::columns<K, S>(momentum_.data(), d_), linalg::transposed<K, S>(right_.data(), r_),
                      work.basis, d_, team);
      work.orth(work.basis, team);
      work.packed.pack_down(linalg::transposed<K, S>(work.basis, d_), team);
      work.packed.pack_up(linalg::columns<K, S>(work.basis, d_), team);
      const linalg::Strided<S, K> momentum = linalg::columns<K, S>(momentum_.data(), d_);
      stage.for_tiles([&](Index t, Index j0, Index w, int slot) {
        S* R = right_.column(j0);
        work.packed.project(momentum, j0, w, R, nullptr, team[slot]);
        double* mine = work.squares + (t + 1) * r_;
        std::fill_n(mine, r_, 0.0);
        for (Index j = 0; j < w; ++j) K::add_squares(r_, R + j * r_, mine);
        work.packed.lift(R, w, team[slot], [&](Index i0, Index m, Index j, Index n, const S* U, Index ld) {
          for (Index q = 0; q < n; ++q) {
            S* B = momentum_.column(j0 + j + q) + i0;
            K::combine(m, options_.mu - 1, U + q * ld, 1.0, B, B);
          }
        });
      });
      for (Index i = 0; i < r_; ++i) {
        double square = 0;
        for (Index t = 0; t < stage.tiles(); ++t) square += work.squares[(t + 1) * r_ + i];
        kept += square;
        work.squares[i] = 1 / (std::sqrt(square) + 1e-8);
      }
    }
    report.refreshed = !zero;
    report.captured = zero ? 0 : std::min(1.0, kept / energy);

    const double move = stage.step.lr * shape_factor(options_.shape_scale, fan_out_, fan_in_);
    stage.for_tiles([&](Index, Index j0, Index w, int slot) {
      if (zero) {
        S* U = team[slot].rows;
        stage.each_block([&](Index i0, Index m) {
          std::memset(U, 0, std::size_t(m * w) * sizeof(S));
          stage.update(i0, m, j0, w, U, m, 0, options_.weight_decay, slot);
        });
        return;
      }
      S* Q = right_.column(j0);
      for (Index j = 0; j < w; ++j)
        for (Index i = 0; i < r_; ++i) Q[i + j * r_] = S(double(Q[i + j * r_]) * work.squares[i]);
      work.packed.lift(Q, w, team[slot], [&](Index i0, Index m, Index j, Index n, const S* U, Index ld) {
        stage.update(i0, m, j0 + j, n, U, ld, move, options_.weight_decay, slot);
      });
    });
  }

  void visit(auto&& f) { visit_state(*this, f); }
  void visit(auto&& f) const { visit_state(*this, f); }

 private:
  static void visit_state(auto& self, auto&& f) {
    f("momentum", self.momentum_);
    f("right", self.right_);
  }

  Buffer<S> momentum_, right_;
};

}  // namespace lowrank
