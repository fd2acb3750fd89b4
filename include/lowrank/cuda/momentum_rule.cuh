// Rules of one moment on a device: Lion, and the momentum of Muon.
#pragma once

#include <lowrank/cuda/rule.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// gain, decay before the update.
struct PlainMotion {
  double gain, weight_decay;
  LOWRANK_HOST_DEVICE Motion operator()(std::uint64_t, double lr) const { return {gain, 1 - lr * weight_decay, 1, 1}; }
};

/// sign(b1 m + (1-b1) x);  m <- b2 m + (1-b2) x      (arXiv 2302.06675)
template <class S>
struct LionElement {
  S b1, c1, b2, c2;
  S* moment;

  LOWRANK_DEVICE LionElement begin(const Control<S>&) const { return *this; }
  LOWRANK_DEVICE S operator()(S x, Index at) const {
    const S old = moment[at], direction = std::fma(c1, x, b1 * old);
    moment[at] = std::fma(c2, x, b2 * old);
    return direction > 0 ? S(1) : direction < 0 ? S(-1) : S(0);
  }
};

template <class S, class B>
class RuleState<Lion, S, B> {
 public:
  static constexpr bool follows_memory = true;

  RuleState() = default;
  RuleState(const Lion& options, Index r, Index k, Index = 1, Index = 1) : options_(options), moment_(r, k) { check(); }

  Lion& options() { return options_; }
  const Lion& options() const { return options_; }
  void check() const {
    detail::check_beta("lowrank::Lion", "beta1", options_.beta1), detail::check_beta("lowrank::Lion", "beta2", options_.beta2);
    detail::check_decay("lowrank::Lion", options_.weight_decay);
  }
  LionElement<S> element() const {
    return {S(options_.beta1), S(1 - options_.beta1), S(options_.beta2), S(1 - options_.beta2), moment_.data()};
  }
  PlainMotion motion() const { return {1, options_.weight_decay}; }
  double beta1() const { return 0; }
  double beta2() const { return 0; }
  S* first() const { return moment_.data(); }
  S* second() const { return nullptr; }
  void visit(auto&& f) { f("momentum", moment_); }

 private:
  Lion options_;
  Array<S, B> moment_;
};

/// m <- mu m + x;  m, or x + mu m
template <class S>
struct MomentumElement {
  S mu;
  bool nesterov;
  S* moment;

  LOWRANK_DEVICE MomentumElement begin(const Control<S>&) const { return *this; }
  LOWRANK_DEVICE S operator()(S x, Index at) const {
    const S m = std::fma(S(1), x, mu * moment[at]);
    moment[at] = m;
    return nesterov ? std::fma(mu, m, x) : m;
  }
};

/// Muon's rule: the element's direction is the momentum, of which the optimizer then takes the polar factor, all of it at once.
template <class S, class B>
class RuleState<Orthogonal, S, B> {
 public:
  static constexpr bool follows_memory = false;

  RuleState() = default;
  RuleState(const Orthogonal& options, Index r, Index k, Index fan_out, Index fan_in)
      : options_(options), moment_(r, k), fan_out_(fan_out), fan_in_(fan_in) { check(); }

  Orthogonal& options() { return options_; }
  const Orthogonal& options() const { return options_; }
  void check() const {
    detail::check_beta("lowrank::Orthogonal", "momentum", options_.momentum), detail::check_decay("lowrank::Orthogonal", options_.weight_decay);
  }
  MomentumElement<S> element() const { return {S(options_.momentum), options_.form == Momentum::Nesterov, moment_.data()}; }
  PlainMotion motion() const { return {shape_factor(options_.shape_scale, double(fan_out_), double(fan_in_)), options_.weight_decay}; }
  double beta1() const { return 0; }
  double beta2() const { return 0; }
  S* first() const { return moment_.data(); }
  S* second() const { return nullptr; }
  void visit(auto&& f) { f("momentum", moment_); }

 private:
  Orthogonal options_;
  Array<S, B> moment_;
  Index fan_out_ = 1, fan_in_ = 1;
};

}  // namespace cuda
}  // namespace lowrank
