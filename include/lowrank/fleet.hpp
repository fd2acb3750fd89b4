// Fleet: the optimizers of a whole model. A few groups of recipes over named parameters, one workspace, one step, one file.
//
//   lowrank::Fleet fleet(params, Group{named("*.attn.*", "*.mlp.*"), lowrank::galore({.rank = 128})},
//                                Group{anything(), lowrank::adamw({.weight_decay = 0.1})});
//   std::cout << fleet.plan();
//   const double norm = lowrank::grad_norm(params);
//   fleet.step(params, {.lr = lr(t), .grad_scale = clip(norm, 1.0), .grad_norm = norm});
//
// It keeps no pointer into the model: the parameters come with every step and must be the constructor's in number, order,
// name and shape. Vectors get their group's rule on the whole gradient, and plan() says so. A projector with a seed gets
// seed + position in the model.
// Like an Optimizer a Fleet is a regular value; its first step (or load) allocates, later ones do not. Large matrices use
// the caller's OpenMP threads inside, small ones are shared out among them; no bit depends on it.
#pragma once

#include <span>
#include <string_view>

#include <lowrank/fleet/gradient_sum.hpp>
#include <lowrank/fleet/members.hpp>
#include <lowrank/fleet/rebalance.hpp>
#include <lowrank/fleet/sharing.hpp>
#include <lowrank/optimizer/schedule.hpp>
#include <lowrank/recipes.hpp>

namespace lowrank::inline LOWRANK_ABI {

/// What a step says of all matrices together; reports() has it for each.
struct FleetReport {
  Index skipped = 0;                   // matrices whose gradient was not finite; all or none if Step::grad_norm was given
  std::string_view first_skipped;      // the name of the first of them
  Index refreshed = 0;                 // matrices whose basis was renewed
  double captured = 1;                 // sum ||R_i||^2 / sum ||A_i||^2 over the projected matrices
  double drift = 0;                    // the largest
  double grad_norm = 0;                // of all gradients that were not skipped
};

template <class S, class... R>
class Fleet {
 public:
  using Scalar = S;

  /// Allocates no state. Throws std::invalid_argument naming the parameter or the pattern that has no partner, the
  /// parameter whose name is empty or used twice, or what the recipe's options lack.
  template <Model M>
  explicit Fleet(const M& params, Group<R>... groups) : members_(params, groups...) {
    static_assert(std::is_same_v<compute_t<typename std::ranges::range_value_t<M>::Weight>, S>,
                  "the state's scalar is the one the weights compute in");
    for (std::size_t i = 0; i < size(); ++i) order_.push_back(i);
    std::stable_sort(order_.begin(), order_.end(), [&](std::size_t a, std::size_t b) { return members_.elements(a) > members_.elements(b); });
    while (large_ < order_.size() && members_.elements(order_[large_]) > detail::small_matrix) ++large_;
    reports_.resize(size());
    sums_.resize(size());
    spans_.resize(2 * size());
  }

  /// One step on every matrix. Throws std::invalid_argument before anything is touched: another model, wrong shapes,
  /// memory that two parameters share, lr, options. What cannot be stepped is skipped and reported, as by an Optimizer.
  template <Model M>
  FleetReport step(const M& params, const Step& step) {
    check(params, step);
    return run_all(params, step, [](auto& o, Workspace& workspace, std::size_t, const auto& p, const Step& mine) {
      return o.step_with(workspace, p.weight, p.gradient, mine);
    });
  }

  /// One step on one matrix, so that its gradient can be released before the next one exists.
  template <class T, class G>
  Report step(std::size_t i, const Parameter<T, G>& p, const Step& step) {
    members_.check_index("lowrank::Fleet::step", i);
    check_one(i, p, step);
    allocate();
    reports_[i] = Report{};
    if (p.lr_scale != 0)
      members_.visit(i, [&](auto& o) { reports_[i] = o.step_with(scratch_.large, p.weight, p.gradient, share(step, i, p.lr_scale)); });
    return reports_[i];
  }

