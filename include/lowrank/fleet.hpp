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
#include <tuple>

#include <lowrank/fleet/gradient_sum.hpp>
#include <lowrank/fleet/group.hpp>
#include <lowrank/fleet/parameter.hpp>
#include <lowrank/fleet/plan.hpp>
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
  template <class Recipe>
  using Made = decltype(std::declval<const Recipe&>()(std::declval<const View<S>&>()));

 public:
  using Scalar = S;

  /// Allocates no state. Throws std::invalid_argument naming the parameter or the pattern that has no partner, the
  /// parameter whose name is empty or used twice, or what the recipe's options lack.
  template <Model M>
  explicit Fleet(const M& params, Group<R>... groups) {
    static_assert(std::is_same_v<compute_t<typename std::ranges::range_value_t<M>::Weight>, S>,
                  "the state's scalar is the one the weights compute in");
    for (const auto& p : params) names_.push_back(p.name);
    detail::check_names(names_);
    const std::vector<std::size_t> group_of = detail::assign(names_, {groups.names...});
    std::vector<Index> members(sizeof...(R), 0), met(sizeof...(R), 0);
    for (const std::size_t g : group_of) ++members[g];
    for (std::size_t i = 0; i < names_.size(); ++i) {
      std::size_t g = 0;
      ((g++ == group_of[i] ? add(detail::element(params, i), groups, g - 1, i, met[g - 1]++, members[g - 1]) : void()), ...);
    }
    for (std::size_t i = 0; i < names_.size(); ++i) order_.push_back(i);
    std::stable_sort(order_.begin(), order_.end(), [&](std::size_t a, std::size_t b) { return elements(a) > elements(b); });
    while (large_ < order_.size() && elements(order_[large_]) > detail::small_matrix) ++large_;
    reports_.resize(names_.size());
    sums_.resize(names_.size());
    spans_.resize(2 * names_.size());
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
    check_index("lowrank::Fleet::step", i);
    check_one(i, p, step);
    allocate();
    reports_[i] = Report{};
    if (p.lr_scale != 0)
      visit_at(*this, i, [&](auto& o) { reports_[i] = o.step_with(scratch_.large, p.weight, p.gradient, share(step, i, p.lr_scale)); });
    return reports_[i];
  }

  /// Adds weight times the gradient of every parameter (or of one, whose gradient may then go) to what step_accumulated()
  /// will step with. Where only P^T G matters and the basis is not due, that is a sum of r x k numbers; elsewhere (a due
  /// basis, lifts that need the whole gradient, matrices that are not projected) it is one of m x n, which is released by
  /// the step. Throws std::invalid_argument as step() does.
  template <Model M>
  void accumulate(const M& params, double weight = 1) {
    check_size("lowrank::Fleet::accumulate", params);
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
    check_size(who, params);
    for (std::size_t i = 0; i < size(); ++i) {
      const auto& p = detail::element(params, i);
      check_name(who, i, p);
      spans_[2 * i] = spans_[2 * i + 1] = detail::SharedSpan(p.weight, i, true);
      if (p.lr_scale == 0) continue;
      named(i, [&](const auto& o) {
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

  std::size_t size() const { return names_.size(); }
  const std::string& name(std::size_t i) const { return names_[i]; }
  /// What the last step did to each parameter, in the model's order.
  std::span<const Report> reports() const { return reports_; }
  /// f(name, optimizer) for every parameter in the model's order: options, ranks, bases.
  template <class F>
  void each(const F& f) { each(*this, f); }
  template <class F>
  void each(const F& f) const { each(*this, f); }

  std::size_t state_bytes() const {
    std::size_t bytes = 0;
    each([&](const std::string&, const auto& o) { bytes += o.state_bytes(); });
    return bytes;
  }
  /// What all steps share: the largest need of a large matrix, and per thread that of a small one.
  std::size_t workspace_bytes(int threads = detail::available_threads()) const {
    std::size_t inside = 0, across = 0;
    for (std::size_t q = 0; q < order_.size(); ++q)
      visit_at(*this, order_[q], [&](const auto& o) {
        std::size_t& most = q < large_ ? inside : across;
        most = std::max(most, o.workspace_bytes(q < large_ ? threads : 1));
      });
    return inside + across * std::size_t(threads);
  }
  Plan plan(int threads = detail::available_threads()) const {
    Plan plan{{}, workspace_bytes(threads)};
    for (std::size_t i = 0; i < size(); ++i) visit_at(*this, i, [&](const auto& o) { plan.rows.push_back(row(i, o)); });
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
    return a.names_ == b.names_ && a.slots_ == b.slots_ && a.lists_ == b.lists_;
  }

 private:
  /// Parameter i is element `position` of list `list`: list g holds the projected matrices of group g, list
  /// sizeof...(R) + g its vectors.
  struct Slot {
    std::size_t list, position;
    bool operator==(const Slot&) const = default;
  };
  template <class Recipe>
  using Plain = decltype(std::declval<const Recipe&>().plain());
  using Lists = std::tuple<std::vector<Made<R>>..., std::vector<Made<Plain<R>>>...>;

  template <class P, class Recipe>
  void add(const P& p, const Group<Recipe>& group, std::size_t g, std::size_t index, Index met, Index members) {
    const bool vector = p.weight.rows == 1 || p.weight.cols == 1;
    Recipe recipe = group.recipe;
    if constexpr (requires { recipe.projector.seed; }) recipe.projector.seed += index;
    if constexpr (requires { recipe.projector.phase; })
      if (group.stagger == Stagger::On) recipe.projector.phase += met * recipe.projector.refresh_every / members;
    const auto put = [&](std::size_t list, const auto& made) {
      with_list(*this, list, [&]<class List>(List& all) {
        if constexpr (std::is_same_v<typename List::value_type, std::remove_cvref_t<decltype(made)>>) {
          slots_.push_back({list, all.size()});
          all.push_back(made);
        }
      });
    };
    try {
      if (vector) put(sizeof...(R) + g, recipe.plain()(p.weight));
      else put(g, recipe(p.weight));
    } catch (const std::invalid_argument& e) {
      throw std::invalid_argument("parameter '" + names_[index] + "': " + e.what());
    }
  }

  template <Model M>
  void check(const M& params, const Step& step) {
    const char* who = "lowrank::Fleet::step";
    check_size(who, params);
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
    check_name("lowrank::Fleet::step", i, p);
    if (sums_[i].gradients() > 0)
      detail::bad_argument("lowrank::Fleet::step", "a gradient of '" + p.name + "' after others were accumulated", "step_accumulated()");
    named(i, [&](const auto& o) { o.check(p.weight, p.gradient, step); });
  }
  template <Model M>
  void check_size(const char* who, const M& params) const {
    if (std::size_t(std::ranges::size(params)) != size())
      detail::bad_argument(who, std::to_string(std::ranges::size(params)) + " parameters", std::to_string(size()));
  }
  void check_index(const char* who, std::size_t i) const {
    if (i >= size()) detail::bad_argument(who, "parameter " + std::to_string(i), "less than " + std::to_string(size()));
  }
  template <class P>
  void check_name(const char* who, std::size_t i, const P& p) const {
    if (p.name != names_[i]) detail::bad_argument(who, "'" + p.name + "' as parameter " + std::to_string(i), "'" + names_[i] + "'");
    if (!(p.lr_scale >= 0) || !detail::is_finite(p.lr_scale))
      detail::bad_argument(who, "lr_scale = " + std::to_string(p.lr_scale) + " of '" + p.name + "'", "a finite number >= 0");
  }
  template <class P>
  void check_gradient(std::size_t i, const P& p, double weight) const {
    const char* who = "lowrank::Fleet::accumulate";
    check_index(who, i);
    check_name(who, i, p);
    if (!detail::is_finite(weight)) detail::bad_argument(who, "weight = " + std::to_string(weight), "a finite number");
    named(i, [&](const auto& o) {
      if (p.gradient.rows != o.rows() || p.gradient.cols != o.cols()) detail::bad_shape(who, p.gradient.rows, p.gradient.cols, o.rows(), o.cols());
    });
  }
  /// f(optimizer of parameter i); what it throws names the parameter.
  template <class F>
  void named(std::size_t i, const F& f) const {
    try {
      visit_at(*this, i, f);
    } catch (const std::invalid_argument& e) {
      throw std::invalid_argument("parameter '" + names_[i] + "': " + e.what());
    }
  }

  template <class P>
  void add_gradient(std::size_t i, const P& p, double weight) {
    if (p.lr_scale == 0) return;
    visit_at(*this, i, [&]<class O>(O& o) {
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
      if (p.lr_scale != 0) visit_at(*this, i, [&](auto& o) { reports_[i] = move(o, workspace, i, p, share(step, i, p.lr_scale)); });
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
      visit_at(*this, order_[q], [&](const auto& o) {
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
      if (r.skipped && all.skipped++ == 0) all.first_skipped = names_[i];
      all.refreshed += r.refreshed;
      all.drift = std::max(all.drift, r.drift);
      const double square = r.grad_norm * r.grad_norm;
      squares += square;
      visit_at(*this, i, [&](const auto& o) {
        if (o.projected) kept += r.captured * square, energy += square;
      });
    }
    if (energy > 0) all.captured = kept / energy;
    all.grad_norm = step.grad_norm && all.skipped == 0 ? *step.grad_norm * std::abs(step.grad_scale) : std::sqrt(squares);
    return all;
  }

  template <class O>
  Plan::Row row(std::size_t i, const O& o) const {
    constexpr bool projects[] = {Made<R>::projected..., Made<Plain<R>>::projected...};
    const std::size_t list = slots_[i].list;
    Plan::Row row{names_[i], o.rows(), o.cols(), O::description(), O::projected ? o.rank() : 0, o.state_bytes(),
                  2 * std::size_t(o.rows() * o.cols()) * sizeof(S), ""};
    if (list >= sizeof...(R) && projects[list - sizeof...(R)]) row.note = "a vector is not projected";
    if constexpr (requires { o.projector().rank; })
      if (o.projector().rank > o.rank()) row.note = "rank " + std::to_string(o.projector().rank) + " does not fit";
    return row;
  }

  Index elements(std::size_t i) const {
    Index n = 0;
    visit_at(*this, i, [&](const auto& o) { n = o.rows() * o.cols(); });
    return n;
  }

  template <class Self, class F>
  static void with_list(Self& self, std::size_t list, const F& f) {
    std::apply([&](auto&... lists) {
      std::size_t at = 0;
      ((at++ == list ? f(lists) : void()), ...);
    }, self.lists_);
  }
  template <class Self, class F>
  static void visit_at(Self& self, std::size_t i, const F& f) {
    const Slot slot = self.slots_[i];
    with_list(self, slot.list, [&](auto& list) { f(list[slot.position]); });
  }
  template <class Self, class F>
  static void each(Self& self, const F& f) {
    for (std::size_t i = 0; i < self.size(); ++i) visit_at(self, i, [&](auto& o) { f(self.names_[i], o); });
  }

  std::vector<std::string> names_;
  std::vector<Slot> slots_;
  Lists lists_;
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
