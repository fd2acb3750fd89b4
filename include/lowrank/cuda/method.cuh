// Whole optimizers on a device: methods whose papers couple projection, rule and return (lowrank/whole/). One takes the projector's place
// in an Optimizer, with Coupled for the other two. ProjectorState<Options, S, B> of a method has
//   ProjectorState(options, d, k, fan_out, fan_in), Work(arena, state)
//   motion()                                  of the weight, as a rule's
//   step(backend, source, work, control)      after the decision; where control->go is 0 nothing may change. Leaves work.candidate
//                                             (d x r) and work.direction (r x k): W <- (1 - lr wd) W - lr f P N
//   visit(f)                                  what is kept between steps
#pragma once

#include <lowrank/cuda/dct_rows.cuh>
#include <lowrank/cuda/momentum_rule.cuh>
#include <lowrank/cuda/orth.cuh>
#include <lowrank/cuda/polar.cuh>
#include <lowrank/cuda/projector.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

template <class S, class B>
class RuleState<Coupled, S, B> {
 public:
  static constexpr bool follows_memory = false;

  RuleState() = default;
  RuleState(const Coupled&, Index, Index, Index, Index) {}
  Coupled& options() { return options_; }
  const Coupled& options() const { return options_; }
  void check() const {}
  double beta1() const { return 0; }
  double beta2() const { return 0; }
  void visit(auto&&) {}

 private:
  Coupled options_;
};

/// report.captured = ||R||^2 / ||B||^2 from their columns, control->norm = ||B||^2.
template <class S>
struct Captured {
  static constexpr int threads = 256;
  const double *all, *held;
  Index k, held_columns;
  Control<S>* control;