  /// Adds weight times the gradient of every parameter (or of one, whose gradient may then go) to what step_accumulated()
  /// will step with. Where only P^T G matters and the basis is not due, that is a sum of r x k numbers; elsewhere (a due
  /// basis, lifts that need the whole gradient, matrices that are not projected) it is one of m x n, which is released by
  /// the step. Throws std::invalid_argument as step() does.
  template <Model M>
  void accumulate(const M& params, double weight = 1) {
    members_.check_size("lowrank::Fleet::accumulate", params);
    for (std::size_t i = 0; i < size(); ++i) check_gradient(i, detail::element(params, i), weight);
    for (std::size_t i = 0; i < size(); ++i) add_gradient(i, detail::element(params, i), weight);
  }
  template <class T, class G>
  void accumulate(std::size_t i, const Parameter<T, G>& p, double weight = 1) {
    check_gradient(i, p, weight);
    add_gradient(i, p, weight);
  }
  /// One step with what accumulate() gathered for every parameter; the gradients in params are not looked at.
  template <Model M>
  FleetReport step_accumulated(const M& params, const Step& step) {
    const char* who = "lowrank::Fleet::step_accumulated";
    members_.check_size(who, params);
    for (std::size_t i = 0; i < size(); ++i) {
      const auto& p = detail::element(params, i);
      members_.check_name(who, i, p);
      spans_[2 * i] = spans_[2 * i + 1] = detail::SharedSpan(p.weight, i, true);
      if (p.lr_scale == 0) continue;
      members_.named(i, [&](const auto& o) {
        if (sums_[i].gradients() > 0) o.check(p.weight, sums_[i].view(), step);
        else if constexpr (std::remove_cvref_t<decltype(o)>::accumulates) o.check_accumulated(p.weight, step);
        else detail::bad_argument(who, "no gradient", "accumulate() before it");
      });
    }
    check_memory(who, params);
    const auto report = run_all(params, step, [this]<class O>(O& o, Workspace& workspace, std::size_t i, const auto& p, const Step& mine) {
      if constexpr (O::accumulates)
        if (sums_[i].gradients() == 0) return o.step_accumulated(workspace, p.weight, mine);
      return o.step_with(workspace, p.weight, sums_[i].view(), mine);
    });
    for (auto& sum : sums_) sum.release();
    each([](const std::string&, auto& o) { o.discard(); });  // of parameters that were frozen meanwhile
    return report;
  }
  /// Whether there are gradients that no step has taken yet.
  bool accumulating() const {
    bool any = false;
    for (const auto& sum : sums_) any = any || sum.gradients() > 0;
    each([&](const std::string&, const auto& o) { any = any || o.accumulated() > 0; });
    return any;
  }
  /// Bytes of the sums as they stand.
  std::size_t accumulated_bytes() const {
    std::size_t bytes = 0;
    for (const auto& sum : sums_) bytes += sum.bytes();
    each([&](const std::string&, const auto& o) { bytes += o.accumulated_bytes(); });
    return bytes;
  }

  std::size_t size() const { return members_.size(); }
  const std::string& name(std::size_t i) const { return members_.name(i); }
  /// What the last step did to each parameter, in the model's order.
  std::span<const Report> reports() const { return reports_; }
  /// f(name, optimizer) for every parameter in the model's order: options, ranks, bases.
  template <class F>
  void each(const F& f) { members_.each(f); }
  template <class F>
  void each(const F& f) const { members_.each(f); }

  std::size_t state_bytes() const {
    std::size_t bytes = 0;
    each([&](const std::string&, const auto& o) { bytes += o.state_bytes(); });
    return bytes;
  }
  /// What all steps share: the largest need of a large matrix, and per thread that of a small one.
  std::size_t workspace_bytes(int threads = detail::available_threads()) const {
    std::size_t inside = 0, across = 0;
    for (std::size_t q = 0; q < order_.size(); ++q)
      members_.visit(order_[q], [&](const auto& o) {
        std::size_t& most = q < large_ ? inside : across;
        most = std::max(most, o.workspace_bytes(q < large_ ? threads : 1));
      });
    return inside + across * std::size_t(threads);
  }
  Plan plan(int threads = detail::available_threads()) const {
    Plan plan{{}, workspace_bytes(threads)};
    for (std::size_t i = 0; i < size(); ++i) plan.rows.push_back(members_.row(i));
    return plan;
  }

