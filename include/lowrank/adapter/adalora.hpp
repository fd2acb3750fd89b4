// AdaLoRA: a change in the form of a singular value decomposition whose rank is shared out among the layers while it
// trains (arXiv 2303.10512):  change = c B diag(E) A,  c = alpha / (rank + 1e-5), rank the one it began with.
//
//   M = dY (A X)^T    dB = c M diag(E)    dE_k = c B_k . M_k    dA = c diag(E) B^T dY X^T
//
// A triplet (A_k, E_k, B_k) matters as much as its smoothed sensitivity says:  I = |p dp| elementwise,
// I' <- b1 I' + (1-b1) I,  U <- b2 U + (1-b2) |I - I'|,  score I' U;  S_k = score(E_k) + mean score(A_k) + mean score(B_k).
// AdaLoraBudget keeps the triplets of the whole model that matter most. It must be called after every optimizer step,
// with the gradients of that step: a backward pass that finds it was not throws.
// Deviations from the published code: exactly the budget is kept (ties go to the earlier triplet, there all of them
// drop), and each tensor needs two buffers and not three.
#pragma once

#include <algorithm>  // std::nth_element
#include <vector>     // std::vector

#include <lowrank/adapter/branch.hpp>
#include <lowrank/adapter/initialize.hpp>
#include <lowrank/adapter/merge.hpp>

namespace lowrank::inline LOWRANK_ABI {

/// PEFT's defaults: init_r, lora_alpha, beta1 and beta2.
struct AdaLoraOptions {
  Index rank = 12;
  double alpha = 8;
  double beta1 = 0.85, beta2 = 0.85;
  Index micro_batches = 1;  // backward passes in one optimizer step: one more without AdaLoraBudget throws
  std::uint64_t seed = 0;
};

template <class S, class K = kernel::Best>
class AdaLora : public detail::AdapterDoor<AdaLora<S, K>, S> {
  using Branch = detail::Branch<S, K>;
  using Factor = typename Branch::Factor;

 public:
  static constexpr const char* who = "lowrank::AdaLora";

  /// A and B ~ N(0, 0.02^2), E = 0.
  AdaLora(Index m, Index n, const AdaLoraOptions& options = {}) : options_(options) {
    detail::check_weight_shape(who, m, n);
    detail::check_rank(who, options.rank);
    for (const double beta : {options.beta1, options.beta2})
      if (!(beta >= 0 && beta < 1)) detail::bad_argument(who, "a beta of " + std::to_string(beta), "a number in [0, 1)");
    A_ = Trainable<S>("A", options.rank, n);
    E_ = Trainable<S>("E", options.rank, 1);
    B_ = Trainable<S>("B", m, options.rank);
    detail::fill_gaussian(A_.value, 0.02, options.seed, 0);
    detail::fill_gaussian(B_.value, 0.02, options.seed, 1);
    for (std::size_t p = 0; p < 3; ++p) {
      const Buffer<S>& of = p == 0 ? A_.value : p == 1 ? E_.value : B_.value;
      sensitivity_[p] = Buffer<S>(of.rows(), of.cols());
      uncertainty_[p] = Buffer<S>(of.rows(), of.cols());
    }
    kept_ = Buffer<std::uint8_t>(options.rank, 1);
    for (Index k = 0; k < options.rank; ++k) kept_[k] = 1;
  }

  Index rows() const { return B_.value.rows(); }
  Index cols() const { return A_.value.cols(); }
  Index rank() const { return A_.value.rows(); }
  double scale() const { return (options_.alpha > 0 ? options_.alpha : double(rank())) / (double(rank()) + 1e-5); }
  const AdaLoraOptions& options() const { return options_; }
  Trainable<S>& A() { return A_; }
  Trainable<S>& E() { return E_; }
  Trainable<S>& B() { return B_; }
  const Trainable<S>& A() const { return A_; }
  const Trainable<S>& E() const { return E_; }
  const Trainable<S>& B() const { return B_; }
  /// Whether triplet k is in the budget; how many are.
  bool kept(Index k) const { return kept_[k] != 0; }
  Index kept() const {
    Index count = 0;
    for (Index k = 0; k < rank(); ++k) count += kept_[k];
    return count;
  }

