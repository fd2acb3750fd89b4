// Engine: one step on one matrix, in phases (include/lowrank/DESIGN.md). Nothing is written before the decision, and
// after it nothing can fail:
//
//   1 project   a due basis is renewed into the workspace; R = P^T A tile by tile, with every column's energy
//   2 decide    not finite, or a square that overflows: nothing has changed, and the report says so
//   3 rule      moments move to the new coordinates; N from R, per tile, or from all of R where the rule needs it
//   4 measure   lifts that scale the gradient need one norm over all tiles: partial sums, added in tile order
//   5 write     W_J <- after (before W_J - lr gain (P coef_J + A_J diag(phi_J))), in optimizer/write.hpp
//
// The gradient is read in phases 1 and, if the lift uses it, 5. No m x n temporary exists.
#pragma once

#include <limits>  // std::numeric_limits

#include <lowrank/optimizer/canonical.hpp>
#include <lowrank/optimizer/pieces.hpp>
#include <lowrank/optimizer/report.hpp>
#include <lowrank/optimizer/write.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

template <class S, class ProjectorOptions, class RuleOptions, class LiftOptions, class K>
class Engine {
  using Projector = ProjectorState<ProjectorOptions, S, K>;
  using Rule = RuleState<RuleOptions, S, K>;
  using Lift = LiftState<LiftOptions, S, K>;
  using Source = linalg::Source<S, K>;

  static constexpr Index tile = linalg::tile_columns;
  static constexpr bool whole_rule = WholeRule<Rule>;
  static constexpr bool dense = requires(const typename Projector::Work& work) { work.dense.packed; };
  static constexpr bool moves_weight = WeightWriter<S, Projector, Rule, Lift, K>::moves_weight;

  static_assert(!Projector::whole_gradient || only_projects<Lift>,
                "Identity keeps the whole gradient: there is nothing to scale or feed back; use BackProject{}");
  static_assert(!TwoSided<Projector> || only_projects<Lift>,
                "a two-sided projection has no columns to scale and keeps no error; use BackProject{}");
  static_assert(orthonormal<Projector> || !(Lift::needs_core || Lift::keeps_error || UsesRemainder<Lift>),
                "what the projection loses is A - P P^T A only for an orthonormal P, which Gaussian's is not; use "
                "Subspace{}, or ChannelScale{}");
  static_assert(!UsesRemainder<Lift> || !(Projector::whole_gradient || TwoSided<Projector>),
                "a remainder needs a one-sided projection that loses something; use BackProject{}");

 public:
  /// Whether a step needs nothing of the gradient but P^T G, which is linear in it.
  static constexpr bool linear = only_projects<Lift> && !Projector::whole_gradient && !TwoSided<Projector>;

  using Pieces = StepPieces<S, Projector, Rule, Lift, K>;
  Engine(Projector& projector, Rule& rule, Lift& lift, Pieces& pieces, const Step& step, Index d, Index k)
      : projector_(projector), rule_(rule), lift_(lift), p_(pieces), step_(step), d_(d), k_(k), writer_(projector, lift, pieces, d, k) {}

  Report run(const linalg::Memory<void>& w, const linalg::Memory<const void>& g, std::uint64_t& steps,
             linalg::RoundingKey key) {
    a_ = Source{g, d_, k_, step_.grad_scale, nullptr};
    if constexpr (Lift::keeps_error) a_.error = &lift_.error();
    writer_.aim(w, a_, key);
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
    a_ = Source{{}, d_, k_, 1.0, nullptr};
    writer_.aim(w, a_, key);
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
    if (due && !RefreshChecks<Projector> && !step_.grad_norm && !is_finite(gradient_energy())) return {.skipped = true};
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
    const double gain = rule_.gain();
    writer_.move_by(step_.lr, gain, rule_.decay(step_.lr));
    if constexpr (Lift::uses_projection) writer_.prepare();
    if constexpr (whole_rule && !TwoSided<Projector>) rule_.direction(core, beside<Rule, Lift> ? p_.direction : core, p_.rule, p_.team);
    if constexpr (TwoSided<Projector>) {
      const Index r = projector_.core_rows();
      if constexpr (whole_rule) rule_.direction(core, core, p_.rule, p_.team);
      else rule_.direction(core, r, core, r, 0, r, 0, r);
      for_tiles([&](Index t, Index j0, Index w, int slot) {
        (void)t;
        S* N = p_.tiles + slot * r * tile;
        projector_.unfold(core, j0, w, N);
        writer_.write(j0, w, core, N, slot);
      });
    } else if constexpr (Lift::uses_gradient) {
      for_tiles([&](Index t, Index j0, Index w, int slot) {
        S* N = direction(j0, w, slot);
        p_.sums[t] = lift_.measure(w, projector_.core_rows(), core_at(j0), N, p_.energy + j0, p_.phi + j0);
      });
      lift_.limit(sum(), gain, k_, p_.phi);
      if (!Lift::uses_projection && writer_.move_along_gradient()) return report;
      for_tiles([&](Index, Index j0, Index w, int slot) { writer_.write(j0, w, core_at(j0), direction_at(j0, slot), slot); },
                tiles_at_once(moves_weight, writer_.by_rows()));
    } else {
      for_tiles([&](Index, Index j0, Index w, int slot) {
        if constexpr (Lift::keeps_error)
          projector_.keep(a_, j0, w, core_at(j0), lift_.error(), slot, work, p_.team);
        writer_.write(j0, w, core_at(j0), direction(j0, w, slot), slot);
      }, tiles_at_once(moves_weight, writer_.by_rows()));
    }
    return report;
  }

