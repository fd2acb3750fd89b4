// Engine: one step on one matrix, in phases (include/lowrank/DESIGN.md). Nothing is written before the decision, and
// after it nothing can fail:
//
//   1 project   a due basis is renewed into the workspace; R = P^T A tile by tile, with every column's energy
//   2 decide    not finite, or a square that overflows: nothing has changed, and the report says so
//   3 rule      moments move to the new coordinates; N from R, per tile, or from all of R where the rule needs it
//   4 measure   lifts that scale the gradient need one norm over all tiles: partial sums, added in tile order
//   5 write     W_J <- after (before W_J - lr gain (P coef_J + A_J diag(phi_J)))
//
// The gradient is read in phases 1 and, if the lift uses it, 5. No m x n temporary exists.
#pragma once

#include <limits>  // std::numeric_limits

#include <lowrank/lift/lift.hpp>
#include <lowrank/linalg/store.hpp>
#include <lowrank/optimizer/canonical.hpp>
#include <lowrank/optimizer/report.hpp>
#include <lowrank/core/workspace.hpp>
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

struct NoWork {};
template <class R>
struct RuleWork { using type = NoWork; };
template <WholeRule R>
struct RuleWork<R> { using type = typename R::Work; };

/// W block <- after (before W - move U); `block` is room for m x n.
template <class S, class K>
void write_block(const linalg::Memory<void>& w, const linalg::RoundingKey& key, Index i0, Index m, Index j0, Index n,
                 const S* U, Index ld, S* block, double move, const Decay& decay) {
  if (w.dtype == DtypeOf<S>::value && w.row_stride == 1) {
    for (Index j = 0; j < n; ++j)
      K::update(m, w.template at<S>(i0, j0 + j), U + j * ld, move, decay.before, decay.after);
    return;
  }
  if (w.dtype == DtypeOf<S>::value && w.col_stride == 1) {
    // the rows of W, pages apart, are fetched while U is turned
    K::transpose(m, n, U, ld, block, n, kernel::Ahead<kernel::Access::Write>(w.template at<S>(i0, j0), n, m, w.row_stride));
    for (Index i = 0; i < m; ++i)
      K::update(n, w.template at<S>(i0 + i, j0), block + i * n, move, decay.before, decay.after);
    return;
  }
  linalg::load_block<K>(w, i0, m, j0, n, block, m);
  for (Index j = 0; j < n; ++j) K::update(m, block + j * m, U + j * ld, move, decay.before, decay.after);
  linalg::store_block<K>(block, m, w, i0, m, j0, n, key);
}

template <class S, class ProjectorOptions, class RuleOptions, class LiftOptions, class K>
class Engine {
  using Projector = ProjectorState<ProjectorOptions, S, K>;
  using Rule = RuleState<RuleOptions, S, K>;
  using Lift = LiftState<LiftOptions, S, K>;
  using Source = linalg::Source<S, K>;
  using Team = linalg::Team<S, K>;

  static constexpr Index tile = linalg::tile_columns;
  static constexpr bool whole_rule = WholeRule<Rule>;
  /// N lies in memory of its own, since R is read after it was made.
  static constexpr bool beside = Lift::needs_core || UsesRemainder<Lift> || (whole_rule && (Lift::uses_gradient || Lift::keeps_error));

  static constexpr bool only_projects = Lift::uses_projection && !Lift::uses_gradient && !Lift::keeps_error && !UsesRemainder<Lift>;
  /// A projector that can move W itself, and a lift that adds nothing to P N but the gradient.
  static constexpr bool moves_weight = Lift::uses_projection && !Lift::keeps_error && !UsesRemainder<Lift> &&
      requires(const Projector& p, const typename Projector::Work& work, const Team& team) { p.updates(linalg::Order::Columns, work, team); };
  static_assert(!Projector::whole_gradient || only_projects,
                "Identity keeps the whole gradient: there is nothing to scale or feed back; use BackProject{}");
  static_assert(!TwoSided<Projector> || only_projects,
                "a two-sided projection has no columns to scale and keeps no error; use BackProject{}");
  static_assert(orthonormal<Projector> || !(Lift::needs_core || Lift::keeps_error || UsesRemainder<Lift>),
                "what the projection loses is A - P P^T A only for an orthonormal P, which Gaussian's is not; use "
                "Subspace{}, or ChannelScale{}");
  static_assert(!UsesRemainder<Lift> || !(Projector::whole_gradient || TwoSided<Projector>),
                "a remainder needs a one-sided projection that loses something; use BackProject{}");

