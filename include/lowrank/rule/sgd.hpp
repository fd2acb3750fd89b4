// SGD with momentum (Polyak 1964; Nesterov's form as PyTorch writes it).
//   M <- mu M + (1 - dampening) R  (the first step: M = R);  N = M, or R + mu M
// State: M, r x k; none when momentum is 0 at construction.
#pragma once

#include <lowrank/rule/momentum.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class RuleState<Sgd, S, K> : public detail::OneMoment<Sgd, S, K> {
  using Base = detail::OneMoment<Sgd, S, K>;

 public:
  RuleState() = default;
  RuleState(const Sgd& options, Index r, Index k)
      : Base(options, options.momentum == 0 ? 0 : r, options.momentum == 0 ? 0 : k) {
    check();
  }

  void check() const {
    const Sgd& o = this->options();
    detail::check_beta("lowrank::Sgd", "momentum", o.momentum);
    detail::require(o.dampening >= 0 && o.dampening <= 1, "lowrank::Sgd", "dampening", o.dampening, "0 <= dampening <= 1");
    detail::check_decay("lowrank::Sgd", o.weight_decay);
    detail::require(o.momentum == 0 || this->first_.size() > 0, "lowrank::Sgd", "momentum", o.momentum,
                    "0, as at construction: no momentum buffer was allocated");
  }

  void direction(const S* R, Index ldr, S* N, Index ldn, Index i0, Index m, Index j0, Index w) {
    const Sgd& o = this->options();
    if (this->first_.size() == 0) {
      for (Index j = 0; j < w; ++j) std::memmove(N + j * ldn, R + j * ldr, std::size_t(m) * sizeof(S));
      return;
    }
    const double fresh = this->steps_ == 1 ? 1.0 : 1 - o.dampening;
    detail::for_columns(R, ldr, N, ldn, i0, m, j0, w, this->first_.rows(), [&](const S* x, S* out, Index at, Index n) {
      K::momentum(n, x, this->first_.data() + at, out, o.momentum, fresh, o.form == Momentum::Nesterov);
    });
  }
};

}  // namespace lowrank
