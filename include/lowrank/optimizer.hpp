// Optimizer: Projector x Rule x Lift, the one composition.
//
//   lowrank::Optimizer opt(W, lowrank::Subspace{.rank = 64, .refresh_every = 50},   // where the gradient lives
//                             lowrank::AdamW{.beta2 = 0.95, .weight_decay = 0.1},   // what happens there
//                             lowrank::BackProject{.scale = 0.25});                 // how it comes back
//   for (int t = 0; t < steps; ++t) opt.step(W, gradient(W), {.lr = lr(t)});
//
// W gives the shape and, through compute_t, the scalar of the state; no reference to it is kept. An Optimizer is a
// regular value: copies are checkpoints, moves are free, equality compares the bits of the state. The first step (or
// load) allocates; later steps allocate nothing. Any matrix with storage will do: Matrix, Map, Ref, block or View, either
// storage order, float, double, bf16 or half.
// Threads: the caller's OpenMP, serial inside a parallel region. Different optimizers may step in different threads.
#pragma once

#include <utility>  // std::declval, std::forward, std::swap
#include <vector>   // std::vector

#include <lowrank/core/state.hpp>
#include <lowrank/lift/back_project.hpp>
#include <lowrank/optimizer/editor.hpp>
#include <lowrank/optimizer/engine.hpp>
#include <lowrank/optimizer/state_file.hpp>

namespace lowrank::inline LOWRANK_ABI {

namespace detail {

inline void check_step(const char* who, const Step& step) {
  if (!is_finite(step.lr) || step.lr < 0) bad_argument(who, "lr = " + std::to_string(step.lr), "a finite number >= 0");
  if (!is_finite(step.grad_scale)) bad_argument(who, "grad_scale = " + std::to_string(step.grad_scale), "a finite number");
}

/// What is saved or changed between steps must not have half of one behind it.
inline void check_settled(const char* who, bool pending) {
  if (pending) bad_argument(who, "gradients that were accumulated and not stepped with", "a call between steps");
}

/// What a view()-able matrix computes in.
template <class M>
using scalar_of = compute_t<typename decltype(view(std::declval<const M&>()))::Scalar>;

}  // namespace detail

template <class S, class P, class R, class L = BackProject, class K = kernel::Best>
class Optimizer {
  static_assert(std::is_same_v<S, float> || std::is_same_v<S, double>, "state is kept in float or double");
  static_assert(kernel::Kernel<K>, "a kernel set provides the operations listed in lowrank/kernel/kernel.hpp");

 public:
  using Scalar = S;
  /// Whether there is a projection at all.
  static constexpr bool projected = !ProjectorState<P, S, K>::whole_gradient;

  /// For matrices of W's shape. Options are checked here: std::invalid_argument names the option and the rule. A rank
  /// beyond the projected dimension is clamped (rank() tells). W must not be empty.
  template <class M>
  explicit Optimizer(const M& W, P projector, R rule = {}, L lift = {}, K = {})
      : Optimizer(make_shape(view(W), projector), projector, rule, lift) {
    static_assert(std::is_same_v<detail::scalar_of<M>, S>, "the state's scalar is the one W computes in");
  }

  /// One step: W <- W - update(G). W and G have the constructor's shape; their storage orders and scalars are free, as
  /// long as both compute in the state's scalar. G is read, never written.
  /// Throws std::invalid_argument (shapes, overlap, lr, options) before anything is touched. A gradient that is not
  /// finite, or whose square overflows, changes nothing and is reported as skipped.
  template <class MW, class MG>
  Report step(MW&& W, const MG& G, const Step& step) {
    return step_with(workspace_, std::forward<MW>(W), G, step);
  }

  /// The same with a workspace of the caller's, which several optimizers may share one after the other.
  template <class MW, class MG>
  Report step_with(Workspace& workspace, MW&& W, const MG& G, const Step& step) {
    check(W, G, step);
    const auto w = view(W);
    const View<const typename decltype(view(G))::Scalar> g = view(G);
    return with_engine(workspace, step, [&](Engine& engine) { return engine.run(shape_(w), shape_(g), steps_, rounding_key(step)); });
  }

  /// Whether the next step renews the basis, so that it needs the whole gradient.
  bool due() const {
    if constexpr (requires { projector_.due(steps_); }) return projector_.due(steps_);
    else return true;
  }