 public:
  /// Whether a step needs nothing of the gradient but P^T G, which is linear in it.
  static constexpr bool linear = only_projects && !Projector::whole_gradient && !TwoSided<Projector>;

  /// The pieces a step cuts its workspace into; with a counting arena, how large it must be.
  struct Pieces {
    Team team;
    typename Projector::Work projection;
    typename RuleWork<Rule>::type rule;
    linalg::TransportWork<S, K> transport;
    S *core = nullptr, *direction = nullptr;  // R (r+8) x k; N r x k where it has its own place
    S *tiles = nullptr, *phi = nullptr;       // r x 64 per thread; k
    S* remainder = nullptr;                   // d x 64 per thread
    double* energy = nullptr;                 // k
    TileSums* sums = nullptr;                 // per tile

    Pieces(Arena& arena, const Projector& p, Index d, Index k, int threads) : team(arena, threads, std::max(d, k)) {
      if constexpr (whole_rule) rule = typename Rule::Work(arena, p.core_rows(), p.core_cols(), threads);
      if constexpr (Projector::whole_gradient) {
        if (whole_rule) direction = arena.take<S>(d * k);
        if (TileRule<Rule>) tiles = arena.take<S>(d * tile * threads);
      } else {
        const Index r = p.core_rows();
        projection = typename Projector::Work(arena, p, threads);
        transport = linalg::TransportWork<S, K>(arena, r, threads);
        core = arena.take<S>((r + 8) * k);
        if (beside) direction = arena.take<S>(r * k);
        tiles = arena.take<S>(r * tile * threads);
        if (Lift::uses_gradient) phi = arena.take<S>(k);
        if (UsesRemainder<Lift>) remainder = arena.take<S>(d * tile * threads);
        energy = arena.take<double>(k);
      }
      sums = arena.take<TileSums>((k + tile - 1) / tile);
    }
  };

  Engine(Projector& projector, Rule& rule, Lift& lift, Pieces& pieces, const Step& step, Index d, Index k)
      : projector_(projector), rule_(rule), lift_(lift), p_(pieces), step_(step), d_(d), k_(k) {}

  Report run(const linalg::Memory<void>& w, const linalg::Memory<const void>& g, std::uint64_t& steps,
             linalg::RoundingKey key) {
    w_ = w;
    a_ = Source{g, d_, k_, step_.grad_scale, nullptr};
    key_ = key;
    if constexpr (Lift::keeps_error) a_.error = &lift_.error();
    if (step_.grad_norm && !usable(square(*step_.grad_norm * step_.grad_scale))) return {.skipped = true};
    if constexpr (Projector::whole_gradient)
      return run_whole(steps);
    else
      return run_projected(steps);
  }

  /// sum <- sum + weight P^T G (r x k), P the basis in use. Gives ||G||^2 and ||P^T G||^2.
  TileSums accumulate(const linalg::Memory<const void>& g, double weight, S* sum) {
    a_ = Source{g, d_, k_, 1.0, nullptr};
    projector_.prepare(a_, p_.projection, p_.team);
    const TileSums total = project();
    const Index n = projector_.core_rows() * k_;
    K::combine(n, 1.0, sum, weight, p_.core, sum);
    return total;
  }
  /// The step of a sum that accumulate() made; its gradients hold `captured` of their energy in the basis.
  Report run_accumulated(const linalg::Memory<void>& w, const S* sum, double captured, std::uint64_t& steps, linalg::RoundingKey key) {
    w_ = w;
    a_ = Source{{}, d_, k_, 1.0, nullptr};
    key_ = key;
    if (step_.grad_norm && !usable(square(*step_.grad_norm * step_.grad_scale))) return {.skipped = true};
    const Index r = projector_.core_rows();
    for_tiles([&](Index t, Index j0, Index n, int) {
      K::combine(r * n, step_.grad_scale, sum + j0 * r, 0.0, sum + j0 * r, core_at(j0));
      p_.sums[t] = {.core = K::sum_squares(r * n, core_at(j0))};
    });
    if (!usable(this->sum().core) || !is_finite(captured)) return {.skipped = true};
    projector_.prepare(a_, p_.projection, p_.team);
    Report report;
    report.captured = captured;
    return apply(p_.core, steps, report);
  }

 private:
  // -- projected: phases 1 to 5 ---------------------------------------------------------------------------------------