  /// Shares a budget of state bytes out anew over all matrices whose recipe has an AdaptiveRank (adapt.energy > 0), by what
  /// their last basis held of the gradient (fleet/rebalance.hpp); the others keep what they have. Coordinates that stay keep
  /// their moments, and matrices that changed are due in the next step. A rank that would change by less than
  /// adapt.hysteresis stays, if the budget allows. Gives how many ranks changed. Between steps; allocates; when it throws,
  /// nothing has changed: std::invalid_argument when no rank can adapt, no step was made yet, or the budget does not pay for
  /// rank 1 of each (the message says what would).
  Index rebalance(std::size_t byte_budget) {
    detail::check_settled("lowrank::Fleet::rebalance", accumulating());
    Fleet made(*this);
    const Index changed = detail::rebalance(made, byte_budget);
    if (changed > 0) std::swap(*this, made);
    return changed;
  }

  /// Allocates every state if that has not happened yet; the first step does it otherwise.
  void allocate() {
    if (allocated_) return;
    each([](const std::string&, auto& o) { o.allocate(); });
    allocated_ = true;
  }

  /// Writes every state and all options to one safetensors file, through a temporary and a rename.
  void save(const std::filesystem::path& path) const {
    detail::check_settled("lowrank::Fleet::save", accumulating());
    if (!allocated_) {
      Fleet made(*this);
      made.allocate();
      return made.save(path);
    }
    detail::StateWriter writer;
    each([&](const std::string& name, const auto& o) { o.put(writer, name); });
    writer.write(path);
  }
  /// Replaces all states by a file's: names, shapes, scalars and options must be this fleet's, ranks need not. Throws
  /// std::runtime_error saying what differs or is damaged, and then changes nothing.
  void load(const std::filesystem::path& path) {
    detail::StateReader reader(path);
    Fleet made(*this);
    made.each([&](const std::string& name, auto& o) { o.adopt(o.get(reader, name)); });
    reader.finish();
    made.allocated_ = true;
    std::swap(*this, made);
  }

  friend bool operator==(const Fleet& a, const Fleet& b) {
    return a.members_ == b.members_;
  }

 private:
  template <Model M>
  void check(const M& params, const Step& step) {
    const char* who = "lowrank::Fleet::step";
    members_.check_size(who, params);
    std::size_t i = 0;
    for (const auto& p : params) {
      check_one(i, p, step);
      spans_[2 * i] = detail::SharedSpan(p.weight, i, true);
      spans_[2 * i + 1] = detail::SharedSpan(p.gradient, i, false);
      ++i;
    }
    check_memory(who, params);
  }
  /// Throws when the memory in spans_ is shared by two parameters.
  template <Model M>
  void check_memory(const char* who, const M& params) {
    detail::check_sharing(spans_, [&](const detail::SharedSpan& a, const detail::SharedSpan& b) {
      const auto& p = detail::element(params, a.index);
      const auto& q = detail::element(params, b.index);
      const bool meet = b.weight ? detail::overlap(p.weight, q.weight) : detail::overlap(p.weight, q.gradient);
      if (meet)
        detail::bad_argument(who, "'" + p.name + "' and '" + q.name + "' in the same memory", "separate memory; tied weights are one Parameter");
    });
  }
  template <class P>
  void check_one(std::size_t i, const P& p, const Step& step) const {
    members_.check_name("lowrank::Fleet::step", i, p);
    if (sums_[i].gradients() > 0)
      detail::bad_argument("lowrank::Fleet::step", "a gradient of '" + p.name + "' after others were accumulated", "step_accumulated()");
    members_.named(i, [&](const auto& o) { o.check(p.weight, p.gradient, step); });
  }
  template <class P>
  void check_gradient(std::size_t i, const P& p, double weight) const {
    const char* who = "lowrank::Fleet::accumulate";
    members_.check_index(who, i);
    members_.check_name(who, i, p);
    if (!detail::is_finite(weight)) detail::bad_argument(who, "weight = " + std::to_string(weight), "a finite number");
    members_.named(i, [&](const auto& o) {
      if (p.gradient.rows != o.rows() || p.gradient.cols != o.cols()) detail::bad_shape(who, p.gradient.rows, p.gradient.cols, o.rows(), o.cols());
    });
  }
  template <class P>
  void add_gradient(std::size_t i, const P& p, double weight) {
    if (p.lr_scale == 0) return;
    members_.visit(i, [&]<class O>(O& o) {
      if constexpr (O::accumulates)
        if (!o.due()) return o.accumulate_with(scratch_.large, p.gradient, weight);
      sums_[i].add(p.weight, View<const typename decltype(p.gradient)::Scalar>(p.gradient), weight);
    });
  }

