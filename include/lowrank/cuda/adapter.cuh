// Adapters on a device: what they share. As in lowrank/adapter/adapter.hpp, activations are features x samples of either
// storage order, X n x N and Y m x N for a weight m x n; a Trace holds what backward needs of one forward, and gradients are added to.
// All matrices are of the adapter's scalar, in device memory. Every call only launches; once a Trace and the backend's workspace have
// seen the largest batch, nothing is allocated.
#pragma once

#include <cstdint>  // std::uint64_t

#include <lowrank/cuda/backend.cuh>
#include <lowrank/cuda/canonical.cuh>
#include <lowrank/cuda/random.cuh>
#include <lowrank/options/adapter.hpp>
#include <lowrank/options/path.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// In place of a weight: the change alone, added to what is there. In place of dX: it is not needed.
struct Absent {
  template <class T>
  operator View<T>() const { return {}; }
};
inline constexpr Absent no_base{}, no_gradient{};

/// One trained array, column-major. The gradient has no memory before the first backward.
template <class S, class B>
struct Trainable {
  const char* name = "";
  Array<S, B> value, gradient;
  double lr_scale = 1;  // LoRA+: a learning rate of its own, as a multiple

  Trainable(const char* n, Index rows, Index cols) : name(n), value(rows, cols), gradient(rows, cols) {}

  View<S> view() const { return {value.data(), value.rows(), value.cols(), 1, value.rows()}; }
  View<const S> gradient_view() const { return {gradient.data(), gradient.rows(), gradient.cols(), 1, gradient.rows()}; }
  void zero_gradient(B& backend) {
    if (gradient.data() != nullptr) backend.clear(gradient.data(), gradient.bytes());
  }
};

/// What backward needs of a forward pass. Grows to the largest batch it saw.
template <class S, class B>
struct Trace {
  Array<S, B> memory;
  Index samples = -1;  // of the last forward; -1: there was none
  Path path;           // the orders that were taken

  S* reserve(B& backend, Index n) {
    if (memory.size() < n) {
      memory = Array<S, B>();
      memory = Array<S, B>(n, 1);
      memory.allocate(backend);
    }
    return memory.data();
  }
};

/// out[i] uniform on (-bound, bound), element i of a stream: the CPU's first values.
template <class S>
struct FillUniform {
  S* out;
  Index n;
  double bound;
  std::uint64_t seed, stream;

  LOWRANK_HOST_DEVICE Index size() const { return n; }
  LOWRANK_DEVICE void operator()(Index i) const {
    const std::uint32_t word = random_block(seed, stream, std::uint64_t(i / 4)).word[i % 4];
    out[i] = S(bound * ((double(word) + 0.5) * 0x1p-31 - 1));
  }
};

/// A contiguous m x n array <- lines of `length` numbers, `ld` apart.
template <class S>
struct CopyLines {
  const S* from;
  S* out;
  Index length, lines, ld;

  LOWRANK_HOST_DEVICE Index size() const { return length * lines; }
  LOWRANK_DEVICE void operator()(Index e) const { out[e] = from[e % length + e / length * ld]; }
};

namespace detail {

inline void check_adapter(const char* who, Index m, Index n, std::int64_t rank, double alpha) {
  if (m < 1 || n < 1) bad_argument(who, shape_text(m, n), "a weight that is not empty");
  if (rank < 1) bad_argument(who, "rank = " + std::to_string(rank), "a rank of at least 1");
  require(true, who, "alpha", alpha, "a finite number");
}
template <class T>
void check_shape(const char* who, const char* what, const View<T>& v, Index rows, Index cols) {
  if (v.rows != rows || v.cols != cols) bad_argument(who, std::string(what) + " " + shape_text(v.rows, v.cols), shape_text(rows, cols));
}
/// What is written must not be what is read; absent or empty matrices are apart from all.
template <class T, class U>
void check_apart(const char* who, const View<T>& out, const View<U>& in) {
  const bool there = out.data != nullptr && in.data != nullptr && out.rows * out.cols > 0 && in.rows * in.cols > 0;
  if (there && overlap(out, in)) bad_argument(who, "a result that overlaps an operand", "separate memory");
}
inline void check_trace(const char* who, Index traced, Index samples) {
  if (traced == samples) return;
  bad_argument(who, traced < 0 ? "a trace without a forward pass" : "a trace of " + std::to_string(traced) + " samples",
               std::to_string(samples) + " samples: the trace of the forward pass on the same X");
}

}  // namespace detail

/// The arithmetic of s B A, A r x n, B m x r, N samples; lowrank/adapter/branch.hpp has the equations. dA and dB are column-major.
template <class S, class B>
struct Branch {
  B& backend;
  Work work;
  Operand<const S> A, Bm;
  S scale;
  S alone;          // beta of Y and dX where there is no W: 1, added to, or, for a whole layer, 0