  Grid grid() const { return {1, shared_bytes<double>(threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    double* room = block.template shared<double>(threads);
    const double energy = total(block, all, k, room), kept = total(block, held, held_columns, room);
    block.each([&](int t) {
      if (t != 0 || control->go == 0) return;
      control->norm = energy;
      control->report.refreshed = energy > 0 || control->report.refreshed;
      control->report.captured = energy > 0 ? least(1.0, kept / energy) : 0.0;
    });
  }
};

namespace detail {

template <class Options>
Index method_rank(const char* who, const Options& o, Index limit) {
  require(o.rank >= 1, who, "rank", double(o.rank), "rank >= 1");
  check_beta(who, "mu", o.mu), check_decay(who, o.weight_decay);
  Index r = least<Index>(o.rank, limit);
  if constexpr (requires { o.rank_fraction; }) {
    require(o.rank_fraction >= 0 && o.rank_fraction <= 1, who, "rank_fraction", o.rank_fraction, "0 <= rank_fraction <= 1 (0: rank decides)");
    if (o.rank_fraction > 0) r = least<Index>(limit, Index(std::ceil(o.rank_fraction * double(limit))));
  }
  return r;
}

}  // namespace detail

/// What methods share.
template <class Options>
class Method {
 public:
  Options& options() { return options_; }
  const Options& options() const { return options_; }
  Index rank() const { return r_; }
  void check() const {
    if (detail::method_rank(who_, options_, limit_) != r_) detail::bad_argument(who_, "another rank", std::to_string(r_) + ", as at construction");
  }
  PlainMotion motion() const { return {shape_factor(options_.shape_scale, fan_out_, fan_in_), options_.weight_decay}; }
  static void numbers(auto&, auto&&) {}

 protected:
  Method() = default;
  Method(const char* who, const Options& options, Index d, Index k, Index limit, Index fan_out, Index fan_in)
      : options_(options), d_(d), k_(k), r_(detail::method_rank(who, options, limit)), limit_(limit), fan_out_(double(fan_out)), fan_in_(double(fan_in)), who_(who) {}

  Options options_;
  Index d_ = 0, k_ = 0, r_ = 0, limit_ = 0;
  double fan_out_ = 1, fan_in_ = 1;
  const char* who_ = "";
};

/// Trion (arXiv 2505.17967): B <- B + T(A), the r strongest rows of B orthogonalised move the weight and keep mu of themselves;
/// lowrank/whole/selected_momentum.hpp. The momentum lives in the transform's domain.
template <class S, class B>
class ProjectorState<Trion, S, B> : public Method<Trion> {
 public:
  ProjectorState() = default;
  ProjectorState(const Trion& options, Index d, Index k, Index fan_out, Index fan_in)
      : Method<Trion>("lowrank::Trion", options, d, k, d, fan_out, fan_in), momentum_(d, k), indices_(r_, 1), factors_(d) {
    check_transform<S>(who_, d);
    detail::require(options.domain == MomentumDomain::Transform, who_, "domain", double(options.domain), "MomentumDomain::Transform on a device");
  }

  struct Work {
    S *candidate, *direction, *table;
    Squares scores, energies, held;
    Polar<S> polar;
    int *chosen, *index;

    Work() = default;
    Work(Arena& arena, const ProjectorState& p)
        : candidate(arena.take<S>(p.d_ * p.r_)), direction(arena.take<S>(p.r_ * p.k_)), table(arena.take<S>(4 * p.d_)), scores(arena, p.k_, p.d_),
          energies(arena, p.d_, p.k_), held(arena, p.r_, p.k_), polar(arena, p.r_, p.k_), chosen(arena.take<int>(p.d_)), index(arena.take<int>(p.r_)) {}
  };

  void begin(B& backend) { launch(backend, FirstIndices{indices_.data(), r_}); }

  template <class Source>
  void step(B& backend, const Source& a, Work& work, Control<S>* control) {
    launch(backend, CosineTable<S>{work.table, d_});
    launch(backend, CosineTransform<S, Source, Added<S>>{a, {momentum_.data(), d_}, d_, k_, options_.basis, factors_, work.table, control});
    work.scores.template operator()<S, S>(backend, View<const S>{momentum_.data(), k_, d_, d_, 1}, nullptr, true);
    work.energies.template operator()<S, S>(backend, View<const S>{momentum_.data(), d_, k_, 1, d_});
    launch(backend, Choose{work.scores.column, d_, r_, work.chosen});
    launch(backend, Chosen{work.chosen, d_, r_, work.index, nullptr, nullptr});
    launch(backend, CopyIf<int, S>{work.index, indices_.data(), r_, control});
    launch(backend, TakeRows<S>{momentum_.data(), work.direction, d_, r_, k_, work.index, S(options_.mu), control});
    work.held.template operator()<S, S>(backend, View<const S>{work.direction, r_, k_, 1, r_});
    launch(backend, Captured<S>{work.energies.column, work.held.column, k_, k_, control});
    work.polar(backend, work.direction, options_.polynomial, control);
    launch(backend, Cosines<S>{work.candidate, d_, r_, work.index, work.table, options_.basis});
  }
  void visit(auto&& f) { f("momentum", momentum_), f("indices", indices_); }

 private:
  Array<S, B> momentum_;
  Array<std::int32_t, B> indices_;
  Factors factors_;
};

/// direction = R with rows of unit length; right takes it over. Where the momentum is zero, right stays.
template <class S>
struct UnitRows {
  const S* core;
  const double* square;
  S *direction, *right;
  Index r, k;
  const Control<S>* control;

  LOWRANK_HOST_DEVICE Index size() const { return r * k; }
  LOWRANK_DEVICE void operator()(Index e) const {
    const bool go = control->go != 0;
    direction[e] = go ? S(double(core[e]) / (std::sqrt(square[e % r]) + 1e-8)) : S(0);
    if (go && control->norm > 0) right[e] = direction[e];
  }
};
/// control->write_momentum = {mu - 1, 1}, or what changes nothing.
template <class S>
struct FeedBack {
  static constexpr int threads = 1;
  double mu;
  Control<S>* control;

  Grid grid() const { return {1}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    block.each([&](int) {
      control->write_momentum[0] = control->go != 0 ? S(mu - 1) : S(-0.0);
      control->write_momentum[1] = 1;
    });
  }
};

/// Dion (arXiv 2504.05295, alg. 1): B <- B + A, P = orth(B Q), R = P^T B, B <- B - (1 - mu) P R, Q = R with unit rows, U = P Q;
/// lowrank/whole/dion.hpp.
template <class S, class B>
class ProjectorState<Dion, S, B> : public Method<Dion> {
 public:
  ProjectorState() = default;
  ProjectorState(const Dion& options, Index d, Index k, Index fan_out, Index fan_in)
      : Method<Dion>("lowrank::Dion", options, d, k, least(d, k), fan_out, fan_in), momentum_(d, k), right_(r_, k) {}

  struct Work {
    S *candidate, *direction, *core;
    Squares energies, rows;
    Orth orth;

    Work() = default;
    Work(Arena& arena, const ProjectorState& p)
        : candidate(arena.take<S>(p.d_ * p.r_)), direction(arena.take<S>(p.r_ * p.k_)), core(arena.take<S>(p.r_ * p.k_)), energies(arena, p.d_, p.k_),
          rows(arena, p.k_, p.r_), orth(arena, p.d_, p.r_) {}
  };

  /// Q^T with independent N(0, 1) entries.
  void begin(B& backend) { launch(backend, FillNormal<S>{right_.data(), right_.size(), options_.seed, 0}); }

  template <class Source>
  void step(B& backend, const Source& a, Work& work, Control<S>* control) {
    const auto momentum = columns<const S>(momentum_.data(), d_);
    launch(backend, sweep(a, Added<S>{momentum_.data(), d_}, d_, k_, control));
    work.energies.template operator()<S, S>(backend, View<const S>{momentum_.data(), d_, k_, 1, d_});
    backend.gemm(momentum, transposed<const S>(right_.data(), r_), columns(work.candidate, d_), d_, r_, k_, Scale<S>{});
    work.orth(backend, work.candidate, r_, static_cast<const S*>(nullptr), work.candidate);
    backend.gemm(transposed<const S>(work.candidate, d_), momentum, columns(work.core, r_), r_, k_, d_, Scale<S>{});
    work.rows.template operator()<S, S>(backend, View<const S>{work.core, k_, r_, r_, 1});
    launch(backend, Captured<S>{work.energies.column, work.rows.column, k_, r_, control});
    launch(backend, FeedBack<S>{options_.mu, control});
    backend.gemm(columns<const S>(work.candidate, d_), columns<const S>(work.core, r_), columns(momentum_.data(), d_), d_, k_, r_, Scale<S>{1, 0, control->write_momentum});
    launch(backend, UnitRows<S>{work.core, work.rows.column, work.direction, right_.data(), r_, k_, control});
  }
  void visit(auto&& f) { f("momentum", momentum_), f("right", right_); }

 private:
  Array<S, B> momentum_, right_;
};

}  // namespace cuda
}  // namespace lowrank
