// LoRA: W + s B A, A r x n, B m x r, s = alpha / r (arXiv 2106.09685), or alpha / sqrt(r) (rsLoRA, arXiv 2312.03732).
//
//   lowrank::Lora<float> lora(W.rows(), W.cols(), {.rank = 16, .alpha = 32});
//   lora.forward(W, X, Y, trace, workspace, {.step = t});          // Y = (W + s B A) X
//   lora.backward(W, X, dY, dX, trace, workspace);                 // dX, and the gradients of A and B are added to
//   lora.visit([&](auto& p) { optimizer_of(p).step(p.view(), p.gradient_view(), {.lr = lr * p.lr_scale}); });
//
// Begins as Init::Kaiming: the change is zero, A has values. Train::OnlyB is LoRA-FA (arXiv 2308.03303): A stays what it
// is, and backward needs no X unless the gradient is dense.
#pragma once

#include <lowrank/adapter/branch.hpp>
#include <lowrank/adapter/initialize.hpp>
#include <lowrank/adapter/merge.hpp>
#include <lowrank/options/adapter.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K = kernel::Best>
class Lora : public detail::AdapterDoor<Lora<S, K>, S> {
  using Branch = detail::Branch<S, K>;
  using Factor = typename Branch::Factor;

 public:
  static constexpr const char* who = "lowrank::Lora";

  /// For an m x n weight. Throws std::invalid_argument, naming the option.
  Lora(Index m, Index n, const LoraOptions& options = {}) : options_(options), A_("A", 0, 0), B_("B", 0, 0) {
    detail::check_weight_shape(who, m, n);
    detail::check_rank(who, options.rank);
    detail::check_dropout(who, options.dropout);
    if (!detail::is_finite(options.alpha)) detail::bad_argument(who, "alpha = " + std::to_string(options.alpha), "a finite number");
    A_ = Trainable<S>("A", options.rank, n);
    B_ = Trainable<S>("B", m, options.rank);
    B_.lr_scale = options.b_lr_ratio;
    initialize(Init::Kaiming);
  }

  Index rows() const { return B_.value.rows(); }
  Index cols() const { return A_.value.cols(); }
  Index rank() const { return A_.value.rows(); }
  double scale() const {
    const double r = double(rank());
    return options_.alpha / (options_.scaling == Scaling::ByRank ? r : std::sqrt(r));
  }
  const LoraOptions& options() const { return options_; }
  Trainable<S>& A() { return A_; }
  Trainable<S>& B() { return B_; }
  const Trainable<S>& A() const { return A_; }
  const Trainable<S>& B() const { return B_; }

  /// Init::Kaiming, Gaussian, Both or Orthogonal.
  void initialize(Init init) {
    const double n = double(cols()), r = double(rank());
    if (init == Init::Pissa || init == Init::Olora)
      detail::bad_argument("lowrank::Lora::initialize", "Pissa or Olora without a weight", "initialize(init, W, workspace)");
    if (init == Init::Orthogonal) {
      Workspace workspace;
      return detail::fill_orthogonal<S, K>(A_.value, B_.value, options_.seed, workspace);
    }
    if (init == Init::Gaussian) detail::fill_gaussian(A_.value, 1 / r, options_.seed, 0);
    else detail::fill_uniform(A_.value, 1 / std::sqrt(n), options_.seed, 0);
    if (init == Init::Both) detail::fill_uniform(B_.value, 1 / std::sqrt(r), options_.seed, 1);
    else B_.value.set_zero();
  }
  /// Pissa and Olora take their part out of W: W <- round(W - s B A), so that W + s B A is what it was.
  template <class M>
  MergeReport initialize(Init init, M&& W, Workspace& workspace) {
    const auto w = detail::merge_view(who, rows(), cols(), W);
    if (init != Init::Pissa && init != Init::Olora) return initialize(init), MergeReport{};
    if (rank() > std::min(rows(), cols()))
      detail::bad_argument(who, "rank " + std::to_string(rank()), "a rank of at most " + std::to_string(std::min(rows(), cols())));
    if (!(scale() > 0)) detail::bad_argument(who, "alpha = " + std::to_string(options_.alpha), "a positive one");
    const auto from = linalg::constant(linalg::memory(w));
    if (init == Init::Pissa) detail::fill_pissa<S, K>(from, scale(), A_.value, B_.value, workspace);
    else detail::fill_olora<S, K>(from, A_.value, B_.value, workspace);
    return add_change(W, -1, workspace);
  }