  /// ||A A^T - I||_F + ||B^T B - I||_F, whose gradients times `weight` are added to those of A and B. The published
  /// penalty is the mean over all factors of a model: weight = 0.5 / (2 adapters).
  double add_orthogonality(double weight, Workspace& workspace) {
    struct Room {
      linalg::Product<S, K> product;
      S* gram;
      Room(Arena& arena, int threads, Index m, Index n, Index r) : product(arena, threads, std::max({m, n, r})), gram(arena.take<S>(r * r)) {}
    };
    const Index m = rows(), n = cols(), r = rank();
    const Room room = detail::lay_out<Room>(workspace, m, n, r);
    A_.gradient.allocate(), B_.gradient.allocate();
    const Factor A(linalg::memory(std::as_const(A_.value))), B(linalg::memory(std::as_const(B_.value))), gram(linalg::memory(room.gram, r));
    const auto deviation = [&] {
      for (Index k = 0; k < r; ++k) room.gram[k + k * r] -= S(1);
      return std::sqrt(K::sum_squares(r * r, room.gram));
    };
    room.product(r, r, n, A, A.transposed(), linalg::memory(room.gram, r), linalg::Mode::Store);
    const double a = deviation();
    if (a > 0) room.product(r, n, r, gram, A, linalg::memory(A_.gradient), linalg::Mode::Add, 2 * weight / a);
    room.product(r, r, m, B.transposed(), B, linalg::memory(room.gram, r), linalg::Mode::Store);
    const double b = deviation();
    if (b > 0) room.product(m, r, r, B, gram, linalg::memory(B_.gradient), linalg::Mode::Add, 2 * weight / b);
    return a + b;
  }

  /// I' and U from the present values and gradients; scores: S_k into out[0 .. rank).
  void update_importance(double* out) {
    for (std::size_t p = 0; p < 3; ++p) {
      const Trainable<S>& of = p == 0 ? A_ : p == 1 ? E_ : B_;
      if (!of.gradient.allocated()) detail::bad_argument(who, "no gradients", "a backward pass before");
      for (Index i = 0; i < of.value.size(); ++i) {
        const double now = std::abs(double(of.value[i]) * double(of.gradient[i]));
        const double smooth = options_.beta1 * double(sensitivity_[p][i]) + (1 - options_.beta1) * now;
        sensitivity_[p][i] = S(smooth);
        uncertainty_[p][i] = S(options_.beta2 * double(uncertainty_[p][i]) + (1 - options_.beta2) * std::abs(now - smooth));
      }
    }
    const auto score = [&](std::size_t p, Index i) { return double(sensitivity_[p][i]) * double(uncertainty_[p][i]); };
    for (Index k = 0; k < rank(); ++k) {
      double a = 0, b = 0;
      for (Index j = 0; j < cols(); ++j) a += score(0, k + j * rank());
      for (Index i = 0; i < rows(); ++i) b += score(2, i + k * rows());
      out[k] = score(1, k) + a / double(cols()) + b / double(rows());
    }
    passes_ = 0;
  }
  /// E_k <- 0 outside the budget. A and B stay: the triplet may come back.
  void mask(const std::uint8_t* keep) {
    for (Index k = 0; k < rank(); ++k) {
      kept_[k] = keep[k];
      if (keep[k] == 0) E_.value[k] = S(0);
    }
  }
  /// The budget has nothing more to decide: the mask is applied again.
  void remask() { mask(kept_.data()), passes_ = 0; }