  Report run_projected(std::uint64_t& steps) {
    Report report;
    auto& work = p_.projection;
    const bool due = projector_.due(steps);
    if (due && !step_.grad_norm && !is_finite(gradient_energy())) return {.skipped = true};
    report.refreshed = due && projector_.refresh(a_, p_.core, work, p_.team);
    if (!report.refreshed) projector_.prepare(a_, work, p_.team);
    TileSums total = project();
    if constexpr (requires { projector_.worse(0.0, work); }) {
      if (report.refreshed && is_finite(total.core) && projector_.worse(total.core, work)) {
        report.refreshed = false;
        projector_.prepare(a_, work, p_.team);
        total = project();
      }
    }
    S* core = p_.core;
    if constexpr (TwoSided<Projector>) {
      core = projector_.fold(p_.core, work, p_.team);
      total.core = K::sum_squares(projector_.core_rows() * projector_.core_cols(), core);
    }
    if (!usable(total.gradient) || !usable(total.core)) return {.skipped = true};

    // the decision: from here on the step happens
    if (report.refreshed) {
      if (steps > 0) rule_.transport(work.dense.change, p_.transport, p_.team);
      projector_.commit(work);
    }
    report.grad_norm = std::sqrt(total.gradient);
    report.captured = total.gradient > 0 ? total.core / total.gradient : 0;
    projector_.observe(report.captured, report.refreshed);
    if constexpr (requires { projector_.wants_rank(); }) {
      if (report.refreshed) projector_.record(core, total.gradient);
      report.wants_rank = projector_.wants_rank();
    }
    const double reference = projector_.captured_at_refresh();
    report.drift = reference > 0 && total.gradient > 0 ? 1 - report.captured / reference : 0;
    return apply(core, steps, report);
  }

  /// Phases 3 to 5, from R.
  Report apply(S* core, std::uint64_t& steps, const Report& report) {
    auto& work = p_.projection;
    ++steps;
    rule_.advance();
    gain_ = rule_.gain();
    if constexpr (Lift::uses_projection) prepare_lift();
    if constexpr (whole_rule && !TwoSided<Projector>) rule_.direction(core, beside ? p_.direction : core, p_.rule, p_.team);
    if constexpr (TwoSided<Projector>) {
      const Index r = projector_.core_rows();
      if constexpr (whole_rule) rule_.direction(core, core, p_.rule, p_.team);
      else rule_.direction(core, r, core, r, 0, r, 0, r);
      for_tiles([&](Index t, Index j0, Index w, int slot) {
        (void)t;
        S* N = p_.tiles + slot * r * tile;
        projector_.unfold(core, j0, w, N);
        write(j0, w, core, N, slot);
      });
    } else if constexpr (Lift::uses_gradient) {
      for_tiles([&](Index t, Index j0, Index w, int slot) {
        S* N = direction(j0, w, slot);
        p_.sums[t] = lift_.measure(w, projector_.core_rows(), core_at(j0), N, p_.energy + j0, p_.phi + j0);
      });
      lift_.limit(sum(), gain_, k_, p_.phi);
      if (!Lift::uses_projection && move_along_gradient()) return report;
      for_tiles([&](Index, Index j0, Index w, int slot) { write(j0, w, core_at(j0), direction_at(j0, slot), slot); }, tiles_to_write());
    } else {
      for_tiles([&](Index, Index j0, Index w, int slot) {
        if constexpr (Lift::keeps_error)
          projector_.keep(a_, j0, w, core_at(j0), lift_.error(), slot, work, p_.team);
        write(j0, w, core_at(j0), direction(j0, w, slot), slot);
      }, tiles_to_write());
    }
    return report;
  }

  /// The projector moves W where it is, if it can and W (and the gradient the lift adds) lie for it; otherwise it gives blocks.
  void prepare_lift() {
    auto& work = p_.projection;
    if constexpr (moves_weight) {
      direct_ = weight_in_place();
      direct_ = direct_ && projector_.updates(in_place_.order, work, p_.team);
      if (direct_) return projector_.prepare_update(in_place_.order, work, p_.team);
    }
    projector_.prepare_lift(work, p_.team);
  }

  Index tiles_to_write() const { return direct_ ? tiles_at_once(in_place_.order == linalg::Order::Rows) : 1; }

