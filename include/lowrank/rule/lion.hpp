// Lion (arXiv 2302.06675, alg. 2):  N = sign(b1 M + (1-b1) R),  then  M <- b2 M + (1-b2) R.  State: M, r x k.
#pragma once

#include <lowrank/rule/momentum.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class RuleState<Lion, S, K> : public detail::OneMoment<Lion, S, K> {
  using Base = detail::OneMoment<Lion, S, K>;

 public:
  RuleState() = default;
  RuleState(const Lion& options, Index r, Index k) : Base(options, r, k) { check(); }

  void check() const {
    detail::check_beta("lowrank::Lion", "beta1", this->options().beta1);
    detail::check_beta("lowrank::Lion", "beta2", this->options().beta2);
    detail::check_decay("lowrank::Lion", this->options().weight_decay);
  }

  void direction(const S* R, Index ldr, S* N, Index ldn, Index i0, Index m, Index j0, Index w) {
    const Lion& o = this->options();
    detail::for_columns(R, ldr, N, ldn, i0, m, j0, w, this->first_.rows(), [&](const S* x, S* out, Index at, Index n) {
      K::lion(n, x, this->first_.data() + at, out, o.beta1, o.beta2);
    });
  }
};

}  // namespace lowrank
