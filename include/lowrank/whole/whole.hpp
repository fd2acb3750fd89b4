// Whole optimizers: methods whose papers couple projection, rule and return (error feedback inside a full momentum, a basis
// with an optimizer of its own...). One takes the projector's place in an Optimizer, with Coupled for the other two,
//
//   lowrank::Optimizer opt(W, lowrank::Trion{.rank = 64}, lowrank::Coupled{}, lowrank::Coupled{});   // lowrank::trion(W, ..)
//
// and so has everything an Optimizer has: the same door, checks, files, equality, workspace and place in a Fleet. Not a
// second class with the same face: there is one composition, and these are its case of one part.
//
// ProjectorState<Options, S, K> of such a method derives from detail::WholeMethod and adds
//
//   ProjectorState(options, d, k, fan_out, fan_in)      the canonical shape and the user's
//   Work(arena, state, threads)                         workspace
//   void step(Stage& stage, Work& work, Report& report) one step, of which it is certain that it happens: A is finite and
//                                                       its square fits S. Nothing in it may fail.
//   const CompactMatrix<S>* error()                     optional: E (d x k), A = G + E; may be null
//   static constexpr bool normalises = true             optional: the step divides by report.grad_norm = ||A||
#pragma once

#include <lowrank/optimizer.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

struct NothingCoupled {
  Coupled& options() { return options_; }
  const Coupled& options() const { return options_; }
  void check() const {}
  void visit(auto&&) const {}

 private:
  Coupled options_;
};

/// One step of a whole optimizer on one matrix: what it reads, what it writes, and the loops over tiles of 64 columns.
template <class S, class K>
struct Stage {
  linalg::Source<S, K> a;
  linalg::Memory<void> w;
  const Step& step;
  linalg::RoundingKey key;
  const linalg::Team<S, K>& team;
  double* partial;  // one number per tile
  Index d, k;
  std::uint64_t t;  // of this step, from 1

  static constexpr Index tile = linalg::tile_columns;
  Index tiles() const { return (k + tile - 1) / tile; }

  /// f(t, j0, w, slot)
  template <class F>
  void for_tiles(const F& f) const {
    for_each(tiles(), team.threads(), [&](Index i, int slot) { f(i, i * tile, std::min(tile, k - i * tile), slot); });
  }
  /// The partial numbers added in tile order.
  double sum() const {
    double total = 0;
    for (Index i = 0; i < tiles(); ++i) total += partial[i];
    return total;
  }
  /// ||A||^2, with fed back errors.
  double energy() const {
    for_tiles([&](Index i, Index j0, Index n, int slot) {
      partial[i] = 0;
      each_block([&](Index i0, Index m) {
        a.load(i0, m, j0, n, team[slot].stage, m);
        for (Index j = 0; j < n; ++j) partial[i] += K::sum_squares(m, team[slot].stage + j * m);
      });
    });
    return sum();
  }
  /// f(i0, m) for blocks of rows of the canonical matrix.
  template <class F>
  void each_block(const F& f) const {
    for (Index i0 = 0; i0 < d; i0 += linalg::block_rows) f(i0, std::min(linalg::block_rows, d - i0));
  }
  /// W block <- (1 - lr wd) W - move U.
  void update(Index i0, Index m, Index j0, Index n, const S* U, Index ld, double move, double weight_decay, int slot) const {
    write_block<S, K>(w, key, i0, m, j0, n, U, ld, team[slot].stage, move, {1 - step.lr * weight_decay, 1});
  }
};

/// What whole optimizers share: options, the shape of their core (r x k) and their rank.
template <class Options>
class WholeMethod {
 public:
  static constexpr bool whole_gradient = false, whole_method = true;

  Options& options() { return options_; }
  const Options& options() const { return options_; }
  Index rank() const { return r_; }
  Index core_rows() const { return r_; }
  Index core_cols() const { return k_; }
  Side side() const { return options_.side; }

