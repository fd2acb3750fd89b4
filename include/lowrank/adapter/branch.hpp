// Branch: the arithmetic that the low-rank family shares. The change is s diag(out) B diag(mid) A, A r x n, B m x r; the
// diagonals, where a method has them, are folded into the reading of B. With X' = X o mask, H = A X' and T = B'^T dY,
// B' = diag(out) B diag(mid):
//
//   Y <- W X + s B' H     dX <- W^T dY + s mask o (A^T T)     dB' <- s dY H^T     dA <- s T X'^T
//
// Contracted to r first; or composed and dense, as options/path.hpp decides. Source: LoRA, arXiv 2106.09685, eq. 3.
#pragma once

#include <lowrank/adapter/door.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

template <class S, class K>
struct Branch {
  using Factor = linalg::Factor<S, K>;

  struct Layout {
    linalg::Product<S, K> product;
    S* small = nullptr;  // r x N: T, or H when it has to be made again
    S* again = nullptr;  // r x N
    S* dense = nullptr;  // m x n: the composed weight, then G

    Layout(Arena& arena, int threads, const Work& w, const Path& path)
        : product(arena, threads, std::max({w.m, w.n, w.rank, w.samples})), small(arena.take<S>(w.rank * w.samples)) {
      if (path.forward == Order::Composed && path.gradient == Gradient::Factored) again = arena.take<S>(w.rank * w.samples);
      if (path.forward == Order::Composed || path.backward == Order::Composed || path.gradient == Gradient::Dense)
        dense = arena.take<S>(w.m * w.n);
    }
  };

  Work work;
  Factor A, B;  // B may carry row and column scales
  double scale = 1;
  linalg::Mask mask = {};
  linalg::Mode alone = linalg::Mode::Add;  // what Y and dX are without W: added to, or, for a whole layer, made

  static constexpr linalg::Mode store = linalg::Mode::Store, add = linalg::Mode::Add;

  void forward(const Path& path, const Input& W, const Factor& X, S* H, const linalg::Memory<void>& Y, const Layout& room) const {
    const auto& [m, n, r, N] = work;
    if (path.forward == Order::Composed) {
      compose(W, room);
      room.product(m, N, n, linalg::memory(room.dense, m), X, Y, W.present() ? store : alone);
      return;
    }
    hidden(X, H, room);
    if (W.present()) room.product(m, N, {n, W.memory, X}, {r, B, linalg::memory(H, r), scale}, Y, store);
    else room.product(m, N, r, B, linalg::memory(H, r), Y, alone, scale);
  }

  /// H = A X'
  void hidden(const Factor& X, S* H, const Layout& room) const {
    room.product(work.rank, work.samples, work.n, A, masked(X), linalg::memory(H, work.rank), store);
  }

  /// dX, and T for the gradients.
  void data_gradient(const Path& path, const Input& W, const Factor& dY, const Output& dX, const Layout& room) const {
    const auto& [m, n, r, N] = work;
    const bool factored = path.backward == Order::Factored;
    if ((factored && dX.present()) || path.gradient == Gradient::Factored)
      room.product(r, N, m, B.transposed(), dY, linalg::memory(room.small, r), store);
    if (!dX.present()) return;
    if (!factored) {
      compose(W, room);
      room.product(n, N, m, linalg::transposed(linalg::memory(room.dense, m)), dY, dX.memory, W.present() ? store : alone);
      return;
    }
    const Factor T(linalg::memory(room.small, r));
    if (W.present()) room.product(n, N, {m, linalg::transposed(W.memory), dY}, {r, A.transposed(), T, scale}, dX.memory, store, mask);
    else room.product(n, N, r, A.transposed(), T, dX.memory, alone, scale, mask);
  }

  /// dA += ..., dB += ... of the B without its scales. A null gradient is not wanted.
  void weight_gradients(const Path& path, const Factor& X, const Factor& dY, const S* H, Buffer<S>* dA, Buffer<S>* dB,
                        const Layout& room) const {
    const auto& [m, n, r, N] = work;
    Factor scaled_dY = dY;
    if (B.row_scale != nullptr) scaled_dY.row_scale = B.row_scale;
    if (path.gradient == Gradient::Dense) {
      room.product(m, n, N, dY, X.transposed(), linalg::memory(room.dense, m), store);
      const Factor G(linalg::constant(linalg::memory(room.dense, m)), B.row_scale, nullptr);
      Factor At = A.transposed();
      At.col_scale = B.col_scale;
      if (dB != nullptr) room.product(m, r, n, G, At, linalg::memory(*dB), add, scale);
      if (dA != nullptr) room.product(r, n, m, B.transposed(), linalg::memory(room.dense, m), linalg::memory(*dA), add, scale);
      return;
    }
    const Factor Ht = Factor(linalg::constant(linalg::memory(const_cast<S*>(H), r)), B.col_scale, nullptr).transposed();
    if (dB != nullptr) room.product(m, r, N, scaled_dY, Ht, linalg::memory(*dB), add, scale);
    if (dA != nullptr) room.product(r, n, N, linalg::memory(room.small, r), masked(X).transposed(), linalg::memory(*dA), add, scale);
  }

  /// dense <- W + s B' A
  void compose(const Input& W, const Layout& room) const {
    if (W.present()) copy(W, room);
    room.product(work.m, work.n, work.rank, B, A, linalg::memory(room.dense, work.m), W.present() ? add : store, scale);
  }

  Factor masked(const Factor& X) const {
    Factor x = X;
    x.mask = mask;
    return x;
  }

 private:
  void copy(const Input& W, const Layout& room) const {
    constexpr Index wide = 64;
    const Factor from(W.memory);
    for_each((work.n + wide - 1) / wide, room.product.threads(), [&](Index block, int) {
      const Index j0 = block * wide;
      from.load(0, work.m, j0, std::min(wide, work.n - j0), room.dense + j0 * work.m, work.m);
    });
  }
};

/// The keep-or-drop mask of a pass.
inline linalg::Mask dropout_mask(double p, std::uint64_t seed, const Pass& pass, Index features) {
  if (p == 0 || pass.mode == Pass::Mode::Evaluate) return {};
  return {seed, pass.step, std::uint32_t(p * 0x1p32), 1 / (1 - p), features};
}
inline void check_dropout(const char* who, double p) {
  if (!(p >= 0 && p < 1)) bad_argument(who, "dropout = " + std::to_string(p), "a probability in [0, 1)");
}
/// Dropout acts on the branch's input, so what is composed or dense cannot have it.
inline Path choose_path(const char* who, const Work& work, const Path& wanted, const linalg::Mask& mask) {
  if (mask.below == 0) return choose(work, wanted);
  if (wanted.forward == Order::Composed || wanted.backward == Order::Composed || wanted.gradient == Gradient::Dense)
    bad_argument(who, "a composed or dense path with dropout", "Order::Factored and Gradient::Factored, or Auto");
  return {Order::Factored, Order::Factored, Gradient::Factored};
}

}  // namespace detail
}  // namespace lowrank
