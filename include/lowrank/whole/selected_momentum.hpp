// SelectedMomentum: what Trion and Dion2 are. The momentum B collects all of the gradient, in the coordinates of an
// orthogonal transform T (cosines: Trion; none: Dion2). Each step the r rows of B with the largest L1 norms are
// orthogonalised, move the weight, and keep mu of themselves:
//   B <- B + T(A),   idx = the r largest of sum_j |B_ij|,   O = polar(B[idx]),   B[idx] <- mu B[idx]
//   W <- (1 - lr wd) W - lr f T^-1(O at idx),    f = shape_factor(fan_out, fan_in)
// Trion's paper writes it with B in the gradient's domain, B - (1 - mu) T^-1(T(B)[idx]): T is linear, so that is the same.
// State: B (d x k) and the r indices.
#pragma once

#include <lowrank/linalg/newton_schulz.hpp>
#include <lowrank/linalg/top_k.hpp>
#include <lowrank/whole/whole.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

/// Transform provides  Transform(options, d);  Work(arena, transform, threads);
///   load(stage, j0, w, work, slot) -> d x w column-major coefficients of A's columns, in the thread's memory
///   lift(N, r, indices, j0, w, work, slot, stage, sink)  U = T^-1(N at indices) in blocks
template <class Options, class S, class K, class Transform>
class SelectedMomentum : public WholeMethod<Options> {
  using Base = WholeMethod<Options>;
  using Base::d_, Base::k_, Base::r_, Base::options_;

 public:
  SelectedMomentum() = default;
  SelectedMomentum(const char* who, const Options& options, Index d, Index k, Index fan_out, Index fan_in)
      : Base(who, options, d, k, d, fan_out, fan_in),
        transform_(options, d),
        momentum_(Buffer<S>::shaped(d, k)),
        indices_(Buffer<std::int32_t>::shaped(r_, 1)),
        who_(who) {
    check();
  }

  struct Work {
    typename Transform::Work transform;
    linalg::NewtonSchulz<S, K> polar;
    S* core = nullptr;           // r x k
    double* partial = nullptr;   // d scores, then d per tile
    std::int32_t* order = nullptr;

    Work() = default;
    Work(Arena& arena, const SelectedMomentum& m, int threads)
        : transform(arena, m.transform_, threads),
          polar(arena, m.r_, m.k_),
          core(arena.take<S>(m.r_ * m.k_)),
          partial(arena.take<double>(m.d_ * (1 + (m.k_ + linalg::tile_columns - 1) / linalg::tile_columns))),
          order(arena.take<std::int32_t>(m.d_)) {}
  };

  void check() const {
    this->check_rank(who_);
    check_beta(who_, "mu", options_.mu);
    check_decay(who_, options_.weight_decay);
  }
  void begin() {
    for (Index i = 0; i < indices_.size(); ++i) indices_[i] = std::int32_t(i);
  }
  bool valid() const {
    for (Index i = 0; i < indices_.size(); ++i)
      if (indices_[i] < (i == 0 ? 0 : indices_[i - 1] + 1) || indices_[i] >= d_) return false;
    return true;
  }
  const Buffer<std::int32_t>& indices() const { return indices_; }
  const Buffer<S>& momentum() const { return momentum_; }

  void step(const Stage<S, K>& stage, Work& work, Report& report) {
    bool in_place = true;  // the momentum is kept in the transform's coordinates
    if constexpr (requires { options_.domain; }) in_place = options_.domain == MomentumDomain::Transform;
    double* score = work.partial;
    stage.for_tiles([&](Index t, Index j0, Index w, int slot) {
      double* mine = work.partial + (t + 1) * d_;
      std::fill_n(mine, d_, 0.0);
      S* B = momentum_.column(j0);
      const S* B_hat = B;
      if (in_place) {
        const S* x = transform_.load(stage, j0, w, work.transform, slot);
        K::combine(d_ * w, 1.0, x, 1.0, B, B);
      } else {
        stage.each_block([&](Index i0, Index m) {
          S* block = stage.team[slot].stage;
          stage.a.load_gradient(i0, m, j0, w, block, m);
          for (Index j = 0; j < w; ++j) K::combine(m, 1.0, block + j * m, 1.0, B + i0 + j * d_, B + i0 + j * d_);
        });
        B_hat = transform_.coefficients(B, w, work.transform, slot);
      }
      stage.partial[t] = 0;
      for (Index j = 0; j < w; ++j) {
        K::add_abs(d_, B_hat + j * d_, mine);
        stage.partial[t] += K::sum_squares(d_, B_hat + j * d_);
      }
    });
    const double energy = stage.sum();
    std::fill_n(score, d_, 0.0);
    for (Index t = 0; t < stage.tiles(); ++t)
      for (Index i = 0; i < d_; ++i) score[i] += work.partial[(t + 1) * d_ + i];
    linalg::top_k(score, d_, r_, work.order, indices_.data());

    stage.for_tiles([&](Index t, Index j0, Index w, int slot) {
      S* B = momentum_.column(j0);
      S* R = work.core + j0 * r_;
      const S* B_hat = in_place ? B : transform_.coefficients(B, w, work.transform, slot);
      for (Index j = 0; j < w; ++j)
        for (Index i = 0; i < r_; ++i) R[i + j * r_] = B_hat[indices_[i] + j * d_];
      stage.partial[t] = K::sum_squares(r_ * w, R);
      if (in_place) {
        const S mu = S(options_.mu);
        for (Index j = 0; j < w; ++j)
          for (Index i = 0; i < r_; ++i) B[indices_[i] + j * d_] = mu * R[i + j * r_];
      } else {
        transform_.lift(R, r_, indices_.data(), w, work.transform, slot, stage, [&](Index i0, Index m, Index j, Index n, const S* U, Index ld) {
          for (Index q = 0; q < n; ++q) {
            S* to = B + i0 + (j + q) * d_;
            K::combine(m, options_.mu - 1, U + q * ld, 1.0, to, to);
          }
        });
      }
    });
    const double kept = stage.sum();
    report.refreshed = true;
    report.captured = energy > 0 ? std::min(1.0, kept / energy) : 0;

    work.polar(work.core, options_.polynomial, stage.team);
    const double move = stage.step.lr * shape_factor(options_.shape_scale, this->fan_out_, this->fan_in_);
    stage.for_tiles([&](Index, Index j0, Index w, int slot) {
      transform_.lift(work.core + j0 * r_, r_, indices_.data(), w, work.transform, slot, stage, [&](Index i0, Index m, Index j, Index n, const S* U, Index ld) {
        stage.update(i0, m, j0 + j, n, U, ld, move, options_.weight_decay, slot);
      });
    });
  }

  void visit(auto&& f) { visit_state(*this, f); }
  void visit(auto&& f) const { visit_state(*this, f); }

 protected:
  Transform transform_;

 private:
  static void visit_state(auto& self, auto&& f) {
    f("momentum", self.momentum_);
    f("indices", self.indices_);
  }

  Buffer<S> momentum_;
  Buffer<std::int32_t> indices_;
  const char* who_ = "";
};

}  // namespace detail
}  // namespace lowrank
