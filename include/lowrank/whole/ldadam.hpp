// LDAdam (Robert, Safaryan, Modoranu, Alistarh: arXiv 2410.16103, alg. 1). With s steps done, c1 = 1 - b1^s, c2 = 1 - b2^s:
//   A = G + E,   B = rho P_ M / c1 + (1 - rho) A,   P = orth(B (B^T P_)),   R = P^T A,   C = P^T P_
//   E <- A - P R + b1 / (1 - b1) (P_ M - P C M)
//   V <- | c2 ((C o C)(V / c2 - M o M / c1^2) + (C M) o (C M) / c1^2) |,   M <- C M,   then Adam's step on R, W -= lr P N
// B is never formed:  B^T P_ = rho / c1 M^T + (1 - rho) A^T P_ = T^T,   B T^T = (1 - rho) A T^T + rho / c1 P_ (M T^T).
// Reference: IST-DASLab/LDAdam. Deviations: the first basis by four sweeps of block iteration from a Gaussian instead of an
// SVD; error and step count are state of the optimizer (there: the gradient's buffer and an attribute, both lost in a
// checkpoint); a step in which B^T P_ is zero keeps the basis.
// State: P (d r), M and V (2 k r), E (d k, none with Feedback::Off).
#pragma once

#include <lowrank/whole/start_basis.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class ProjectorState<LdAdam, S, K> : public detail::WholeMethod<LdAdam> {
  using Stage = detail::Stage<S, K>;

 public:
  ProjectorState() = default;
  ProjectorState(const LdAdam& options, Index d, Index k, Index fan_out, Index fan_in)
      : detail::WholeMethod<LdAdam>("lowrank::LdAdam", options, d, k, std::min(d, k), fan_out, fan_in),
        basis_(Buffer<S>::shaped(d, r_)),
        first_(Buffer<S>::shaped(r_, k)),
        second_(Buffer<S>::shaped(r_, k)),
        error_(options.feedback == Feedback::On ? linalg::CompactMatrix<S>(d, k, Storage::Full) : linalg::CompactMatrix<S>()) {
    check();
  }

  struct Work {
    linalg::PackedBasis<S, K> packed;
    linalg::TransportWork<S, K> transport;
    linalg::Orth<S, K> orth;
    S *basis = nullptr, *along = nullptr;    // new P and a second d x r
    S *core = nullptr, *tiles = nullptr;     // R or T, r x k; r x 64 per thread
    S *rotation = nullptr;                   // C, or M T^T: r x r

    Work() = default;
    Work(Arena& arena, const ProjectorState& p, int threads)
        : packed(arena, p.d_, p.r_),
          transport(arena, p.r_, threads),
          orth(arena, p.d_, p.r_),
          basis(arena.take<S>(p.d_ * p.r_)),
          along(arena.take<S>(p.d_ * p.r_)),
          core(arena.take<S>(p.r_ * p.k_)),
          tiles(arena.take<S>(p.r_ * linalg::tile_columns * threads)),
          rotation(arena.take<S>(p.r_ * p.r_)) {}
  };

  void check() const {
    const char* who = "lowrank::LdAdam";
    this->check_rank(who);
    detail::check_beta(who, "beta1", options_.beta1);
    detail::check_beta(who, "beta2", options_.beta2);
    detail::require(options_.eps >= 1e-30 && options_.eps < 1e30, who, "eps", options_.eps, "a number >= 1e-30");
    detail::require(options_.rho >= 0 && options_.rho <= 1, who, "rho", options_.rho, "0 <= rho <= 1");
    detail::check_decay(who, options_.weight_decay);
  }
  /// Unit vectors until the first gradient that is not zero.
  void begin() {
    for (Index i = 0; i < r_; ++i) basis_(i, i) = S(1);
  }
  bool valid() const {
    for (Index i = 0; i < second_.size(); ++i)
      if (second_[i] < 0) return false;
    return started_ <= 1;
  }
  const Buffer<S>& basis() const { return basis_; }
  const linalg::CompactMatrix<S>* error() const { return feeds_back() ? &error_ : nullptr; }

  void step(const Stage& stage, Work& work, Report& report) {
    const auto& team = stage.team;
    const double b1 = options_.beta1, b2 = options_.beta2;
    const double s = double(stage.t - 1), c1 = 1 - std::pow(b1, s), c2 = 1 - std::pow(b2, s);
    const bool before = started_ == 1;
    report.refreshed = before ? follow(stage, work, c1)
                              : detail::start_basis(stage, work.basis, work.core, options_.seed, work.packed, work.orth);
    if (!report.refreshed) std::memcpy(work.basis, basis_.data(), basis_.bytes());

    // R = P^T A
    work.packed.pack_down(linalg::transposed<K, S>(work.basis, d_), team);
    detail::project_core(stage, work.packed, work.core);
    const double energy = report.grad_norm * report.grad_norm;
    report.captured = energy > 0 ? std::min(1.0, stage.sum() / energy) : 0;

    const double kappa = b1 / (1 - b1);
    const bool feedback = feeds_back();
    if (feedback) lose(stage, work, before ? kappa : 0);
    if (before) {
      linalg::gemm<K>(r_, r_, d_, linalg::transposed<K, S>(work.basis, d_), linalg::columns<K, S>(basis_.data(), d_),
                      work.rotation, r_, team);
      linalg::transport<S, K>({linalg::BasisChange<S>::Kind::Rotate, nullptr, work.rotation}, k_, first_.data(),
                              second_.data(), c1, c2, work.transport, team);
    }
    std::memcpy(basis_.data(), work.basis, basis_.bytes());
    if (report.refreshed) started_ = 1;

    work.packed.pack_up(linalg::columns<K, S>(basis_.data(), d_), team);
    const double bc1 = 1 - std::pow(b1, s + 1), bc2 = 1 - std::pow(b2, s + 1), eps = options_.eps * std::sqrt(bc2);
    const double move = stage.step.lr * std::sqrt(bc2) / bc1;
    stage.for_tiles([&](Index, Index j0, Index w, int slot) {
      const Index at = j0 * r_, n = w * r_;
      S* N = work.tiles + slot * r_ * linalg::tile_columns;
      if (feedback) {  // E <- E - P (R + kappa C M)
        K::combine(n, 1.0, work.core + at, before ? kappa : 0.0, first_.data() + at, N);
        work.packed.lift(N, w, team[slot], [&](Index i0, Index m, Index j, Index q, const S* U, Index ld) {
          for (Index c = 0; c < q; ++c) {
            S* E = error_.full().column(j0 + j + c) + i0;
            K::combine(m, 1.0, E, -1.0, U + c * ld, E);
          }
        });
      }
      K::adam(n, work.core + at, first_.data() + at, second_.data() + at, N, b1, b2, eps);
      work.packed.lift(N, w, team[slot], [&](Index i0, Index m, Index j, Index q, const S* U, Index ld) {
        stage.update(i0, m, j0 + j, q, U, ld, move, options_.weight_decay, slot);
      });
    });
  }

  void visit(auto&& f) { visit_state(*this, f); }
  void visit(auto&& f) const { visit_state(*this, f); }

 private:
  bool feeds_back() const { return error_.rows() > 0; }

  /// work.basis <- orth(B T^T), false when T is zero.
  bool follow(const Stage& stage, Work& work, double c1) const {
    const auto& team = stage.team;
    const double old = c1 > 0 ? options_.rho / c1 : 0, fresh = 1 - options_.rho;
    work.packed.pack_down(linalg::transposed<K, S>(basis_.data(), d_), team);
    stage.for_tiles([&](Index t, Index j0, Index w, int slot) {
      S* T = work.core + j0 * r_;
      work.packed.project(stage.a, j0, w, T, nullptr, team[slot]);
      K::combine(r_ * w, old, first_.data() + j0 * r_, fresh, T, T);
      stage.partial[t] = K::sum_squares(r_ * w, T);
    });
    if (!detail::normalise_core(stage, work.core, r_)) return false;
    const auto T = linalg::transposed<K, S>(work.core, r_);
    linalg::gemm<K>(d_, r_, k_, stage.a, T, work.basis, d_, team);
    linalg::gemm<K>(r_, r_, k_, linalg::columns<K, S>(first_.data(), r_), T, work.rotation, r_, team);
    linalg::gemm<K>(d_, r_, r_, linalg::columns<K, S>(basis_.data(), d_), linalg::columns<K, S>(work.rotation, r_), work.along, d_, team);
    K::combine(d_ * r_, old, work.along, fresh, work.basis, work.basis);
    work.orth(work.basis, team);
    return true;
  }

  /// E <- A + kappa P_ M; the new basis' part of it is taken off once the moments have moved.
  void lose(const Stage& stage, Work& work, double kappa) {
    const auto& team = stage.team;
    if (kappa != 0) work.packed.pack_up(linalg::columns<K, S>(basis_.data(), d_), team);
    stage.for_tiles([&](Index, Index j0, Index w, int slot) {
      const auto add = [&](Index i0, Index m, Index j, Index n, const S* U, Index ld) {
        S* block = team[slot].stage;
        stage.a.load(i0, m, j0 + j, n, block, m);
        for (Index c = 0; c < n; ++c)
          K::combine(m, 1.0, block + c * m, U == nullptr ? 0.0 : kappa, U + c * ld, error_.full().column(j0 + j + c) + i0);
      };
      if (kappa != 0) work.packed.lift(first_.data() + j0 * r_, w, team[slot], add);
      else stage.each_block([&](Index i0, Index m) { add(i0, m, 0, w, nullptr, 0); });
    });
  }

  static void visit_state(auto& self, auto&& f) {
    f("basis", self.basis_);
    f("exp_avg", self.first_);
    f("exp_avg_sq", self.second_);
    f("error", self.error_.full());
    f("started", self.started_);
  }

  Buffer<S> basis_, first_, second_;
  linalg::CompactMatrix<S> error_;
  std::uint64_t started_ = 0;  // the basis has seen a gradient
};

}  // namespace lowrank
