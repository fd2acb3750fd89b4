// AdamW in both published forms (arXiv 1412.6980, 1711.05101).
//   M <- b1 M + (1-b1) R,  V <- b2 V + (1-b2) R o R,  bc_i = 1 - b_i^t
//   AfterCorrection   N = M / (sqrt(V) + eps sqrt(bc2))      = sqrt(bc2) * (usual corrected direction)
//   BeforeCorrection  N = M / (sqrt(V) + eps)
//   gain = sqrt(bc2) / bc1 in both, so W moves by the corrected direction.
// State: M and V, r x k each.
#pragma once

#include <lowrank/rule/rule.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class RuleState<AdamW, S, K> {
 public:
  RuleState() = default;
  RuleState(const AdamW& options, Index r, Index k) : options_(options), first_(Buffer<S>::shaped(r, k)), second_(Buffer<S>::shaped(r, k)) { check(); }

  AdamW& options() { return options_; }
  const AdamW& options() const { return options_; }

  void check() const {
    const char* who = "lowrank::AdamW";
    detail::check_beta(who, "beta1", options_.beta1);
    detail::check_beta(who, "beta2", options_.beta2);
    // without it an element that never had a gradient is 0 / 0
    detail::require(options_.eps >= 1e-30 && options_.eps < 1e30, who, "eps", options_.eps, "a number >= 1e-30");
    detail::check_decay(who, options_.weight_decay);
  }

  void advance() {
    ++steps_;
    root_ = std::sqrt(correction(options_.beta2));
  }

  void direction(const S* R, Index ldr, S* N, Index ldn, Index i0, Index m, Index j0, Index w) {
    const bool after = options_.epsilon == Epsilon::AfterCorrection;
    const double eps = options_.eps * (after ? root_ : 1.0);
    detail::for_columns(R, ldr, N, ldn, i0, m, j0, w, first_.rows(), [&](const S* x, S* out, Index at, Index n) {
      K::adam(n, x, first_.data() + at, second_.data() + at, out, options_.beta1, options_.beta2, eps);
    });
  }

  double gain() const { return std::sqrt(correction(options_.beta2)) / correction(options_.beta1); }

  Decay decay(double lr) const {
    const double factor = 1 - lr * options_.weight_decay;
    return options_.decay_order == DecayOrder::BeforeUpdate ? Decay{factor, 1} : Decay{1, factor};
  }

  void transport(const linalg::BasisChange<S>& change, const linalg::TransportWork<S, K>& work,
                 const linalg::Team<S, K>& team) {
    using Kind = typename linalg::BasisChange<S>::Kind;
    if (steps_ == 0 || change.kind == Kind::Stay) return;
    if (change.kind == Kind::Reset) {
      first_.set_zero();
      second_.set_zero();
      steps_ = 0;
      return;
    }
    linalg::transport(change, first_.cols(), first_.data(), second_.data(), correction(options_.beta1),
                      correction(options_.beta2), work, team);
  }

  /// Whether a state that was read from a file can be one.
  bool valid() const {
    for (Index i = 0; i < second_.size(); ++i)
      if (second_[i] < 0) return false;
    return true;
  }

  void visit(auto&& f) { visit_state(*this, f); }
  void visit(auto&& f) const { visit_state(*this, f); }

 private:
  double correction(double beta) const {
    return options_.bias_correction == BiasCorrection::On ? 1 - std::pow(beta, double(steps_)) : 1.0;
  }
  static void visit_state(auto& self, auto&& f) {
    f("exp_avg", self.first_);
    f("exp_avg_sq", self.second_);
    f("rule_steps", self.steps_);
  }

  AdamW options_;
  Buffer<S> first_, second_;
  std::uint64_t steps_ = 0;
  double root_ = 1;  // sqrt(bc2) of the step in progress
};

}  // namespace lowrank