  struct Room {
    S* small = nullptr;  // r x N: T = B^T dY
    S* again = nullptr;  // r x N: H, where the forward pass did not leave it
    S* dense = nullptr;  // m x n: the composed weight, then G

    Room(Arena& arena, const Work& w, const Path& path) : small(arena.take<S>(w.rank * w.samples)) {
      if (path.forward == Order::Composed && path.gradient == lowrank::Gradient::Factored) again = arena.take<S>(w.rank * w.samples);
      if (path.forward == Order::Composed || path.backward == Order::Composed || path.gradient == lowrank::Gradient::Dense)
        dense = arena.take<S>(w.m * w.n);
    }
  };
  Room room(const Path& path) const {
    Arena count;
    (void)Room(count, work, path);
    Arena arena(backend.workspace(count.used()));
    return Room(arena, work, path);
  }

  void forward(const Path& path, const View<const S>& W, const View<const S>& X, S* H, const View<S>& Y, const Room& to) const {
    const auto& [m, n, r, N] = work;
    const bool base = W.data != nullptr;
    if (path.forward == Order::Composed) {
      gemm(compose(W, to), operand(X), operand(Y), m, N, n, 1, base ? S(0) : alone);
      return;
    }
    if (base) gemm(operand(W), operand(X), operand(Y), m, N, n, 1, 0);
    hidden(X, H);
    gemm(Bm, columns<const S>(H, r), operand(Y), m, N, r, scale, base ? S(1) : alone);
  }
  /// H = A X
  void hidden(const View<const S>& X, S* H) const {
    gemm(A, operand(X), columns(H, work.rank), work.rank, work.samples, work.n, 1, 0);
  }
  /// dX (or nothing, where it is absent), and T for the gradients.
  void data_gradient(const Path& path, const View<const S>& W, const View<const S>& dY, const View<S>& dX, const Room& to) const {
    const auto& [m, n, r, N] = work;
    const bool base = W.data != nullptr, wanted = dX.data != nullptr, factored = path.backward == Order::Factored;
    if ((factored && wanted) || path.gradient == lowrank::Gradient::Factored)
      gemm(Bm.turned(), operand(dY), columns(to.small, r), r, N, m, 1, 0);
    if (!wanted) return;
    if (!factored) {
      gemm(compose(W, to).turned(), operand(dY), operand(dX), n, N, m, 1, base ? S(0) : alone);
      return;
    }
    if (base) gemm(operand(W).turned(), operand(dY), operand(dX), n, N, m, 1, 0);
    gemm(A.turned(), columns<const S>(to.small, r), operand(dX), n, N, r, scale, base ? S(1) : alone);
  }
  /// dA += .., dB += ..; a null gradient is not wanted.
  void weight_gradients(const Path& path, const View<const S>& X, const View<const S>& dY, const S* H, S* dA, S* dB, const Room& from) const {
    const auto& [m, n, r, N] = work;
    if (path.gradient == lowrank::Gradient::Dense) {
      const Operand<const S> G = columns<const S>(from.dense, m);
      gemm(operand(dY), operand(X).turned(), columns(from.dense, m), m, n, N, 1, 0);
      if (dB != nullptr) gemm(G, A.turned(), columns(dB, m), m, r, n, scale, 1);
      if (dA != nullptr) gemm(Bm.turned(), G, columns(dA, r), r, n, m, scale, 1);
      return;
    }
    if (dB != nullptr) gemm(operand(dY), transposed(H, r), columns(dB, m), m, r, N, scale, 1);
    if (dA != nullptr) gemm(columns<const S>(from.small, r), operand(X).turned(), columns(dA, r), r, n, N, scale, 1);
  }
  /// out <- beta out + factor s B A
  void product(const Operand<S>& out, S factor, S beta) const {
    gemm(Bm, A, out, work.m, work.n, work.rank, factor * scale, beta);
  }

 private:
  void gemm(Operand<const S> a, Operand<const S> b, Operand<S> c, Index m, Index n, Index depth, S alpha, S beta) const {
    backend.gemm(a, b, c, m, n, depth, Scale<S>{alpha, beta});
  }
  /// W + s B A, in W's storage order.
  Operand<const S> compose(const View<const S>& W, const Room& to) const {
    const auto& [m, n, r, N] = work;
    if (W.data == nullptr) {
      product(columns(to.dense, m), 1, 0);
      return columns<const S>(to.dense, m);
    }
    const Operand<const S> from = operand(W);
    const Index length = from.transposed ? n : m;
    launch(backend, CopyLines<S>{from.data, to.dense, length, m * n / length, from.ld});
    const Operand<S> dense{to.dense, length, from.transposed};
    product(dense, 1, 1);
    return dense;
  }
};

}  // namespace cuda
}  // namespace lowrank