  /// Whether accumulate() compiles: a step needs P^T G of the gradient and nothing else.
  static constexpr bool accumulates = [] {
    using Engine = detail::Engine<S, P, R, L, K>;
    if constexpr (requires { Engine::linear; }) return Engine::linear;
    else return false;
  }();
  /// Adds weight P^T G to a sum of r x k numbers that the next step(W, step) takes, so that the gradients of micro-batches
  /// need not be summed themselves: exact, for P^T is linear. Throws std::invalid_argument when the basis is due(): that
  /// step needs the sum of the gradients, in step(W, G, step). The first call allocates the sum, which is no part of the
  /// state: what has one cannot be saved. A gradient that is not finite makes that step a skipped one.
  template <class MG>
  void accumulate(const MG& G, double weight = 1) { accumulate_with(workspace_, G, weight); }
  template <class MG>
  void accumulate_with(Workspace& workspace, const MG& G, double weight = 1) {
    static_assert(accumulates,
                  "only P^T G is linear in the gradient, and this optimizer needs more of it: Residual, ChannelScale, Frugal and "
                  "ErrorFeedback read all of it, Identity projects nothing, and whole optimizers renew their bases; sum the "
                  "gradients and call step(W, G, step)");
    const char* who = "lowrank::Optimizer::accumulate";
    const View<const typename decltype(view(G))::Scalar> g = view(G);
    check_gradient(who, g);
    if (!detail::is_finite(weight)) detail::bad_argument(who, "weight = " + std::to_string(weight), "a finite number");
    if (due()) detail::bad_argument(who, "a step that renews the basis", "the sum of the gradients, in step(W, G, step)");
    if (pending_.sum.size() == 0) pending_.sum = Buffer<S>(projector_.core_rows(), projector_.core_cols());
    const auto sums = with_engine(workspace, Step{}, [&](Engine& engine) {
      if (pending_.gradients++ == 0) pending_.sum.set_zero(), pending_.energy = pending_.kept = 0;
      return engine.accumulate(shape_(g), weight, pending_.sum.data());
    });
    pending_.energy += sums.gradient;
    pending_.kept += sums.core;
  }
  /// Forgets what was accumulated.
  void discard() { pending_.gradients = 0; }
  /// How many gradients were accumulated since the last step.
  Index accumulated() const { return pending_.gradients; }
  /// Bytes of their sum, which are in neither state_bytes() nor workspace_bytes().
  std::size_t accumulated_bytes() const { return pending_.sum.bytes(); }

  /// One step with what accumulate() gathered, times step.grad_scale. Report::captured is that of the micro-batches, drift
  /// and grad_norm are unknown and 0. The sum is used up, also by a step that is skipped.
  template <class MW>
  Report step(MW&& W, const Step& step) { return step_accumulated(workspace_, std::forward<MW>(W), step); }
  template <class MW>
  Report step_accumulated(Workspace& workspace, MW&& W, const Step& step) {
    check_accumulated(W, step);
    const double captured = pending_.energy > 0 ? pending_.kept / pending_.energy : pending_.energy;
    return with_engine(workspace, step, [&](Engine& engine) {
      pending_.gradients = 0;
      return engine.run_accumulated(shape_(view(W)), pending_.sum.data(), captured, steps_, rounding_key(step));
    });
  }
  /// Throws what step(W, step) would throw.
  template <class MW>
  void check_accumulated(MW&& W, const Step& step) const {
    check_weight(W, step);
    const char* who = "lowrank::Optimizer::step";
    if (pending_.gradients == 0) detail::bad_argument(who, "no gradient", "accumulate(G) before step(W, step)");
    if (due()) detail::bad_argument(who, "options that made the basis due after gradients were accumulated", "the sum of the gradients");
  }

