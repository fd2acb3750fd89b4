// What a step asks of its three parts at compile time, and the pieces its workspace is cut into.
#pragma once

#include <algorithm>  // std::max

#include <lowrank/lift/lift.hpp>
#include <lowrank/core/workspace.hpp>
#include <lowrank/linalg/basis_change.hpp>
#include <lowrank/projector/projector.hpp>
#include <lowrank/rule/rule.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

template <class P>
concept TwoSided = requires { requires P::two_sided; };

/// Whether P^T P = I; true unless a projector says otherwise.
template <class P>
constexpr bool orthonormal = true;
template <class P>
  requires requires { P::orthonormal; }
constexpr bool orthonormal<P> = P::orthonormal;

/// A projector whose refresh() finds out whether the gradient is finite.
template <class P>
concept RefreshChecks = requires { requires P::refresh_checks; };

/// A rule that turns all of R into N at once (with workspace for it) and not tile by tile.
template <class R>
concept WholeRule = requires { typename R::Work; };
/// A rule that wants whole columns, columns_at_once(r) or more from the start of a tile of 64 on, also of a gradient that is
/// not projected.
template <class R>
concept TileRule = requires { requires R::whole_tiles; };
/// A lift that moves the weight along a function of A - P R.
template <class L>
concept UsesRemainder = requires { requires L::uses_remainder; };

/// A lift that returns P N and nothing else.
template <class L>
constexpr bool only_projects = L::uses_projection && !L::uses_gradient && !L::keeps_error && !UsesRemainder<L>;
/// N lies in memory of its own, since R is read after it was made.
template <class Rule, class Lift>
constexpr bool beside = Lift::needs_core || UsesRemainder<Lift> || (WholeRule<Rule> && (Lift::uses_gradient || Lift::keeps_error));

struct NoWork {};
template <class R>
struct RuleWork { using type = NoWork; };
template <WholeRule R>
struct RuleWork<R> { using type = typename R::Work; };

/// With a counting arena, how large a workspace must be.
template <class S, class Projector, class Rule, class Lift, class K>
struct StepPieces {
  linalg::Team<S, K> team;
  typename Projector::Work projection;
  typename RuleWork<Rule>::type rule;
  linalg::TransportWork<S, K> transport;
  S *core = nullptr, *direction = nullptr;  // R (r+8) x k; N r x k where it has its own place
  S *tiles = nullptr, *phi = nullptr;       // r x 64 per thread; k
  S* remainder = nullptr;                   // d x 64 per thread
  double* energy = nullptr;                 // k
  TileSums* sums = nullptr;                 // per tile

  StepPieces(Arena& arena, const Projector& p, Index d, Index k, int threads) : team(arena, threads, std::max(d, k)) {
    constexpr Index tile = linalg::tile_columns;
    if constexpr (WholeRule<Rule>) rule = typename Rule::Work(arena, p.core_rows(), p.core_cols(), threads);
    if constexpr (Projector::whole_gradient) {
      if (WholeRule<Rule>) direction = arena.take<S>(d * k);
      if (TileRule<Rule>) tiles = arena.take<S>(d * tile * threads);
    } else {
      const Index r = p.core_rows();
      projection = typename Projector::Work(arena, p, threads);
      transport = linalg::TransportWork<S, K>(arena, r, threads);
      core = arena.take<S>((r + 8) * k);
      if (beside<Rule, Lift>) direction = arena.take<S>(r * k);
      tiles = arena.take<S>(r * tile * threads);
      if (Lift::uses_gradient) phi = arena.take<S>(k);
      if (UsesRemainder<Lift>) remainder = arena.take<S>(d * tile * threads);
      energy = arena.take<double>(k);
    }
    sums = arena.take<TileSums>((k + tile - 1) / tile);
  }
};

}  // namespace detail
}  // namespace lowrank
