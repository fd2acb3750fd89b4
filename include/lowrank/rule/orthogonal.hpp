// Orthogonal: momentum, then its orthogonal factor by Newton-Schulz (Jordan et al., Muon, 2024; Bernstein and Newhouse,
// arXiv 2409.20325).
//   M <- mu M + R,   N = polar(M) or polar(R + mu M) (Nesterov),   gain = shape_factor(fan_out, fan_in)
// polar(X) is U V^T of X = U diag(s) V^T, approximately: see linalg/newton_schulz.hpp. The factor is of the user's shape,
// which a projection or a storage order does not change.
// State: M, r x k. Workspace: one more r x k and two squares of the smaller side.
#pragma once

#include <lowrank/linalg/newton_schulz.hpp>
#include <lowrank/rule/momentum.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class RuleState<Orthogonal, S, K> : public detail::OneMoment<Orthogonal, S, K> {
  using Base = detail::OneMoment<Orthogonal, S, K>;

 public:
  RuleState() = default;
  RuleState(const Orthogonal& options, Index r, Index k, Index fan_out, Index fan_in)
      : Base(options, r, k), fan_out_(fan_out), fan_in_(fan_in) {
    check();
  }

  struct Work {
    linalg::NewtonSchulz<S, K> polar;

    Work() = default;
    Work(Arena& arena, Index r, Index k, int) : polar(arena, r, k) {}
  };

  void check() const {
    detail::check_beta("lowrank::Orthogonal", "momentum", this->options_.momentum);
    detail::check_decay("lowrank::Orthogonal", this->options_.weight_decay);
  }

  double gain() const { return shape_factor(this->options_.shape_scale, double(fan_out_), double(fan_in_)); }

  void direction(const S* R, S* N, const Work& work, const linalg::Team<S, K>& team) {
    const Orthogonal& o = this->options_;
    const Index r = this->first_.rows(), k = this->first_.cols(), tile = linalg::tile_columns;
    detail::for_each((k + tile - 1) / tile, team.threads(), [&](Index t, int) {
      const Index at = t * tile * r, n = std::min(tile, k - t * tile) * r;
      K::momentum(n, R + at, this->first_.data() + at, N + at, o.momentum, 1.0, o.form == Momentum::Nesterov);
    });
    work.polar(N, o.polynomial, team);
  }

 private:
  Index fan_out_ = 1, fan_in_ = 1;
};

}  // namespace lowrank
