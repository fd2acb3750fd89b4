// ErrorFeedback: what a projection loses is not dropped but fed into the next one (DCT-AdamW, arXiv 2505.17967; Seide et
// al. 2014), A = G + E,  R = P^T A,  E <- A - P R,  U = P N.
// State: E, d x k, the size of the gradient, or codes of 8 or 4 bits for it (linalg/compact_matrix.hpp). With a transform
// projector E holds coefficients.
// Deviations from the published 8 and 4 bits (IST-DASLab's quantizers): halves of a byte come back in the order they went
// in, 8 bits have 255 steps and not 15, a constant group is not 0 / 0, and a group is 256 rows of a column of the canonical
// gradient instead of a row.
#pragma once

#include <lowrank/lift/lift.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class LiftState<ErrorFeedback, S, K> {
 public:
  static constexpr bool uses_projection = true, uses_gradient = false, needs_core = false, keeps_error = true;

  LiftState() = default;
  LiftState(const ErrorFeedback& options, Index d, Index k) : options_(options), error_(d, k, options.storage) {}

  ErrorFeedback& options() { return options_; }
  const ErrorFeedback& options() const { return options_; }
  void check() const {
    if (options_.storage != error_.storage())
      detail::bad_argument("lowrank::ErrorFeedback", "another storage", "the one of construction");
  }

  linalg::CompactMatrix<S>& error() { return error_; }
  const linalg::CompactMatrix<S>& error() const { return error_; }
  void coefficients(Index, Index, const S*, S*, const S*) const {}
  void visit(auto&& f) { error_.visit("error", "error_codes", "error_ranges", f); }
  void visit(auto&& f) const { error_.visit("error", "error_codes", "error_ranges", f); }

 private:
  ErrorFeedback options_;
  linalg::CompactMatrix<S> error_;
};

}  // namespace lowrank