  /// Throws what step() would throw, and does nothing else.
  template <class MW, class MG>
  void check(MW&& W, const MG& G, const Step& step) const {
    const auto w = check_weight(W, step);
    const View<const typename decltype(view(G))::Scalar> g = view(G);
    const char* who = "lowrank::Optimizer::step";
    check_gradient(who, g);
    if (detail::overlap(w, g)) detail::bad_argument(who, "a weight and a gradient that overlap", "separate memory");
    if (pending_.gradients > 0)
      detail::bad_argument(who, "a gradient after " + std::to_string(pending_.gradients) + " were accumulated", "step(W, step), which takes their sum");
  }
  template <class MW>
  auto check_weight(MW&& W, const Step& step) const {
    const auto w = view(W);
    using W_scalar = typename decltype(w)::Scalar;
    static_assert(!std::is_const_v<std::remove_pointer_t<decltype(w.data)>>, "the weight is written to: pass a non-const matrix");
    static_assert(std::is_same_v<compute_t<W_scalar>, S>,
                  "the weight computes in another scalar than this optimizer's state: construct the Optimizer from the weight");
    const char* who = "lowrank::Optimizer::step";
    if (w.rows != shape_.rows || w.cols != shape_.cols) detail::bad_shape(who, w.rows, w.cols, shape_.rows, shape_.cols);
    detail::check_step(who, step);
    if constexpr (requires { projector_.check(); }) projector_.check();
    if constexpr (requires { projector().side; })
      if (detail::canonical(rows(), cols(), projector().side).transposed != shape_.transposed)
        detail::bad_argument(who, "another side", "the one of construction: it fixes the shape of the state");
    rule_.check();
    lift_.check();
    return w;
  }

  /// Changes the rank between steps (at least 1; what does not fit is clamped). The coordinates that held most of the last
  /// basis' gradient stay, with their moments; others start at zero, and the next step renews the basis from there.
  /// Allocates; when it throws, nothing has changed.
  void set_rank(Index rank) {
    static_assert(requires { projector_.wants_rank(); }, "set_rank needs a projector whose rank can adapt: Subspace or Dct");
    detail::check_settled("lowrank::Optimizer::set_rank", pending_.gradients > 0);
    Optimizer made = with_rank(rank);
    if (allocated_) {
      made.allocate();
      detail::inherit_rows(made.rule_, rule_, made.projector_.inherit(projector_));
      made.lift_ = lift_;
    }
    made.steps_ = steps_;
    adopt(std::move(made));
  }
  /// What state_bytes() would be at this rank.
  std::size_t state_bytes_at(Index rank) const { return with_rank(rank).state_bytes(); }

  /// Options may be read and changed between steps, except rank and side.
  P& projector() { return projector_.options(); }
  R& rule() { return rule_.options(); }
  L& lift() { return lift_.options(); }
  const P& projector() const { return projector_.options(); }
  const R& rule() const { return rule_.options(); }
  const L& lift() const { return lift_.options(); }

  Index rows() const { return shape_.rows; }
  Index cols() const { return shape_.cols; }
  Index rank() const { return projector_.rank(); }
  std::uint64_t steps() const { return steps_; }
  static constexpr const char* kernel_name() { return K::name; }
  /// "subspace, adamw, back_project"; of a whole optimizer its name.
  static std::string description() {
    if constexpr (std::is_same_v<R, Coupled>) return P::name;
    else return std::string(P::name) + ", " + R::name + ", " + L::name;
  }

  /// The state behind the words: basis, indices, error buffer; read-only.
  const ProjectorState<P, S, K>& projection() const { return projector_; }
  const LiftState<L, S, K>& lifting() const { return lift_; }

  /// Bytes of everything that is kept between steps and grows with the matrix, plus the lift's numbers; counters of a
  /// few bytes aside. Known before anything is allocated.
  std::size_t state_bytes() const {
    std::size_t bytes = 0;
    const auto count = [&](const char*, const auto& field) {
      if constexpr (requires { field.bytes(); }) bytes += field.bytes();
    };
    projector_.visit(count);
    rule_.visit(count);
    lift_.visit([&](const char* name, const auto& field) {
      count(name, field);
      if constexpr (!requires { field.bytes(); }) bytes += sizeof(field);
    });
    return bytes;
  }
  /// Bytes a step needs and forgets, with this many threads.
  std::size_t workspace_bytes(int threads = detail::available_threads()) const {
    Arena count;
    (void)Pieces(count, projector_, shape_.d(), shape_.k(), threads);
    return count.used();
  }

  /// Every field of the state, by name: f(name, Buffer<T>& or number&). What is saved, compared and counted.
  void visit(auto&& f) { visit_state(*this, f); }
  void visit(auto&& f) const { visit_state(*this, f); }

  /// The moments as a StateEditor, for methods that prune, permute or restart the parameter they belong to. Valid while the
  /// optimizer stays where it is. Allocates the state if there is none yet, otherwise nothing once it was used.
  using Editor = detail::MomentEditor<Optimizer>;
  Editor editor() {
    static_assert(ProjectorState<P, S, K>::whole_gradient, "surgery needs unprojected state; use Identity{} for adapter factors");
    return Editor(*this);
  }