  /// W <- round(W + factor s B A).
  template <class M>
  MergeReport add_change(M&& W, double factor, Workspace& workspace) const {
    const auto w = detail::merge_view("lowrank::Lora::add_change", rows(), cols(), W);
    const auto room = detail::lay_out<typename Branch::Layout>(workspace, work(0), Path{});
    return detail::add_product<S, K>(linalg::memory(w), rows(), cols(), rank(), branch(0).B, branch(0).A, factor * scale(), room.product);
  }
  template <class M>
  MergeReport merge_into(M&& W, Workspace& workspace) const { return add_change(W, 1, workspace); }
  template <class M>
  void unmerge_from(M&& W, Workspace& workspace) const { add_change(W, -1, workspace); }

  void visit(auto&& f) { visit_parameters(*this, f); }
  void visit(auto&& f) const { visit_parameters(*this, f); }
  /// Of everything kept: A and B.
  std::size_t bytes() const { return A_.value.bytes() + B_.value.bytes(); }
  std::size_t workspace_bytes(Index samples, const Path& path = {}, int threads = detail::available_threads()) const {
    Arena count;
    (void)typename Branch::Layout(count, threads, work(samples), choose(work(samples), path));
    return count.used();
  }
  /// Nothing happens to LoRA between steps.
  void on_step(std::uint64_t, auto&&) {}

 private:
  friend detail::AdapterDoor<Lora, S>;

  Work work(Index samples) const { return {rows(), cols(), rank(), samples}; }
  Branch branch(Index samples) const {
    return {work(samples), linalg::memory(A_.value), linalg::memory(B_.value), scale(), {}};
  }

  void run_forward(const detail::Input& W, const Factor& X, const linalg::Memory<void>& Y, Index samples, Trace<S>& trace,
                   Workspace& workspace, const Pass& pass) const {
    Branch b = branch(samples);
    b.mask = detail::dropout_mask(options_.dropout, options_.seed, pass, cols());
    const Path path = detail::choose_path(who, b.work, pass.path, b.mask);
    const auto room = detail::lay_out<typename Branch::Layout>(workspace, b.work, path);
    b.forward(path, W, X, trace.reserve(path.forward == Order::Composed ? 0 : rank() * samples), Y, room);
    trace.samples = samples;
    trace.pass = pass;
    trace.path = path;
  }

  void run_backward(const detail::Input& W, const Factor& X, const Factor& dY, const detail::Output& dX, const Trace<S>& trace,
                    Workspace& workspace) {
    Branch b = branch(trace.samples);
    b.mask = detail::dropout_mask(options_.dropout, options_.seed, trace.pass, cols());
    const Path& path = trace.path;
    const auto room = detail::lay_out<typename Branch::Layout>(workspace, b.work, path);
    const bool both = options_.train == Train::Both;
    B_.gradient.allocate();
    if (both) A_.gradient.allocate();
    b.data_gradient(path, W, dY, dX, room);
    const S* H = trace.memory.data();
    if (room.again != nullptr) b.hidden(X, room.again, room), H = room.again;
    b.weight_gradients(path, X, dY, H, both ? &A_.gradient : nullptr, &B_.gradient, room);
  }

  static void visit_parameters(auto& self, auto&& f) {
    if (self.options_.train == Train::Both) f(self.A_);
    f(self.B_);
  }

  LoraOptions options_;
  Trainable<S> A_, B_;
};

}  // namespace lowrank
