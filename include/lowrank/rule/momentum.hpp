// What rules with one moment M (r x k) share: its buffer, its transport and its state.
#pragma once

#include <lowrank/rule/rule.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

template <class Options, class S, class K>
class OneMoment {
 public:
  Options& options() { return options_; }
  const Options& options() const { return options_; }
  void advance() { ++steps_; }
  double gain() const { return 1; }
  Decay decay(double lr) const { return {1 - lr * options_.weight_decay, 1}; }

  void transport(const linalg::BasisChange<S>& change, const linalg::TransportWork<S, K>& work,
                 const linalg::Team<S, K>& team) {
    using Kind = typename linalg::BasisChange<S>::Kind;
    if (steps_ == 0 || first_.size() == 0 || change.kind == Kind::Stay) return;
    if (change.kind == Kind::Reset) {
      first_.set_zero();
      steps_ = 0;
      return;
    }
    linalg::transport<S, K>(change, first_.cols(), first_.data(), nullptr, 1, 1, work, team);
  }

  void visit(auto&& f) { visit_state(*this, f); }
  void visit(auto&& f) const { visit_state(*this, f); }

 protected:
  OneMoment() = default;
  OneMoment(const Options& options, Index r, Index k) : options_(options), first_(Buffer<S>::shaped(r, k)) {}

  static void visit_state(auto& self, auto&& f) {
    f("momentum", self.first_);
    f("rule_steps", self.steps_);
  }

  Options options_;
  Buffer<S> first_;
  std::uint64_t steps_ = 0;
};

}  // namespace detail
}  // namespace lowrank