  template <class M>
  MergeReport add_change(M&& W, double factor, Workspace& workspace) const {
    const auto w = detail::merge_view(who, rows(), cols(), W);
    const auto room = detail::lay_out<Layout>(workspace, work(0), Path{});
    return detail::add_product<S, K>(linalg::memory(w), rows(), cols(), rank(), branch(0).B, branch(0).A, factor * scale(), room.factors.product);
  }
  template <class M>
  MergeReport merge_into(M&& W, Workspace& workspace) const { return add_change(W, 1, workspace); }
  template <class M>
  void unmerge_from(M&& W, Workspace& workspace) const { add_change(W, -1, workspace); }

  void visit(auto&& f) { f(A_), f(E_), f(B_); }
  void visit(auto&& f) const { f(A_), f(E_), f(B_); }
  /// With the two importance buffers of each tensor.
  std::size_t bytes() const { return 3 * (A_.value.bytes() + E_.value.bytes() + B_.value.bytes()) + kept_.bytes(); }
  /// The moments of what is outside the budget are those of a number that is held at zero: they begin anew.
  void on_step(std::uint64_t, auto&& editors) {
    auto editor = editors("E");
    for (Index k = 0; k < rank(); ++k)
      if (kept_[k] == 0) editor.zero(Axis::Rows, std::span(&k, 1));
  }

 private:
  friend detail::AdapterDoor<AdaLora, S>;

  struct Layout {
    typename Branch::Layout factors;
    S* M;
    double* sums;
    Layout(Arena& arena, int threads, const Work& w, const Path& path)
        : factors(arena, threads, w, path), M(arena.take<S>(w.m * w.rank)), sums(arena.take<double>(w.rank)) {}
  };

  Work work(Index samples) const { return {rows(), cols(), rank(), samples}; }
  Branch branch(Index samples) const {
    return {work(samples), linalg::memory(A_.value), Factor(linalg::memory(B_.value), nullptr, E_.value.data()), scale(), {}};
  }

  void run_forward(const detail::Input& W, const Factor& X, const linalg::Memory<void>& Y, Index N, Trace<S>& trace,
                   Workspace& workspace, const Pass& pass) const {
    const Branch b = branch(N);
    const Path path = choose(b.work, pass.path);
    const Layout room = detail::lay_out<Layout>(workspace, b.work, path);
    b.forward(path, W, X, trace.reserve(path.forward == Order::Composed ? 0 : rank() * N), Y, room.factors);
    trace.samples = N;
    trace.pass = pass;
    trace.path = path;
  }

  void run_backward(const detail::Input& W, const Factor& X, const Factor& dY, const detail::Output& dX, const Trace<S>& trace,
                    Workspace& workspace) {
    if (++passes_ > options_.micro_batches) {
      passes_ = options_.micro_batches;
      detail::bad_argument(who, "a backward pass without AdaLoraBudget::step since the last optimizer step", "that call, or more micro_batches");
    }
    const Index m = rows(), r = rank(), N = trace.samples;
    const Branch b = branch(N);
    const Path& path = trace.path;
    const Layout room = detail::lay_out<Layout>(workspace, b.work, path);
    const auto& product = room.factors.product;
    this->visit([](auto& p) { p.gradient.allocate(); });
    b.data_gradient(path, W, dY, dX, room.factors);
    const S* H = trace.memory.data();
    if (room.factors.again != nullptr) b.hidden(X, room.factors.again, room.factors), H = room.factors.again;
    b.weight_gradients(path, X, dY, H, &A_.gradient, nullptr, room.factors);
    if (path.gradient == Gradient::Dense)  // G is still there
      product(m, r, cols(), linalg::memory(room.factors.dense, m), b.A.transposed(), linalg::memory(room.M, m), linalg::Mode::Store);
    else
      product(m, r, N, dY, linalg::transposed(linalg::memory(const_cast<S*>(H), r)), linalg::memory(room.M, m), linalg::Mode::Store);
    const Factor Bt = Factor(linalg::memory(std::as_const(B_.value))).transposed();
    linalg::row_dots(r, m, Bt, Factor(linalg::memory(room.M, m)).transposed(), room.sums, product.team());
    for (Index k = 0; k < r; ++k) {
      E_.gradient[k] += S(scale() * room.sums[k]);
      K::combine(m, scale() * double(E_.value[k]), room.M + k * m, 1.0, B_.gradient.column(k), B_.gradient.column(k));
    }
  }