  /// Allocates the state if that has not happened yet; the first step does it otherwise.
  void allocate() {
    if (allocated_) return;
    Optimizer made(*this);  // all or nothing
    made.visit([](const char*, auto& field) {
      if constexpr (requires { field.allocate(); }) field.allocate();
    });
    if constexpr (requires { made.projector_.begin(); }) made.projector_.begin();
    made.allocated_ = true;
    adopt(std::move(made));
  }

  /// Writes the state and all options to one safetensors file, through a temporary and a rename.
  void save(const std::filesystem::path& path, const std::string& name = "weight") const {
    detail::check_settled("lowrank::Optimizer::save", pending_.gradients > 0);
    if (!allocated_) {
      Optimizer made(*this);
      made.allocate();
      return made.save(path, name);
    }
    detail::StateWriter writer;
    put(writer, name);
    writer.write(path);
  }
  /// Replaces the state by a file's. The shape, the scalar and every option but the rank must be the file's; the storage
  /// order of the weight need not. Throws std::runtime_error saying what differs or is damaged, and then changes nothing.
  void load(const std::filesystem::path& path, const std::string& name = "weight") {
    detail::StateReader reader(path);
    Optimizer made = get(reader, name);
    reader.finish();
    adopt(std::move(made));
  }

  /// The parts of save() and load() for files of several parameters.
  void put(detail::StateWriter& writer, const std::string& name) const {
    io::Json json = io::Json::object();
    json.set("scalar", io::Json::string(detail::tensor_type<S>()));
    json.set("rows", io::Json::number(rows())).set("cols", io::Json::number(cols()));
    json.set("transposed", io::Json::number(int(shape_.transposed)));
    json.set("projector", detail::describe(projector())).set("rule", detail::describe(rule()));
    json.set("lift", detail::describe(lift()));
    writer.begin(name, std::move(json));
    visit(writer);
  }
  Optimizer get(detail::StateReader& reader, const std::string& name) const {
    const io::Json& json = reader.begin(name);
    const std::string shape = reader.entry(json, "rows") + "x" + reader.entry(json, "cols");
    if (shape != detail::shape_text(rows(), cols()))
      reader.fail("'" + name + "' is " + shape + ", expected " + detail::shape_text(rows(), cols()));
    if (reader.entry(json, "scalar") != detail::tensor_type<S>())
      reader.fail("'" + name + "' has state in " + reader.entry(json, "scalar") + ", expected " + detail::tensor_type<S>());
    std::string differences;
    P options = projector();
    const std::int64_t rank = reader.compare(json, "projector", options, differences);
    reader.compare(json, "rule", rule(), differences);
    reader.compare(json, "lift", lift(), differences);
    if (!differences.empty()) reader.fail("options differ:" + differences);
    if constexpr (requires { options.rank; }) options.rank = rank;

    Optimizer made(shape_, options, rule(), lift());
    const bool turn = reader.entry(json, "transposed") != std::to_string(int(shape_.transposed));
    if (turn && !ProjectorState<P, S, K>::whole_gradient) reader.fail("'" + name + "' is projected on its other side");
    made.visit([&](const char* field, auto& value) { reader.read(field, value, turn); });
    made.allocated_ = true;
    const auto valid = [&](const auto& state) {
      if constexpr (requires { state.valid(); })
        if (!state.valid()) reader.fail("the state of '" + name + "' is damaged");
    };
    valid(made.projector_), valid(made.rule_);
    return made;
  }
  /// Takes another's state and options; the workspace stays.
  void adopt(Optimizer&& other) {
    std::swap(projector_, other.projector_);
    std::swap(rule_, other.rule_);
    std::swap(lift_, other.lift_);
    std::swap(steps_, other.steps_);
    std::swap(pending_, other.pending_);
    allocated_ = other.allocated_;
  }

  /// Whether the user's matrix is transposed into the canonical d x k that state tensors are stored in.
  bool transposed() const { return shape_.transposed; }

  friend bool operator==(const Optimizer& a, const Optimizer& b) {
    if (a.rows() != b.rows() || a.cols() != b.cols() || a.shape_.transposed != b.shape_.transposed) return false;
    return bits(a) == bits(b);
  }

 private:
  friend Editor;
  using Engine = detail::Engine<S, P, R, L, K>;
  using Pieces = typename Engine::Pieces;