  /// W, and the gradient if the lift moves W along it, in the computing scalar and the same order: how to update in place.
  bool weight_in_place() {
    const auto& g = a_.gradient;
    if (w_.dtype != DtypeOf<S>::value) return false;
    const bool columns = w_.row_stride == 1;
    if (Lift::uses_gradient && (g.dtype != w_.dtype || (columns ? g.row_stride : g.col_stride) != 1)) return false;
    const Decay decay = rule_.decay(step_.lr);
    in_place_ = {w_.template at<S>(0, 0), columns ? w_.col_stride : w_.row_stride};
    if (Lift::uses_gradient) {
      in_place_.g = g.template at<S>(0, 0);
      in_place_.ldg = columns ? g.col_stride : g.row_stride;
      in_place_.phi = p_.phi;
    }
    in_place_.order = columns ? linalg::Order::Columns : linalg::Order::Rows;
    in_place_.motion = {S(step_.lr * gain_), S(decay.before), S(decay.after), S(a_.scale)};
    return true;
  }

  TileSums project() {
    const Index r = projector_.core_rows();
    for_tiles([&](Index first, Index begin, Index width, int slot) {
      projector_.project(a_, begin, width, core_at(begin), p_.energy + begin, slot, p_.projection, p_.team);
      for (Index t = first, j0 = begin; j0 < begin + width; ++t, j0 += tile) {
        TileSums& sums = p_.sums[t];
        sums = {};
        for (Index j = j0; j < std::min(j0 + tile, begin + width); ++j) {
          sums.gradient += p_.energy[j];
          sums.core += K::sum_squares(r, core_at(j));
        }
      }
    }, tiles_at_once(a_.gradient.row_stride != 1));
    return sum();
  }

  S* core_at(Index j) const { return p_.core + j * projector_.core_rows(); }
  /// N_J: over R_J, beside it when R must survive, or in the thread's own tile when it is only measured.
  S* direction_at(Index j0, int slot) const {
    const Index r = projector_.core_rows();
    if constexpr (beside) return p_.direction + j0 * r;
    if constexpr (Lift::uses_gradient && !whole_rule) return p_.tiles + slot * r * tile;
    return core_at(j0);
  }
  S* direction(Index j0, Index w, int slot) {
    const Index r = projector_.core_rows();
    S* N = direction_at(j0, slot);
    if constexpr (!whole_rule) rule_.direction(core_at(j0), r, N, r, 0, r, j0, w);
    return N;
  }

  void write(Index j0, Index w, const S* R, S* N, int slot) {
    const auto scratch = p_.team[slot];
    S* phi = Lift::uses_gradient ? p_.phi + j0 : nullptr;
    if constexpr (Lift::uses_projection) {
      lift_.coefficients(projector_.core_rows(), w, R, N, phi);
      if constexpr (moves_weight) {
        if (direct_) return projector_.update(N, j0, w, slot, p_.projection, p_.team, in_place_);
      }
      [[maybe_unused]] S* rest = UsesRemainder<Lift> ? p_.remainder + slot * d_ * tile : nullptr;
      if constexpr (UsesRemainder<Lift>) {
        projector_.lift(R, j0, w, slot, p_.projection, p_.team, [&](Index i0, Index m, Index j, Index n, const S* U, Index ld) {
          a_.load_gradient(i0, m, j0 + j, n, scratch.stage, m);
          for (Index q = 0; q < n; ++q)
            lift_.remain(m, scratch.stage + q * m, U + q * ld, rest + i0 + (j + q) * d_, gain_);
        });
      }
      projector_.lift(N, j0, w, slot, p_.projection, p_.team, [&](Index i0, Index m, Index j, Index n, S* U, Index ld) {
        if constexpr (Lift::uses_gradient) {
          const auto A = gradient(i0, m, j0 + j, n, scratch.stage);
          for (Index q = 0; q < n; ++q)
            K::combine(m, double(phi[j + q]), A.data + q * A.col_stride, 1.0, U + q * ld, U + q * ld);
        }
        if constexpr (UsesRemainder<Lift>)
          for (Index q = 0; q < n; ++q) K::combine(m, 1.0, rest + i0 + (j + q) * d_, 1.0, U + q * ld, U + q * ld);
        update(i0, m, j0 + j, n, U, ld, scratch.stage);
      });
    } else {
      for (Index i0 = 0; i0 < d_; i0 += linalg::block_rows) {
        const Index m = std::min(linalg::block_rows, d_ - i0);
        S* U = scratch.rows;
        a_.load_gradient(i0, m, j0, w, U, m);
        for (Index q = 0; q < w; ++q) K::combine(m, double(phi[q]), U + q * m, 0.0, U + q * m, U + q * m);
        update(i0, m, j0, w, U, m, scratch.stage);
      }
    }
  }

