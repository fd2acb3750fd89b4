// Online Subspace Descent (Liang, Liu, Chen, Liu: arXiv 2408.12857). Adam in the coordinates R = P^T A as GaLore's code runs
// it (eps before bias correction, decay last), then one Adam step of the basis on L = ||P P^T A - A||^2 / ||A||^2,
//   Y = A R^T / ||A||^2,   dL/dP = 2 (P (P^T Y) - 2 Y + Y (P^T P)),   lr_P = basis_lr lr / (the first lr)
// The basis that projected a gradient also lifts its update; it moves afterwards. Nothing orthonormalises it again, so the
// moments keep their coordinates and need no transport.
// Reference: kyleliang919/Online-Subspace-Descent. Deviations: the first basis by block iteration instead of an SVD; no
// weight decay on the basis unless asked for; a gradient of zeros moves the basis nowhere.
// State: P and its two moments (3 d r), M and V (2 k r).
#pragma once

#include <lowrank/whole/start_basis.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class ProjectorState<OnlineSubspace, S, K> : public detail::WholeMethod<OnlineSubspace> {
  using Stage = detail::Stage<S, K>;

 public:
  static constexpr bool normalises = true;

  ProjectorState() = default;
  ProjectorState(const OnlineSubspace& options, Index d, Index k, Index fan_out, Index fan_in)
      : detail::WholeMethod<OnlineSubspace>("lowrank::OnlineSubspace", options, d, k, std::min(d, k), fan_out, fan_in),
        basis_(Buffer<S>::shaped(d, r_)),
        basis_first_(Buffer<S>::shaped(d, r_)),
        basis_second_(Buffer<S>::shaped(d, r_)),
        first_(Buffer<S>::shaped(r_, k)),
        second_(Buffer<S>::shaped(r_, k)) {
    check();
  }

  struct Work {
    linalg::PackedBasis<S, K> packed;
    linalg::Orth<S, K> orth;
    S *core = nullptr, *tiles = nullptr;                                  // R, r x k; r x 64 per thread
    S *along = nullptr, *gradient = nullptr, *square = nullptr;           // Y and dL/dP, d x r; r x r

    Work() = default;
    Work(Arena& arena, const ProjectorState& p, int threads)
        : packed(arena, p.d_, p.r_),
          orth(arena, p.d_, p.r_),
          core(arena.take<S>(p.r_ * p.k_)),
          tiles(arena.take<S>(p.r_ * linalg::tile_columns * threads)),
          along(arena.take<S>(p.d_ * p.r_)),
          gradient(arena.take<S>(p.d_ * p.r_)),
          square(arena.take<S>(p.r_ * p.r_)) {}
  };

  void check() const {
    const char* who = "lowrank::OnlineSubspace";
    this->check_rank(who);
    const OnlineSubspace& o = options_;
    detail::check_beta(who, "beta1", o.beta1);
    detail::check_beta(who, "beta2", o.beta2);
    detail::check_beta(who, "basis_beta1", o.basis_beta1);
    detail::check_beta(who, "basis_beta2", o.basis_beta2);
    const auto positive = [&](const char* name, double x) {
      detail::require(x >= 0 && x < 1e30, who, name, x, "a number >= 0");
    };
    detail::require(o.eps >= 1e-30 && o.eps < 1e30, who, "eps", o.eps, "a number >= 1e-30");
    detail::require(o.basis_eps >= 1e-30 && o.basis_eps < 1e30, who, "basis_eps", o.basis_eps, "a number >= 1e-30");
    positive("scale", o.scale), positive("basis_lr", o.basis_lr);
    positive("basis_weight_decay", o.basis_weight_decay);
    detail::check_decay(who, o.weight_decay);
  }
  /// Unit vectors until the first gradient that is not zero.
  void begin() {
    for (Index i = 0; i < r_; ++i) basis_(i, i) = S(1);
  }
  bool valid() const {
    for (const Buffer<S>* V : {&second_, &basis_second_})
      for (Index i = 0; i < V->size(); ++i)
        if ((*V)[i] < 0) return false;
    return basis_steps_ < (std::uint64_t(1) << 62);
  }
  const Buffer<S>& basis() const { return basis_; }

  void step(const Stage& stage, Work& work, Report& report) {
    const auto& team = stage.team;
    const OnlineSubspace& o = options_;
    bool moves = report.grad_norm > 0;
    if (basis_steps_ == 0 && moves) {
      moves = detail::start_basis(stage, work.gradient, work.core, o.seed, work.packed, work.orth);
      if (moves) std::memcpy(basis_.data(), work.gradient, basis_.bytes());
    }
    if (first_lr_ == 0) first_lr_ = stage.step.lr;
    work.packed.pack_down(linalg::transposed<K, S>(basis_.data(), d_), team);
    work.packed.pack_up(linalg::columns<K, S>(basis_.data(), d_), team);
    detail::project_core(stage, work.packed, work.core);
    const double energy = report.grad_norm * report.grad_norm;
    report.captured = energy > 0 ? std::min(1.0, stage.sum() / energy) : 0;
    report.refreshed = moves;
    if (moves) gradient(stage, work, 1 / report.grad_norm);

    const double t = double(stage.t), bc1 = 1 - std::pow(o.beta1, t), bc2 = 1 - std::pow(o.beta2, t);
    const double move = stage.step.lr * o.scale * std::sqrt(bc2) / bc1;
    stage.for_tiles([&](Index, Index j0, Index w, int slot) {
      const Index at = j0 * r_;
      S* N = work.tiles + slot * r_ * linalg::tile_columns;
      K::adam(w * r_, work.core + at, first_.data() + at, second_.data() + at, N, o.beta1, o.beta2, o.eps);
      work.packed.lift(N, w, team[slot], [&](Index i0, Index m, Index j, Index n, const S* U, Index ld) {
        detail::write_block<S, K>(stage.w, stage.key, i0, m, j0 + j, n, U, ld, team[slot].stage, move,
                                  {1, 1 - stage.step.lr * o.weight_decay});
      });
    });
    if (!moves) return;
    ++basis_steps_;
    const double s = double(basis_steps_), c1 = 1 - std::pow(o.basis_beta1, s), c2 = 1 - std::pow(o.basis_beta2, s);
    const double lr = first_lr_ > 0 ? o.basis_lr * stage.step.lr / first_lr_ : 0;
    K::adam(d_ * r_, work.gradient, basis_first_.data(), basis_second_.data(), work.along, o.basis_beta1, o.basis_beta2,
            o.basis_eps * std::sqrt(c2));
    K::update(d_ * r_, basis_.data(), work.along, lr * std::sqrt(c2) / c1, 1 - lr * o.basis_weight_decay, 1);
  }

  void visit(auto&& f) { visit_state(*this, f); }
  void visit(auto&& f) const { visit_state(*this, f); }

 private:
  /// work.gradient <- dL/dP; `inverse` is 1 / ||A||.
  void gradient(const Stage& stage, Work& work, double inverse) const {
    const auto& team = stage.team;
    const auto P = linalg::columns<K, S>(basis_.data(), d_), Pt = linalg::transposed<K, S>(basis_.data(), d_);
    const auto Y = linalg::columns<K, S>(work.along, d_), square = linalg::columns<K, S>(work.square, r_);
    const Index n = d_ * r_;
    S *y = work.along, *g = work.gradient;
    linalg::gemm<K>(d_, r_, k_, stage.a, linalg::transposed<K, S>(work.core, r_), y, d_, team);
    for (int twice = 0; twice < 2; ++twice) K::combine(n, inverse, y, 0.0, y, y);
    linalg::gemm<K>(r_, r_, d_, Pt, P, work.square, r_, team);
    linalg::gemm<K>(d_, r_, r_, Y, square, g, d_, team);
    K::combine(n, 2.0, g, -4.0, y, g);
    linalg::gemm<K>(r_, r_, d_, Pt, Y, work.square, r_, team);
    linalg::gemm<K>(d_, r_, r_, P, square, y, d_, team);
    K::combine(n, 1.0, g, 2.0, y, g);
  }

  static void visit_state(auto& self, auto&& f) {
    f("basis", self.basis_);
    f("basis_exp_avg", self.basis_first_);
    f("basis_exp_avg_sq", self.basis_second_);
    f("exp_avg", self.first_);
    f("exp_avg_sq", self.second_);
    f("basis_steps", self.basis_steps_);
    f("first_lr", self.first_lr_);
  }

  Buffer<S> basis_, basis_first_, basis_second_, first_, second_;
  std::uint64_t basis_steps_ = 0;
  double first_lr_ = 0;
};

}  // namespace lowrank