  Optimizer(const detail::Canonical& shape, P projector, R rule, L lift)
      : shape_(shape),
        projector_(made<ProjectorState<P, S, K>>(shape, projector, shape_.d(), shape_.k())),
        rule_(made<RuleState<R, S, K>>(shape, rule, projector_.core_rows(), projector_.core_cols())),
        lift_(lift, shape_.d(), shape_.k()) {}

  /// Nothing but the shape of this optimizer at another rank.
  Optimizer with_rank(Index rank) const {
    P options = projector();
    options.rank = rank;
    return Optimizer(shape_, options, rule(), lift());
  }
  /// The state of a policy; one that needs the user's shape (fan_out x fan_in) is told.
  template <class State, class Options>
  static State made(const detail::Canonical& shape, const Options& options, Index rows, Index cols) {
    if constexpr (std::is_constructible_v<State, Options, Index, Index, Index, Index>)
      return State(options, rows, cols, shape.rows, shape.cols);
    else
      return State(options, rows, cols);
  }

  template <class T>
  static detail::Canonical make_shape(const View<T>& w, const P& projector) {
    if (w.rows == 0 || w.cols == 0)
      detail::bad_argument("lowrank::Optimizer", detail::shape_text(w.rows, w.cols), "a matrix that is not empty");
    // elementwise rules follow the weight's memory; one that sees the whole matrix must not depend on it
    using Rule = RuleState<R, S, K>;
    if constexpr (ProjectorState<P, S, K>::whole_gradient && !detail::WholeRule<Rule> && !detail::TileRule<Rule>)
      return detail::contiguous(w);
    if constexpr (requires { projector.side; }) return detail::canonical(w.rows, w.cols, projector.side);
    return {w.rows, w.cols, false};
  }

  /// f(engine), all memory that it needs being there.
  template <class F>
  auto with_engine(Workspace& workspace, const Step& step, const F& f) {
    const int threads = workspace.threads();
    Arena arena(workspace.reserve(workspace_bytes(threads)));
    allocate();
    Pieces pieces(arena, projector_, shape_.d(), shape_.k(), threads);
    Engine engine(projector_, rule_, lift_, pieces, step, shape_.d(), shape_.k());
    return f(engine);
  }
  linalg::RoundingKey rounding_key(const Step& step) const {
    return {step.rounding == Rounding::Stochastic, step.seed, steps_, shape_.transposed ? 1 : shape_.cols,
            shape_.transposed ? shape_.cols : 1};
  }
  template <class T>
  void check_gradient(const char* who, const View<const T>& g) const {
    static_assert(std::is_same_v<compute_t<T>, S> || std::is_same_v<S, double>,
                  "a double gradient needs a double optimizer: pass G.cast<float>().eval()");
    if (g.rows != shape_.rows || g.cols != shape_.cols) detail::bad_shape(who, g.rows, g.cols, shape_.rows, shape_.cols);
  }

  static void visit_state(auto& self, auto&& f) {
    f("steps", self.steps_);
    self.projector_.visit(f);
    self.rule_.visit(f);
    self.lift_.visit(f);
  }
  static std::vector<std::byte> bits(const Optimizer& o) {
    std::vector<std::byte> out;
    o.visit([&](const char*, const auto& field) {
      const void* from = &field;
      std::size_t n = sizeof(field);
      if constexpr (requires { field.bytes(); }) {
        from = field.data();
        n = from == nullptr ? 0 : field.bytes();
      }
      out.resize(out.size() + n);
      if (n > 0) std::memcpy(out.data() + out.size() - n, from, n);
    });
    return out;
  }

  detail::Canonical shape_;
  ProjectorState<P, S, K> projector_;
  RuleState<R, S, K> rule_;
  LiftState<L, S, K> lift_;
  std::uint64_t steps_ = 0;
  bool allocated_ = false;
  struct {
    Buffer<S> sum;  // r x k
    double energy = 0, kept = 0;
    Index gradients = 0;
  } pending_;
  Workspace workspace_;
};

template <class M, class P, class R>
Optimizer(const M&, P, R) -> Optimizer<detail::scalar_of<M>, P, R>;
template <class M, class P, class R, class L>
Optimizer(const M&, P, R, L) -> Optimizer<detail::scalar_of<M>, P, R, L>;
template <class M, class P, class R, class L, class K>
Optimizer(const M&, P, R, L, K) -> Optimizer<detail::scalar_of<M>, P, R, L, K>;

}  // namespace lowrank