 protected:
  WholeMethod() = default;
  WholeMethod(const char* who, const Options& options, Index d, Index k, Index largest_rank, Index fan_out, Index fan_in)
      : options_(options), d_(d), k_(k), largest_rank_(largest_rank), fan_out_(double(fan_out)), fan_in_(double(fan_in)) {
    if (options.rank < 1) bad_argument(who, "rank = " + std::to_string(options.rank), "rank >= 1");
    r_ = std::min(Index(options.rank), largest_rank);
    if constexpr (requires { options.rank_fraction; }) {
      require(options.rank_fraction >= 0 && options.rank_fraction <= 1, who, "rank_fraction", options.rank_fraction,
              "0 <= rank_fraction <= 1 (0: rank decides)");
      if (options.rank_fraction > 0)
        r_ = std::min(largest_rank, Index(std::ceil(options.rank_fraction * double(largest_rank))));
    }
    if constexpr (requires { options.refresh_every; })
      if (options.refresh_every < 0)
        bad_argument(who, "refresh_every = " + std::to_string(options.refresh_every), "a number of steps >= 0 (0: only once)");
  }

  /// Called by check(): what fixes the shape of the state may not be changed.
  void check_rank(const char* who) const {
    if (WholeMethod(who, options_, d_, k_, largest_rank_, 1, 1).r_ != r_)
      bad_argument(who, "another rank", std::to_string(r_) + ", as at construction");
  }

  Options options_;
  Index d_ = 0, k_ = 0, r_ = 0, largest_rank_ = 0;
  double fan_out_ = 1, fan_in_ = 1;
};

template <class S, class P, class K>
class Engine<S, P, Coupled, Coupled, K> {
  using Method = ProjectorState<P, S, K>;
  using Rule = RuleState<Coupled, S, K>;
  using Lift = LiftState<Coupled, S, K>;

 public:
  struct Pieces {
    linalg::Team<S, K> team;
    double* partial = nullptr;
    typename Method::Work work;

    Pieces(Arena& arena, const Method& method, Index d, Index k, int threads)
        : team(arena, threads, std::max(d, k)),
          partial(arena.take<double>((k + linalg::tile_columns - 1) / linalg::tile_columns)),
          work(arena, method, threads) {}
  };

  Engine(Method& method, Rule&, Lift&, Pieces& pieces, const Step& step, Index d, Index k)
      : method_(method), pieces_(pieces), step_(step), d_(d), k_(k) {}

  Report run(const linalg::Memory<void>& w, const linalg::Memory<const void>& g, std::uint64_t& steps,
             linalg::RoundingKey key) {
    Stage<S, K> stage{{g, d_, k_, step_.grad_scale, nullptr}, w, step_, key, pieces_.team, pieces_.partial, d_, k_, steps + 1};
    constexpr bool feeds_back = requires { method_.error(); };
    if constexpr (feeds_back) stage.a.error = method_.error();
    Report report;
    double energy = 0;
    if (step_.grad_norm) {
      energy = *step_.grad_norm * *step_.grad_norm * step_.grad_scale * step_.grad_scale;
      if (!usable(energy)) return {.skipped = true};
    }
    constexpr bool normalises = requires { requires Method::normalises; };
    // a norm of G says nothing of G + E, and one that enters the step has to be ours
    if (!step_.grad_norm || feeds_back || normalises) energy = stage.energy();
    if (!usable(energy)) return {.skipped = true};
    report.grad_norm = std::sqrt(energy);
    ++steps;
    method_.step(stage, pieces_.work, report);
    return report;
  }

 private:
  static bool usable(double energy) { return is_finite(energy) && energy <= double(std::numeric_limits<S>::max()); }

  Method& method_;
  Pieces& pieces_;
  const Step& step_;
  Index d_, k_;
};

}  // namespace detail

template <class S, class K>
class RuleState<Coupled, S, K> : public detail::NothingCoupled {
 public:
  RuleState() = default;
  RuleState(const Coupled&, Index, Index) {}
};
template <class S, class K>
class LiftState<Coupled, S, K> : public detail::NothingCoupled {
 public:
  LiftState() = default;
  LiftState(const Coupled&, Index, Index) {}
};

}  // namespace lowrank