  TileSums project() {
    const Index r = projector_.core_rows();
    for_tiles([&](Index first, Index begin, Index width, int slot) {
      projector_.project(a_, begin, width, core_at(begin), p_.energy + begin, slot, p_.projection, p_.team);
      for (Index t = first, j0 = begin; j0 < begin + width; ++t, j0 += tile) {
        const Index n = std::min(tile, begin + width - j0);
        p_.sums[t] = {.core = K::sum_squares(r * n, core_at(j0)), .gradient = K::sum_abs(n, p_.energy + j0)};
      }
    }, tiles_at_once(dense, a_.gradient.row_stride != 1));
    return sum();
  }

  S* core_at(Index j) const { return p_.core + j * projector_.core_rows(); }
  /// N_J: over R_J, beside it when R must survive, or in the thread's own tile when it is only measured.
  S* direction_at(Index j0, int slot) const {
    const Index r = projector_.core_rows();
    if constexpr (beside<Rule, Lift>) return p_.direction + j0 * r;
    if constexpr (Lift::uses_gradient && !whole_rule) return p_.tiles + slot * r * tile;
    return core_at(j0);
  }
  S* direction(Index j0, Index w, int slot) {
    const Index r = projector_.core_rows();
    S* N = direction_at(j0, slot);
    if constexpr (!whole_rule) rule_.direction(core_at(j0), r, N, r, 0, r, j0, w);
    return N;
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
    const double gain = rule_.gain();
    writer_.move_by(step_.lr, gain, rule_.decay(step_.lr));
    if constexpr (whole_rule) {
      for_tiles([&](Index, Index j0, Index w, int) { a_.load_gradient(0, d_, j0, w, p_.direction + j0 * d_, d_); });
      rule_.direction(p_.direction, p_.direction, p_.rule, p_.team);
      for_tiles([&](Index, Index j0, Index w, int slot) {
        S* N = p_.direction + j0 * d_;
        lift_.coefficients(d_, w, N, N, nullptr);
        for (Index i0 = 0; i0 < d_; i0 += linalg::block_rows)
          writer_.write_block(i0, std::min(linalg::block_rows, d_ - i0), j0, w, N + i0, d_, p_.team[slot].stage);
      });
    } else if constexpr (TileRule<Rule>) {
      if (Rule::splits(d_) && !(a_.gradient.row_stride == 1 && writer_.by_columns())) {
        step_pieces();
        return report;
      }
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
          rule_.direction(R, d_, N, d_, 0, d_, j0, w, writer_.ahead(0, d_, j0, w));
          lift_.coefficients(d_, w, N, N, nullptr);
          for (Index i0 = 0; i0 < d_; i0 += linalg::block_rows)
            writer_.write_block(i0, std::min(linalg::block_rows, d_ - i0), j0, w, N + i0, d_, p_.team[slot].stage);
        }
      });
    } else {
      for_blocks([&](Index i0, Index m, Index j0, Index w, int slot) {
        const auto scratch = p_.team[slot];
        S* N = scratch.rows;
        const auto A = gradient_block(a_, i0, m, j0, w, scratch.stage);
        rule_.direction(A.data, A.col_stride, N, m, i0, m, j0, w);
        lift_.coefficients(m, w, N, N, nullptr);
        writer_.write_block(i0, m, j0, w, N, m, scratch.stage);
      });
    }
    return report;
  }

  /// Where G or W lies in rows: 256 x 128 numbers at a time are turned, which stay in the second cache level while the next ones are fetched.
  /// Pieces side by side follow each other, since each row is another page.
  void step_pieces() {
    constexpr Index high = linalg::block_rows, wide = 128;
    const Index down = (d_ + high - 1) / high, pieces = (k_ + wide - 1) / wide, ld = std::min(high, d_) + linalg::stage_padding;
    const Index at_once = std::clamp<Index>(pieces * down / (4 * p_.team.threads()), 1, 8), across = (pieces + at_once - 1) / at_once;
    for_each(down * across, p_.team.threads(), [&](Index b, int slot) {
      const Index i0 = b % down * high, m = std::min(high, d_ - i0), begin = b / down * at_once * wide;
      S* N = p_.team[slot].stage;
      for (Index j0 = begin; j0 < std::min(k_, begin + at_once * wide); j0 += wide) {
        const Index w = std::min(wide, k_ - j0);
        a_.load_gradient(i0, m, j0, w, N, ld);
        const Index after = j0 + wide;
        kernel::Both<kernel::Ahead<kernel::Access::Write>, kernel::Ahead<kernel::Access::Read>> ahead{writer_.ahead(i0, m, j0, w), {}};
        if (after < k_) ahead.second = gradient_ahead(i0, m, after, std::min(wide, k_ - after));
        rule_.direction(N, ld, N, ld, i0, m, j0, w, ahead);
        for (Index j = 0; j < w; ++j) lift_.coefficients(m, 1, N + j * ld, N + j * ld, nullptr);
        writer_.write_block(i0, m, j0, w, N, ld, p_.team[slot].rows);
      }
    });
  }

  kernel::Ahead<kernel::Access::Read> gradient_ahead(Index i0, Index m, Index j0, Index n) const {
    const auto there = a_.gradient_in_place(i0, j0);
    if (there.data == nullptr) return {};
    if (there.row_stride != 1) return {there.data, n, m, there.row_stride};
    return {there.data, m, n, there.col_stride};
  }

  // -- shared -----------------------------------------------------------------------------------------------------------

  /// A square of this size fits the computing scalar. NaN and infinity do not.
  static bool usable(double energy) { return is_finite(energy) && energy <= double(std::numeric_limits<S>::max()); }

  static double square(double x) { return x * x; }

  double gradient_energy() {
    const Index tiles = (k_ + tile - 1) / tile;
    for (Index t = 0; t < tiles; ++t) p_.sums[t] = {};
    constexpr Index tiles_of_rows = 4, widest = tiles_of_rows * linalg::tile_columns, block_rows = linalg::block_rows;
    const Source g = a_.inside();
    const double scale = a_.outside();
    const auto first = g.gradient_in_place(0, 0);
    const bool rows = first.data != nullptr && first.row_stride != 1;  // short pieces of rows take long to find
    for_tiles([&](Index t, Index begin, Index width, int slot) {
      double column[widest] = {};
      const auto there = g.gradient_in_place(0, begin);
      for (Index i0 = 0; i0 < d_; i0 += block_rows) {
        const Index m = std::min(block_rows, d_ - i0);
        if (rows) {
          K::column_squares(m, width, there.data + i0 * there.row_stride, there.row_stride, column, scale);
        } else if (there.data == nullptr) {
          S* block = p_.team[slot].stage;
          g.load_gradient(i0, m, begin, width, block, m);
          for (Index j = 0; j < width; ++j) column[j] += K::sum_squares(m, block + j * m, scale);
        }
      }
      if (!rows && there.data != nullptr)
        for (Index j = 0; j < width; ++j)
          for (Index i0 = 0; i0 < d_; i0 += block_rows)
            column[j] += K::sum_squares(std::min(block_rows, d_ - i0), there.data + i0 + j * there.col_stride, scale);
      for (Index j = 0; j < width; ++j) p_.sums[t + j / tile].gradient += column[j];
    }, rows ? Turns{tiles_of_rows, tiles_of_rows} : Turns{});
    return sum().gradient;
  }

  TileSums sum() const {
    TileSums total;
    for (Index t = 0; t < (k_ + tile - 1) / tile; ++t) total += p_.sums[t];
    return total;
  }

  /// How many tiles a thread takes at a time, and how many of the last quarter, so that nobody is waited for long.
  struct Turns {
    Index many = 1, last = 1;
  };
  /// f(tile, j0, width, slot) for as many tiles at a time.
  template <class F>
  void for_tiles(const F& f, Turns turns = {}) {
    const Index tiles = (k_ + tile - 1) / tile, large = tiles * 3 / 4 / turns.many, rest = tiles - large * turns.many;
    for_each(large + (rest + turns.last - 1) / turns.last, p_.team.threads(), [&](Index i, int slot) {
      const bool early = i < large;
      const Index first = early ? i * turns.many : large * turns.many + (i - large) * turns.last;
      const Index j0 = first * tile, width = (early ? turns.many : turns.last) * tile;
      f(first, j0, std::min(width, k_ - j0), slot);
    });
  }
  /// Of a dense projector: the more tiles at a time, the less often P is read; of a matrix in rows, whose rows are pages apart, up to a
  /// page of numbers, and never fewer. N of the tiles must fit the scratch; threads that share them get 8 turns each, of rows 4.
  Turns tiles_at_once(bool by_products, bool rows) const {
    if (!by_products) return {};
    const Index tiles = k_ / tile, threads = p_.team.threads(), fair = threads == 1 ? tiles : tiles / ((rows ? 4 : 8) * threads);
    const Index room = p_.team.block_size() / (tile * projector_.core_rows());
    const Index widest = std::max((rows ? 4 : 1) * linalg::block_rows, 16 * linalg::block_rows / d_);  // of few rows more, or threads wait for their turn
    const Index many = std::clamp<Index>(std::min(fair, room), 1, widest / tile);
    return {many, rows || threads == 1 ? many : std::max<Index>(many / 4, 1)};
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
  Source a_;
  WeightWriter<S, Projector, Rule, Lift, K> writer_;
};

}  // namespace detail
}  // namespace lowrank