  AdaLoraOptions options_;
  Trainable<S> A_, E_, B_;
  std::array<Buffer<S>, 3> sensitivity_, uncertainty_;  // of A, E, B
  Buffer<std::uint8_t> kept_;
  Index passes_ = 0;  // since the budget was called
};

/// PEFT's names: target_r, tinit, tfinal, deltaT, total_step.
struct AdaLoraBudgetOptions {
  Index target_rank = 8;
  std::uint64_t warm_up = 0, final_steps = 0, every = 1, total = 0;
};

/// The budget of a model. b(t) = b_0 until warm_up, then falls by a cubic to target_rank a layer at total - final_steps,
/// and stays there with the last choice frozen. The adapters are those of the same model, in the same order, each time.
template <class S, class K = kernel::Best>
class AdaLoraBudget {
 public:
  explicit AdaLoraBudget(const AdaLoraBudgetOptions& options) : options_(options) {
    const char* who = "lowrank::AdaLoraBudget";
    if (options.target_rank < 0) detail::bad_argument(who, "target_rank = " + std::to_string(options.target_rank), "a number >= 0");
    if (options.every < 1) detail::bad_argument(who, "every = 0", "a number of steps");
    if (options.total <= options.warm_up + options.final_steps)
      detail::bad_argument(who, "total = " + std::to_string(options.total), "more than warm_up + final_steps");
  }

  /// Triplets that the model may have at step t; all and target are those of all layers.
  Index budget(std::uint64_t t, Index all, Index target) const {
    if (t <= options_.warm_up) return all;
    const std::uint64_t end = options_.total - options_.final_steps;
    if (t >= end || target >= all) return std::min(all, target);
    const double left = 1 - double(t - options_.warm_up) / double(end - options_.warm_up);
    return Index(double(target) + double(all - target) * left * left * left);
  }

  /// After the optimizers' step t (from 1), before the gradients are set to zero.
  void step(std::uint64_t t, std::span<AdaLora<S, K>* const> adapters) {
    const std::uint64_t end = options_.total - options_.final_steps;
    if (t > end) {
      for (AdaLora<S, K>* a : adapters) a->remask();
      return;
    }
    Index all = 0;
    for (const AdaLora<S, K>* a : adapters) all += a->rank();
    score_.resize(std::size_t(all));
    order_.resize(std::size_t(all));
    keep_.assign(std::size_t(all), 1);
    Index at = 0;
    for (AdaLora<S, K>* a : adapters) a->update_importance(score_.data() + at), at += a->rank();
    const bool decides = t == end || (t > options_.warm_up && t % options_.every == 0);
    if (!decides) return;
    const Index kept = budget(t, all, options_.target_rank * Index(adapters.size()));
    for (Index k = 0; k < all; ++k) order_[std::size_t(k)] = k;
    const auto before = [&](Index a, Index b) {
      const double x = score_[std::size_t(a)], y = score_[std::size_t(b)];
      return x != y ? x > y : a < b;
    };
    if (kept < all) std::nth_element(order_.begin(), order_.begin() + kept, order_.end(), before);
    for (Index k = kept; k < all; ++k) keep_[std::size_t(order_[std::size_t(k)])] = 0;
    at = 0;
    for (AdaLora<S, K>* a : adapters) a->mask(keep_.data() + at), at += a->rank();
  }

 private:
  AdaLoraBudgetOptions options_;
  std::vector<double> score_;
  std::vector<Index> order_;
  std::vector<std::uint8_t> keep_;
};

}  // namespace lowrank
