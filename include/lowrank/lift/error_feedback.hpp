// ErrorFeedback: what a projection loses is not dropped but fed into the next one (DCT-AdamW, arXiv 2505.17967; Seide et
// al. 2014), A = G + E,  R = P^T A,  E <- A - P R,  U = P N.
// State: E, d x k, the size of the gradient. With a transform projector E holds coefficients.
#pragma once

#include <lowrank/lift/lift.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class LiftState<ErrorFeedback, S, K> {
 public:
  static constexpr bool uses_projection = true, uses_gradient = false, needs_core = false, keeps_error = true;

  LiftState() = default;
  LiftState(const ErrorFeedback& options, Index d, Index k) : options_(options), error_(Buffer<S>::shaped(d, k)) {}

  ErrorFeedback& options() { return options_; }
  const ErrorFeedback& options() const { return options_; }
  void check() const {}

  S* error() { return error_.data(); }
  const S* error() const { return error_.data(); }
  void coefficients(Index, Index, const S*, S*, const S*) const {}
  void visit(auto&& f) { f("error", error_); }
  void visit(auto&& f) const { f("error", error_); }

 private:
  ErrorFeedback options_;
  Buffer<S> error_;
};

}  // namespace lowrank