  /// move(optimizer, workspace, i, parameter, its step) for every parameter that is not frozen, large ones first.
  template <Model M, class F>
  FleetReport run_all(const M& params, const Step& step, const F& move) {
    allocate();
    prepare();
    const auto run = [&](std::size_t i, Workspace& workspace) {
      const auto& p = detail::element(params, i);
      reports_[i] = Report{};
      if (p.lr_scale != 0) members_.visit(i, [&](auto& o) { reports_[i] = move(o, workspace, i, p, share(step, i, p.lr_scale)); });
    };
    for (std::size_t q = 0; q < large_; ++q) run(order_[q], scratch_.large);
    detail::for_each(Index(order_.size() - large_), int(scratch_.small.size()), [&](Index q, int slot) {
      run(order_[large_ + std::size_t(q)], scratch_.small[std::size_t(slot)]);
    });
    return summary(step);
  }

  /// The step of parameter i: its own rate, and its own stream of stochastic rounding.
  static Step share(const Step& step, std::size_t i, double lr_scale) {
    Step mine = step;
    mine.lr *= lr_scale;
    mine.seed += 0x9E3779B97F4A7C15u * (i + 1);
    return mine;
  }

  /// All memory a step needs, so that nothing can fail once the first weight has moved.
  void prepare() {
    const int threads = scratch_.large.threads();
    while (scratch_.small.size() < std::size_t(threads)) scratch_.small.emplace_back(1);
    std::size_t across = 0;
    for (std::size_t q = 0; q < order_.size(); ++q)
      members_.visit(order_[q], [&](const auto& o) {
        if (q < large_) scratch_.large.reserve(o.workspace_bytes(threads));
        else across = std::max(across, o.workspace_bytes(1));
      });
    for (Workspace& w : scratch_.small) w.reserve(across);
  }

  FleetReport summary(const Step& step) const {
    FleetReport all;
    double kept = 0, energy = 0, squares = 0;
    for (std::size_t i = 0; i < size(); ++i) {
      const Report& r = reports_[i];
      if (r.skipped && all.skipped++ == 0) all.first_skipped = members_.name(i);
      all.refreshed += r.refreshed;
      all.drift = std::max(all.drift, r.drift);
      const double square = r.grad_norm * r.grad_norm;
      squares += square;
      members_.visit(i, [&](const auto& o) {
        if (o.projected) kept += r.captured * square, energy += square;
      });
    }
    if (energy > 0) all.captured = kept / energy;
    all.grad_norm = step.grad_norm && all.skipped == 0 ? *step.grad_norm * std::abs(step.grad_scale) : std::sqrt(squares);
    return all;
  }

  detail::Members<S, R...> members_;
  std::vector<std::size_t> order_;  // largest first
  std::size_t large_ = 0;           // so many of them are threaded inside
  bool allocated_ = false;
  std::vector<Report> reports_;
  std::vector<detail::GradientSum<S>> sums_;
  std::vector<detail::SharedSpan> spans_;
  detail::FleetScratch scratch_;
};

template <class M, class... R>
Fleet(const M&, Group<R>...) -> Fleet<compute_t<typename std::ranges::range_value_t<M>::Weight>, R...>;

}  // namespace lowrank