  /// Where only the gradient moves the weight, tiles are no use: whole columns or rows, where both lie that way and in the
  /// computing scalar. False otherwise.
  bool move_along_gradient() {
    if (!weight_in_place()) return false;
    constexpr Index piece = 16384;
    const bool rows = in_place_.order == linalg::Order::Rows;
    const Index length = rows ? k_ : d_, count = rows ? d_ : k_, at_once = std::clamp<Index>(piece / length, 1, count);
    for_each((count + at_once - 1) / at_once, p_.team.threads(), [&](Index b, int) {
      for (Index i = b * at_once; i < std::min(count, (b + 1) * at_once); ++i)
        K::move(length, static_cast<const S*>(nullptr), rows ? in_place_.at(i, 0) : in_place_.at(0, i), in_place_.motion);
    });
    return true;
  }

  // -- the whole gradient: two passes, or one when the caller knows the norm ---------------------------------------------

  Report run_whole(std::uint64_t& steps) {
    Report report;
    if (!step_.grad_norm) {
      const double energy = gradient_energy();
      if (!usable(energy)) return {.skipped = true};
      report.grad_norm = std::sqrt(energy);
    }
    ++steps;
    rule_.advance();
    gain_ = rule_.gain();
    if constexpr (whole_rule) {
      for_tiles([&](Index, Index j0, Index w, int) { a_.load_gradient(0, d_, j0, w, p_.direction + j0 * d_, d_); });
      rule_.direction(p_.direction, p_.direction, p_.rule, p_.team);
      for_tiles([&](Index, Index j0, Index w, int slot) {
        S* N = p_.direction + j0 * d_;
        lift_.coefficients(d_, w, N, N, nullptr);
        for (Index i0 = 0; i0 < d_; i0 += linalg::block_rows)
          update(i0, std::min(linalg::block_rows, d_ - i0), j0, w, N + i0, d_, p_.team[slot].stage);
      });
    } else if constexpr (TileRule<Rule>) {
      // a few columns at a time stay in the caches; of a gradient in rows they would be read number by number
      const Index at_once = a_.gradient.row_stride == 1 ? Rule::columns_at_once(d_) : tile;
      for_tiles([&](Index, Index begin, Index width, int slot) {
        S* N = p_.tiles + slot * d_ * tile;
        for (Index j0 = begin; j0 < begin + width; j0 += at_once) {
          const Index w = std::min(at_once, begin + width - j0);
          const auto there = a_.gradient_in_place(0, j0);
          const bool plain = there.data != nullptr && there.row_stride == 1 && (there.col_stride == d_ || w == 1);
          if (!plain) a_.load_gradient(0, d_, j0, w, N, d_);
          const S* R = plain ? there.data : N;
          if (w_.dtype == DtypeOf<S>::value && w_.row_stride == 1)  // the columns of W that are moved next are fetched meanwhile
            rule_.direction(R, d_, N, d_, 0, d_, j0, w, kernel::Ahead<kernel::Access::Write>(w_.template at<S>(0, j0), d_, w, w_.col_stride));
          else
            rule_.direction(R, d_, N, d_, 0, d_, j0, w);
          lift_.coefficients(d_, w, N, N, nullptr);
          for (Index i0 = 0; i0 < d_; i0 += linalg::block_rows)
            update(i0, std::min(linalg::block_rows, d_ - i0), j0, w, N + i0, d_, p_.team[slot].stage);
        }
      });
    } else {
      for_blocks([&](Index i0, Index m, Index j0, Index w, int slot) {
        const auto scratch = p_.team[slot];
        S* N = scratch.rows;
        const auto A = gradient(i0, m, j0, w, scratch.stage);
        rule_.direction(A.data, A.col_stride, N, m, i0, m, j0, w);
        lift_.coefficients(m, w, N, N, nullptr);
        update(i0, m, j0, w, N, m, scratch.stage);
      });
    }
    return report;
  }

  // -- shared -----------------------------------------------------------------------------------------------------------

  /// A block of the gradient: where it lies, or loaded into `room`.
  linalg::Strided<S, K> gradient(Index i0, Index m, Index j0, Index n, S* room) const {
    const auto there = a_.gradient_in_place(i0, j0);
    if (there.data != nullptr && there.row_stride == 1) return there;
    a_.load_gradient(i0, m, j0, n, room, m);
    return {room, 1, m};
  }

