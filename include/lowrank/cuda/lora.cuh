// LoRA on a device: W + s B A with the options, the equations and the first values of lowrank::Lora.
//
//   lowrank::cuda::Lora<float, lowrank::cuda::Context<>> lora(context, m, n, {.rank = 16, .alpha = 32});
//   lora.forward(W, X, Y, trace);                  // Y = (W + s B A) X
//   lora.backward(W, X, dY, dX, trace);            // dX, and the gradients of A and B are added to
//   lora.visit([&](auto& p) { optimizer_of(p).step(p.view(), p.gradient_view(), {.lr = lr * p.lr_scale}); });
//
// The order of the products is chosen as on the CPU (lowrank/options/path.hpp). Begins as Init::Kaiming; other beginnings are made on
// the CPU and copied. Dropout is on the CPU only.
#pragma once

#include <lowrank/cuda/adapter.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// Machine: a Backend.
template <class S, class Machine>
class Lora {
 public:
  using Scalar = S;

  /// For an m x n weight, on a backend that outlives the adapter. Throws std::invalid_argument, naming the option.
  Lora(Machine& backend, Index m, Index n, const LoraOptions& options = {})
      : backend_(&backend), options_(options), A_("A", Index(options.rank), n), B_("B", m, Index(options.rank)) {
    detail::check_adapter(who, m, n, options.rank, options.alpha);
    detail::require(options.dropout == 0, who, "dropout", options.dropout, "0: dropout is on the CPU only");
    B_.lr_scale = options.b_lr_ratio;
    A_.value.allocate(backend), B_.value.allocate(backend);
    launch(backend, FillUniform<S>{A_.value.data(), A_.value.size(), 1 / std::sqrt(double(n)), options.seed, 0});
  }

  Index rows() const { return B_.value.rows(); }
  Index cols() const { return A_.value.cols(); }
  Index rank() const { return A_.value.rows(); }
  double scale() const {
    const double r = double(rank());
    return options_.alpha / (options_.scaling == Scaling::ByRank ? r : std::sqrt(r));
  }
  const LoraOptions& options() const { return options_; }
  Trainable<S, Machine>& A() { return A_; }
  Trainable<S, Machine>& B() { return B_; }

  /// Y <- (W + s B A) X; with no_base, Y <- Y + s B A X. X n x N, Y m x N. Throws std::invalid_argument (shapes, overlap).
  void forward(const View<const S>& W, const View<const S>& X, const View<S>& Y, Trace<S, Machine>& trace, const Path& wanted = {}) const {
    const Index N = X.cols;
    check_base(W);
    detail::check_shape(who, "X", X, cols(), N), detail::check_shape(who, "Y", Y, rows(), N);
    detail::check_apart(who, Y, X), detail::check_apart(who, Y, W);
    const Branch<S, Machine> b = branch(N);
    trace.samples = N;
    trace.path = choose(b.work, wanted);
    S* H = trace.reserve(*backend_, trace.path.forward == Order::Composed ? 0 : rank() * N);
    if (N > 0) b.forward(trace.path, W, X, H, Y, b.room(trace.path));
  }
  /// dX <- (W + s B A)^T dY, added to with no_base, left out with no_gradient; adds to the gradients of what is trained.
  void backward(const View<const S>& W, const View<const S>& X, const View<const S>& dY, const View<S>& dX, const Trace<S, Machine>& trace) {
    const Index N = dY.cols;
    detail::check_trace(who, trace.samples, N);
    check_base(W);
    detail::check_shape(who, "X", X, cols(), N), detail::check_shape(who, "dY", dY, rows(), N);
    if (dX.data != nullptr) detail::check_shape(who, "dX", dX, cols(), N);
    detail::check_apart(who, dX, X), detail::check_apart(who, dX, dY), detail::check_apart(who, dX, W);
    const bool both = options_.train == Train::Both;
    B_.gradient.allocate(*backend_);
    if (both) A_.gradient.allocate(*backend_);
    if (N == 0) return;
    const Branch<S, Machine> b = branch(N);
    const auto room = b.room(trace.path);
    b.data_gradient(trace.path, W, dY, dX, room);
    const S* H = trace.memory.data();
    if (room.again != nullptr) b.hidden(X, room.again), H = room.again;
    b.weight_gradients(trace.path, X, dY, H, both ? A_.gradient.data() : nullptr, B_.gradient.data(), room);
  }

  /// W <- W + factor s B A.
  void add_change(const View<S>& W, double factor) const {
    detail::check_shape(who, "the weight", W, rows(), cols());
    branch(0).product(operand(W), S(factor), 1);
  }
  void merge_into(const View<S>& W) const { add_change(W, 1); }
  void unmerge_from(const View<S>& W) const { add_change(W, -1); }

  void visit(auto&& f) {
    if (options_.train == Train::Both) f(A_);
    f(B_);
  }
  /// Of everything kept: A and B.
  std::size_t bytes() const { return A_.value.bytes() + B_.value.bytes(); }
  std::size_t workspace_bytes(Index samples, const Path& wanted = {}) const {
    Arena count;
    const Work work = branch(samples).work;
    (void)typename Branch<S, Machine>::Room(count, work, choose(work, wanted));
    return count.used();
  }

 private:
  static constexpr const char* who = "lowrank::cuda::Lora";

  void check_base(const View<const S>& W) const {
    if (W.data != nullptr) detail::check_shape(who, "the weight", W, rows(), cols());
  }
  Branch<S, Machine> branch(Index samples) const {
    return {*backend_, {rows(), cols(), rank(), samples}, columns<const S>(A_.value.data(), rank()), columns<const S>(B_.value.data(), rows()), S(scale()), 1};
  }

  Machine* backend_;
  LoraOptions options_;
  Trainable<S, Machine> A_, B_;
};

}  // namespace cuda
}  // namespace lowrank
