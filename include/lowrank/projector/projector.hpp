// Projector: where the gradient lives. In canonical orientation the gradient A is d x k, d the projected side; a basis
// P (d x r) gives R = P^T A (r x k), and P N brings a direction back. Nothing here knows rows from columns of the user.
//
// ProjectorState<Options, S, K> is the state of projector `Options`. What the optimizer asks of it, in the order of a
// step (tiles are 64 columns; Work is laid out once and shared by all matrices of a Fleet):
//
//   check()                               throws when options that were changed since construction make no sense
//   due(steps)                            is the basis to be renewed now?
//   refresh(A, R, work, team)             a candidate basis into work, R (r+8) x k being free memory. True: work.change
//                                         says how coordinates move and the candidate is ready to project with.
//   prepare(work, team)                   otherwise: makes the basis in use ready
//   project(A, j0, w, R, energy, slot, work, team)   R_J = P^T A_J, energy[j] = ||a_j||^2
//   worse(captured, work)                 optional: is the candidate worse than what it replaces?
//   commit(work) / observe(...)           the step is certain: the candidate becomes the basis
//   prepare_lift(work, team), lift(N, j0, w, slot, work, team, sink)                 U = P N in blocks
//   updates(order, work, team), prepare_update(order, work, team), update(N, j0, w, slot, work, team, u)
//                                         optional: W <- ... P N where W lies (linalg::WeightUpdate), if updates() says so
//   keep(A, j0, w, R, E, slot, work, team)           E_J = A_J - P R_J for error feedback, E a CompactMatrix
//
// `static constexpr bool orthonormal = false` says that P^T P is not the identity: Residual and ErrorFeedback, which take
// A - P R for what was lost, then do not compile. `refresh_checks = true` says that refresh() gives false if A is not finite, so
// that A need not be read beforehand.
// Until commit() the state is const, so a step that turns out to be impossible leaves it as it was.
#pragma once

#include <lowrank/linalg/basis_change.hpp>
#include <lowrank/options.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class Options, class S, class K>
class ProjectorState;

namespace detail {

/// Throws unless a projector's options make sense; gives the rank that fits (a rank beyond the dimension is clamped).
template <class Options>
Index checked_rank(const char* who, const Options& o, Index limit) {
  if (o.rank < 1) bad_argument(who, "rank = " + std::to_string(o.rank), "rank >= 1");
  if (o.refresh_every < 0)
    bad_argument(who, "refresh_every = " + std::to_string(o.refresh_every), "a number of steps >= 0 (0: only once)");
  if (o.phase < 0) bad_argument(who, "phase = " + std::to_string(o.phase), "a number of steps >= 0");
  if constexpr (requires { o.refresh_on_drift; })
    if (!(o.refresh_on_drift >= 0 && o.refresh_on_drift < 1) || !is_finite(o.refresh_on_drift))
      bad_argument(who, "refresh_on_drift = " + std::to_string(o.refresh_on_drift), "0 <= fraction < 1 (0: never)");
  if constexpr (requires { o.sweeps; })
    if (o.sweeps < 1) bad_argument(who, "sweeps = " + std::to_string(o.sweeps), "sweeps >= 1");
  return std::min(Index(o.rank), limit);
}

/// The same for options that may have changed since construction; the rank may not.
template <class Options>
void check_changed(const char* who, const Options& o, Index limit, Index rank) {
  if (checked_rank(who, o, limit) != rank)
    bad_argument(who, "rank = " + std::to_string(o.rank), std::to_string(rank) + ", as at construction");
}

/// When a basis is to be renewed: at the first step that has a gradient, every T steps, and on drift.
struct Freshness {
  std::uint64_t pending = 1;       // a refresh is owed (none happened yet, or energy drifted away)
  double captured_at_refresh = 0;  // fraction of the gradient's energy the basis held when it was made

  template <class Options>
  bool due(const Options& o, std::uint64_t steps) const {
    return pending != 0 || (o.refresh_every > 0 && (steps + std::uint64_t(o.phase)) % std::uint64_t(o.refresh_every) == 0);
  }
  /// After a step that captured this fraction.
  void observe(double captured, bool refreshed, double threshold) {
    if (refreshed) {
      captured_at_refresh = captured;
      pending = 0;
    } else if (threshold > 0 && captured < (1 - threshold) * captured_at_refresh) {
      pending = 1;
    }
  }
  bool valid() const { return pending <= 1 && captured_at_refresh <= 1.001; }
  static void visit(auto& self, auto&& f) {
    f("refresh_pending", self.pending);
    f("captured_at_refresh", self.captured_at_refresh);
  }
};

}  // namespace detail
}  // namespace lowrank