  void update(Index i0, Index m, Index j0, Index n, const S* U, Index ld, S* block) {
    write_block<S, K>(w_, key_, i0, m, j0, n, U, ld, block, step_.lr * gain_, rule_.decay(step_.lr));
  }

  /// A square of this size fits the computing scalar. NaN and infinity do not.
  static bool usable(double energy) { return is_finite(energy) && energy <= double(std::numeric_limits<S>::max()); }

  static double square(double x) { return x * x; }

  double gradient_energy() {
    const Index tiles = (k_ + tile - 1) / tile;
    for (Index t = 0; t < tiles; ++t) p_.sums[t] = {};
    constexpr Index tiles_of_rows = 4, widest = 4 * linalg::tile_columns, block_rows = linalg::block_rows;
    const auto first = a_.gradient_in_place(0, 0);
    const bool rows = first.data != nullptr && first.row_stride != 1;  // short pieces of rows take long to find
    for_tiles([&](Index t, Index begin, Index width, int slot) {
      double column[widest] = {};
      const auto there = a_.gradient_in_place(0, begin);
      for (Index i0 = 0; i0 < d_; i0 += block_rows) {
        const Index m = std::min(block_rows, d_ - i0);
        if (rows) {
          K::column_squares(m, width, there.data + i0 * there.row_stride, there.row_stride, column);
        } else if (there.data == nullptr) {
          S* block = p_.team[slot].stage;
          a_.load_gradient(i0, m, begin, width, block, m);
          for (Index j = 0; j < width; ++j) column[j] += K::sum_squares(m, block + j * m);
        }
      }
      if (!rows && there.data != nullptr)
        for (Index j = 0; j < width; ++j)
          for (Index i0 = 0; i0 < d_; i0 += block_rows)
            column[j] += K::sum_squares(std::min(block_rows, d_ - i0), there.data + i0 + j * there.col_stride);
      for (Index j = 0; j < width; ++j) p_.sums[t + j / tile].gradient += column[j];
    }, rows ? tiles_of_rows : 1);
    return sum().gradient;
  }

  TileSums sum() const {
    TileSums total;
    for (Index t = 0; t < (k_ + tile - 1) / tile; ++t) total += p_.sums[t];
    return total;
  }

  template <class F>
  void for_tiles(const F& f, Index at_once = 1) {
    const Index width = tile * at_once;
    for_each((k_ + width - 1) / width, p_.team.threads(), [&](Index t, int slot) {
      f(t * at_once, t * width, std::min(width, k_ - t * width), slot);
    });
  }
  /// How many tiles a dense projector takes at once: of a matrix in rows several, since each row is another page of memory.
  Index tiles_at_once(bool rows) const {
    if (!moves_weight || !rows) return 1;
    const Index fair = k_ / tile / (4 * p_.team.threads()), room = p_.team.block_size() / (tile * projector_.core_rows());
    return std::clamp<Index>(std::min(fair, room), 1, linalg::block_rows / tile);
  }
  /// Blocks long in the contiguous direction: threads share the matrix by 64 KiB, and f gets 4 KiB of it at a time, which
  /// stay in the first-level cache between the rule and the update.
  template <class F>
  void for_blocks(const F& f) {
    constexpr Index shared = 16384, at_once = 1024;
    const auto width = [](Index budget, Index m, Index n) { return std::clamp<Index>(budget / m, 1, n); };
    const Index m = std::min(d_, shared), n = width(shared, m, k_);
    const Index down = (d_ + m - 1) / m, across = (k_ + n - 1) / n;
    for_each(down * across, p_.team.threads(), [&](Index b, int slot) {
      const Index i0 = b % down * m, j0 = b / down * n, rows = std::min(m, d_ - i0), cols = std::min(n, k_ - j0);
      const Index height = std::min(rows, at_once), wide = width(at_once, height, cols);
      for (Index j = 0; j < cols; j += wide)
        for (Index i = 0; i < rows; i += height)
          f(i0 + i, std::min(height, rows - i), j0 + j, std::min(wide, cols - j), slot);
    });
  }

  Projector& projector_;
  Rule& rule_;
  Lift& lift_;
  Pieces& p_;
  const Step& step_;
  Index d_, k_;
  linalg::Memory<void> w_;
  Source a_;
  linalg::RoundingKey key_;
  double gain_ = 1;
  bool direct_ = false;                 // phase 5 goes through in_place_
  linalg::WeightUpdate<S> in_place_;
};

}  // namespace detail
}  // namespace lowrank
