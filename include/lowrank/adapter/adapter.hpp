// Adapters: a weight, or the change of one, made of few numbers.
//
// Activations are features x samples, of either storage order and any scalar: X n x N, Y m x N for a weight m x n. A
// column-major one is the memory of a row-major array [samples][features]. The samples are tokens as well as sequences.
//
//   forward(W, X, Y, trace, workspace, pass)    Y <- (W + change) X;   W: any matrix, or no_base: Y <- Y + change X
//   backward(W, X, dY, dX, trace, workspace)    dX <- (W + change)^T dY, or added; adds to the parameters' gradients
//   add_change(W, factor, workspace)            W <- round(W + factor change): merging and unmerging (merge.hpp)
//   visit(f)                                    f(Trainable&) for everything that is trained
//   on_step(t, editors)                         after the optimizers' step t: what the method does to its parameters and,
//                                               through editors(name), to their optimizer states (core/state.hpp)
//   visit_kept(f)                               f(name, Buffer or number) for what else changes while it trains, if anything
//                                               does: with visit(), all that a file needs to go on
//
// A layer that has no W (SLTrain, W = B A, ...) has the same functions without it. Memory: parameters are allocated when
// the adapter is made, gradients with the first backward; a Trace holds what backward needs of one forward, so several
// batches may be under way; the Workspace is forgotten after each call and may be shared by all layers. Once these have
// seen the largest batch, nothing is allocated. W, X and dY are read, never kept.
#pragma once

#include <lowrank/core/state.hpp>
#include <lowrank/core/workspace.hpp>
#include <lowrank/linalg/product.hpp>
#include <lowrank/options/path.hpp>

namespace lowrank::inline LOWRANK_ABI {

/// One trained array. The gradient has no memory before the first backward.
template <class S>
struct Trainable {
  const char* name = "";
  Buffer<S> value, gradient;
  double lr_scale = 1;  // LoRA+: a learning rate of its own, as a multiple

  Trainable() = default;
  Trainable(const char* n, Index rows, Index cols) : name(n), value(rows, cols), gradient(Buffer<S>::shaped(rows, cols)) {}

  View<S> view() { return {value.data(), value.rows(), value.cols(), 1, value.rows()}; }
  View<const S> view() const { return {value.data(), value.rows(), value.cols(), 1, value.rows()}; }
  View<const S> gradient_view() const { return {gradient.data(), gradient.rows(), gradient.cols(), 1, gradient.rows()}; }
  void zero_gradient() { if (gradient.allocated()) gradient.set_zero(); }
};

/// How one forward pass (and the backward pass that follows it) is done. step: the number that dropout is keyed by,
/// together with the adapter's seed; micro-batches of one step need different ones.
struct Pass {
  enum class Mode { Train, Evaluate };
  Mode mode = Mode::Train;
  std::uint64_t step = 0;
  Path path = {};
};

/// In place of a weight: the change alone, added to what is there.
struct NoBase {};
inline constexpr NoBase no_base{};
/// In place of dX: it is not needed.
struct NoGradient {};
inline constexpr NoGradient no_gradient{};

/// What backward needs of a forward pass. Grows to the largest batch it saw.
template <class S>
struct Trace {
  Buffer<S> memory;
  Index samples = -1;  // of the last forward; -1: there was none
  Pass pass;
  Path path;           // the orders that were taken
  Index width = 0;     // of a layer whose rank changes

  S* reserve(Index n) {
    if (memory.size() < n) {
      memory = Buffer<S>();
      memory = Buffer<S>(n, 1);
    }
    return memory.data();
  }
  std::size_t bytes() const { return memory.bytes(); }
};

/// The trained numbers of an adapter, in bytes of value.
template <class A>
std::size_t parameter_bytes(const A& adapter) {
  std::size_t bytes = 0;
  adapter.visit([&](const auto& p) { bytes += p.value.bytes(); });
  return bytes;
}
template <class A>
void zero_gradients(A& adapter) {
  adapter.visit([](auto& p) { p.zero_gradient(); });
}

/// An adapter on a weight, as far as a trainer sees it.
template <class A>
concept Adapter = requires(A& a, const A& c, View<typename A::Scalar> v, Trace<typename A::Scalar>& trace, Workspace& w) {
  { c.rows() } -> std::same_as<Index>;
  { c.cols() } -> std::same_as<Index>;
  c.forward(v, v, v, trace, w, Pass{});
  a.backward(v, v, v, v, trace, w);
  a.visit([](auto&) {});
  { c.bytes() } -> std::same_as<std::size_t>;
  a.on_step(std::uint64_t{}, [](const char*) { return NoState{}; });
};

/// A whole weight made of few numbers.
template <class L>
concept Layer = requires(L& a, const L& c, View<typename L::Scalar> v, Trace<typename L::Scalar>& trace, Workspace& w) {
  { c.rows() } -> std::same_as<Index>;
  { c.cols() } -> std::same_as<Index>;
  c.forward(v, v, trace, w, Pass{});
  a.backward(v, v, v, trace, w);
  a.visit([](auto&) {});
  { c.bytes() } -> std::same_as<std::size_t>;
  a.on_step(std::uint64_t{}, [](const char*) { return NoState{}; });
};

namespace detail {

inline void check_weight_shape(const char* who, Index m, Index n) {
  if (m < 1 || n < 1) bad_argument(who, shape_text(m, n), "a weight that is not empty");
}
inline void check_rank(const char* who, Index rank) {
  if (rank < 1) bad_argument(who, "rank = " + std::to_string(rank), "a rank of at least 1");
}
template <class S>
void check_trace(const char* who, const Trace<S>& trace, Index samples) {
  if (trace.samples == samples) return;
  bad_argument(who, trace.samples < 0 ? "a trace without a forward pass" : "a trace of " + std::to_string(trace.samples) + " samples",
               std::to_string(samples) + " samples: the trace of the forward pass on the same X");
}

/// Workspace laid out twice, as everywhere: to count, then to use. Layout(Arena&, args...).
template <class Layout, class... Args>
Layout lay_out(Workspace& workspace, const Args&... args) {
  const int threads = workspace.threads();
  Arena count;
  (void)Layout(count, threads, args...);
  Arena arena(workspace.reserve(count.used()));
  return Layout(arena, threads, args...);
}

}  // namespace detail
}  // namespace lowrank
