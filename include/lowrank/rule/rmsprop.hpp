// RMSProp (Tieleman and Hinton 2012), as in Fira's code.
//   V <- b V + (1-b) R o R,   N = R / (sqrt(V) + eps),   B <- mu B + N and N = B when there is momentum
// State: V, r x k; B as well unless momentum is 0 at construction.
#pragma once

#include <lowrank/rule/rule.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class RuleState<RmsProp, S, K> {
 public:
  RuleState() = default;
  RuleState(const RmsProp& options, Index r, Index k)
      : options_(options),
        second_(Buffer<S>::shaped(r, k)),
        buffer_(Buffer<S>::shaped(options.momentum == 0 ? 0 : r, options.momentum == 0 ? 0 : k)) {
    check();
  }

  RmsProp& options() { return options_; }
  const RmsProp& options() const { return options_; }

  void check() const {
    const char* who = "lowrank::RmsProp";
    detail::check_beta(who, "beta", options_.beta);
    detail::check_beta(who, "momentum", options_.momentum);
    detail::require(options_.eps >= 1e-30 && options_.eps < 1e30, who, "eps", options_.eps, "a number >= 1e-30");
    detail::check_decay(who, options_.weight_decay);
    detail::require(options_.momentum == 0 || buffer_.size() > 0, who, "momentum", options_.momentum,
                    "0, as at construction: no momentum buffer was allocated");
  }

  void advance() { ++steps_; }
  double gain() const { return 1; }
  Decay decay(double lr) const { return {1 - lr * options_.weight_decay, 1}; }

  void direction(const S* R, Index ldr, S* N, Index ldn, Index i0, Index m, Index j0, Index w) {
    detail::for_columns(R, ldr, N, ldn, i0, m, j0, w, second_.rows(), [&](const S* x, S* out, Index at, Index n) {
      K::rmsprop(n, x, second_.data() + at, out, options_.beta, options_.eps);
      if (buffer_.size() > 0) K::momentum(n, out, buffer_.data() + at, out, options_.momentum, 1.0, false);
    });
  }

  void transport(const linalg::BasisChange<S>& change, const linalg::TransportWork<S, K>& work,
                 const linalg::Team<S, K>& team) {
    using Kind = typename linalg::BasisChange<S>::Kind;
    if (steps_ == 0 || change.kind == Kind::Stay) return;
    if (change.kind == Kind::Reset) {
      second_.set_zero();
      buffer_.set_zero();
      steps_ = 0;
      return;
    }
    linalg::transport<S, K>(change, second_.cols(), nullptr, second_.data(), 1, 1, work, team);
    if (buffer_.size() > 0) linalg::transport<S, K>(change, second_.cols(), buffer_.data(), nullptr, 1, 1, work, team);
  }

  bool valid() const {
    for (Index i = 0; i < second_.size(); ++i)
      if (second_[i] < 0) return false;
    return true;
  }

  void visit(auto&& f) { visit_state(*this, f); }
  void visit(auto&& f) const { visit_state(*this, f); }

 private:
  static void visit_state(auto& self, auto&& f) {
    f("square_avg", self.second_);
    f("momentum", self.buffer_);
    f("rule_steps", self.steps_);
  }

  RmsProp options_;
  Buffer<S> second_, buffer_;
  std::uint64_t steps_ = 0;
};

}  // namespace lowrank
