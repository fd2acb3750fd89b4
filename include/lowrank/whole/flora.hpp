// Flora (Hao, Cao, Mou: arXiv 2402.03293, alg. 2): Adafactor in full space, whose momentum is kept in r random dimensions.
//   U_ij = A_ij / sqrt(p_i q_j / mean(p)),   U <- U / max(1, rms(U) / clip)          (rule/adafactor.hpp has p and q)
//   M <- b1 M + (1-b1) P^T U,   W <- (1 - lr wd) W - lr P M,      P: independent N(0, 1/r) entries, E P P^T = I
// Every refresh_every steps P is drawn anew and M moves, M <- P_new^T P_old M. P comes from its seed and is never kept; U is
// never formed. A move multiplies what is random in P M by sqrt(d / r), so refresh_every has to be long against 1 / (1 - b1):
// with b1^refresh_every sqrt(d / r) > 1 the momentum grows without bound. Reference: BorealisAI/flora-opt, read for its equations only. Deviations: the learning rate is the caller's
// and enters after the momentum; every shape is projected (there, only aspect ratios up to 4).
// State: M (k r), p (d), q (k) and the number of draws. The gradient is read four times a step.
#pragma once

#include <lowrank/core/rng.hpp>
#include <lowrank/rule/adafactor.hpp>
#include <lowrank/whole/whole.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class ProjectorState<Flora, S, K> : public detail::WholeMethod<Flora> {
  using Stage = detail::Stage<S, K>;

 public:
  ProjectorState() = default;
  ProjectorState(const Flora& options, Index d, Index k, Index fan_out, Index fan_in)
      : detail::WholeMethod<Flora>("lowrank::Flora", options, d, k, std::min(d, k), fan_out, fan_in),
        momentum_(Buffer<S>::shaped(r_, k)),
        row_(Buffer<S>::shaped(d, 1)),
        column_(Buffer<S>::shaped(k, 1)) {
    check();
  }

  struct Work {
    linalg::PackedBasis<S, K> packed;
    linalg::TransportWork<S, K> transport;
    detail::SquareSums<S, K> sums;
    S *basis = nullptr, *before = nullptr;  // P and the one it replaces, d x r
    S *rotation = nullptr, *tiles = nullptr;
    S *across = nullptr, *down = nullptr;   // factors of U's columns and rows: k, d

    Work() = default;
    Work(Arena& arena, const ProjectorState& p, int threads)
        : packed(arena, p.d_, p.r_),
          transport(arena, p.r_, threads),
          sums(arena, p.d_, p.k_),
          basis(arena.take<S>(p.d_ * p.r_)),
          before(arena.take<S>(p.d_ * p.r_)),
          rotation(arena.take<S>(p.r_ * p.r_)),
          tiles(arena.take<S>(p.r_ * linalg::tile_columns * threads)),
          across(arena.take<S>(p.k_)),
          down(arena.take<S>(p.d_)) {}
  };

  void check() const {
    const char* who = "lowrank::Flora";
    check_rank(who);
    detail::check_beta(who, "beta1", options_.beta1);
    detail::require(options_.decay_power > 0 && options_.decay_power <= 1, who, "decay_power", options_.decay_power,
                    "0 < decay_power <= 1");
    detail::require(options_.eps >= 1e-35 && options_.eps < 1e30, who, "eps", options_.eps, "a number >= 1e-35");
    if (!(options_.clip > 0) || detail::is_nan(options_.clip))
      detail::bad_argument(who, "clip = " + std::to_string(options_.clip), "a number > 0 (infinity: off)");
    detail::check_decay(who, options_.weight_decay);
  }
  bool valid() const {
    for (const Buffer<S>* factor : {&row_, &column_})
      for (Index i = 0; i < factor->size(); ++i)
        if (!((*factor)[i] >= 0) || (draws_ > 0 && (*factor)[i] == 0)) return false;
    return true;
  }

  void step(const Stage& stage, Work& work, Report& report) {
    const auto& team = stage.team;
    const bool due = draws_ == 0 || (options_.refresh_every > 0 && (stage.t - 1) % std::uint64_t(options_.refresh_every) == 0);
    if (due && draws_ > 0) {
      draw(draws_, work.before, team);
      draw(draws_ + 1, work.basis, team);
      linalg::gemm<K>(r_, r_, d_, linalg::transposed<K, S>(work.basis, d_), linalg::columns<K, S>(work.before, d_), work.rotation, r_, team);
      linalg::transport<S, K>({linalg::BasisChange<S>::Kind::Rotate, nullptr, work.rotation}, k_, momentum_.data(), nullptr,
                              1, 1, work.transport, team);
    } else {
      draw(draws_ + (due ? 1 : 0), work.basis, team);
    }
    if (due) ++draws_;
    report.refreshed = due;

    factors(stage, work);
    const Scaled U{stage.a, work.down, work.across};
    stage.for_tiles([&](Index t, Index j0, Index w, int slot) {
      stage.partial[t] = 0;
      stage.each_block([&](Index i0, Index m) {
        U.load(i0, m, j0, w, team[slot].stage, m);
        for (Index j = 0; j < w; ++j) stage.partial[t] += K::sum_squares(m, team[slot].stage + j * m);
      });
    });
    const double rms = std::sqrt(stage.sum() / (double(d_) * double(k_)));
    const double fresh = (1 - options_.beta1) / std::max(1.0, rms / options_.clip);

    work.packed.pack_down(linalg::transposed<K, S>(work.basis, d_), team);
    work.packed.pack_up(linalg::columns<K, S>(work.basis, d_), team);
    stage.for_tiles([&](Index, Index j0, Index w, int slot) {
      S* R = work.tiles + slot * r_ * linalg::tile_columns;
      S* M = momentum_.column(j0);
      work.packed.project(U, j0, w, R, nullptr, team[slot]);
      K::combine(r_ * w, fresh, R, options_.beta1, M, M);
      work.packed.lift(M, w, team[slot], [&](Index i0, Index m, Index j, Index n, const S* V, Index ld) {
        stage.update(i0, m, j0 + j, n, V, ld, stage.step.lr, options_.weight_decay, slot);
      });
    });
  }

  void visit(auto&& f) { visit_state(*this, f); }
  void visit(auto&& f) const { visit_state(*this, f); }

 private:
  /// U before clipping, as an operand.
  struct Scaled {
    const linalg::Source<S, K>& a;
    const S *down, *across;
    void load(Index i0, Index m, Index j0, Index n, S* dst, Index ld) const {
      a.load_gradient(i0, m, j0, n, dst, ld);
      for (Index j = 0; j < n; ++j)
        for (Index i = 0; i < m; ++i) dst[i + j * ld] = dst[i + j * ld] * down[i0 + i] * across[j0 + j];
    }
    linalg::Strided<S, K> in_place(Index, Index) const { return {nullptr, 1, 0}; }
  };

  void factors(const Stage& stage, Work& work) {
    std::fill_n(work.sums.columns, k_, 0.0);
    stage.for_tiles([&](Index, Index j0, Index w, int slot) {
      stage.each_block([&](Index i0, Index m) {
        stage.a.load_gradient(i0, m, j0, w, stage.team[slot].stage, m);
        work.sums.add(stage.team[slot].stage, m, i0, m, j0, w, d_);
      });
    });
    work.sums.finish(d_, k_);
    const double beta2 = 1 - std::pow(double(stage.t), -options_.decay_power);
    detail::update_factor(row_, work.sums.rows, beta2, double(k_), options_.eps);
    detail::update_factor(column_, work.sums.columns, beta2, double(d_), options_.eps);
    const double mean = detail::mean_of(row_);
    for (Index i = 0; i < d_; ++i) work.down[i] = S(std::sqrt(mean / double(row_[i])));
    for (Index j = 0; j < k_; ++j) work.across[j] = S(1 / std::sqrt(double(column_[j])));
  }

  /// P of the c-th draw.
  void draw(std::uint64_t c, S* P, const linalg::Team<S, K>& team) const {
    const Index piece = 4096;
    detail::for_each((d_ * r_ + piece - 1) / piece, team.threads(), [&](Index i, int) {
      S* x = P + i * piece;
      const Index n = std::min(piece, d_ * r_ - i * piece);
      fill_normal(x, n, options_.seed, c, std::uint64_t(i * piece));
      K::combine(n, 1 / std::sqrt(double(r_)), x, 0.0, x, x);
    });
  }

  static void visit_state(auto& self, auto&& f) {
    f("momentum", self.momentum_);
    f("row", self.row_);
    f("column", self.column_);
    f("draws", self.draws_);
  }

  Buffer<S> momentum_, row_, column_;
  std::uint64_t draws_ = 0;
};

}  // namespace lowrank
