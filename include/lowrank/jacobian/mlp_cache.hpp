// What Mlp is made of: its layers, the memory of a batch, and the products of the one with the other.
#pragma once

#include <vector>

#include <lowrank/jacobian/activation.hpp>
#include <lowrank/jacobian/model.hpp>
#include <lowrank/linalg/gemm.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace jacobian {

/// One linear layer, or its gradient. Dense: weight n x m, right empty. Low rank: weight U n x r, right V m x r, W = U
/// V^T. A bias of size 0: none.
template <class S>
struct Layer {
  Matrix<S> weight, right = {};
  Vector<S> bias = {};

  bool low_rank() const { return right.size() > 0; }
  Index outputs() const { return weight.rows(); }
  Index inputs() const { return low_rank() ? right.rows() : weight.cols(); }
  Index rank() const { return low_rank() ? right.cols() : 0; }
};

/// What a batch leaves behind, and the scratch memory of the products. Made by Mlp::cache; holds no pointer to the
/// model or the batch, so copies are independent.
template <class S, class K>
struct MlpCache {
  struct Stage {
    Buffer<S> input;             // h_{l-1}, n_{l-1} x B
    Buffer<S> slope, curvature;  // s'(z_l), s''(z_l), n_l x B; none after the last layer
    Buffer<S> u, p, zeta;        // n_l x B
    Buffer<S> t, s, t_tangent;   // V^T h, U^T u, V^T a of a low-rank layer, r x B
  };
  std::vector<Stage> stages;
  Buffer<S> ping, pong;  // widest x B
  Buffer<std::byte> scratch;
  Index capacity = 0, size = 0;  // samples
  Index largest = 1;
  int threads = 1;
  enum class Left { Nothing, Forward, Vjp } left = Left::Nothing;  // by the last call
  bool pending = false;                                            // zeta holds deferred second-order terms

  MlpCache() = default;
  MlpCache(const std::vector<Layer<S>>& layers, const Activation& activation, Index samples, int team_size)
      : capacity(samples), threads(team_size) {
    Index widest = layers.front().inputs();
    const bool smooth = !activation.piecewise_linear();
    for (const Layer<S>& k : layers) {
      const Index n = k.outputs();
      Stage& stage = stages.emplace_back();
      stage.input = Buffer<S>(k.inputs(), samples);
      stage.u = Buffer<S>(n, samples);
      if (stages.size() < layers.size()) {
        stage.slope = Buffer<S>(n, samples);
        if (smooth) stage.curvature = Buffer<S>(n, samples), stage.p = stage.curvature, stage.zeta = stage.curvature;
      }
      if (k.low_rank()) stage.t = Buffer<S>(k.rank(), samples), stage.s = stage.t, stage.t_tangent = stage.t;
      widest = std::max(widest, n);
      largest = std::max({largest, n, k.inputs(), samples});
    }
    ping = Buffer<S>(widest, samples);
    pong = Buffer<S>(widest, samples);
    Arena count;
    (void)linalg::Team<S, K>(count, threads, largest);
    scratch = Buffer<std::byte>(Index(count.used()), 1);
  }

  linalg::Team<S, K> team() {
    Arena arena(scratch);
    return {arena, threads, largest};
  }
};

/// Products of one layer with the columns of a batch. W a = U (V^T a) and W^T u = V (U^T u) come in two halves, since
/// gradients need what lies between; the first half does nothing for a dense layer.
template <class S, class K>
struct LayerProducts {
  using Cache = MlpCache<S, K>;

  static void narrow_input(const Layer<S>& k, const S* a, Index ld, S* t, Cache& c) {
    if (k.low_rank())
      linalg::gemm<K>(k.rank(), c.size, k.inputs(), linalg::transposed<K>(k.right.data(), k.inputs()),
                      linalg::columns<K>(a, ld), t, k.rank(), c.team());
  }
  static void widen_output(const Layer<S>& k, const S* a, Index ld, const S* t, S* out, Index ldo, Cache& c) {
    linalg::gemm<K>(k.outputs(), c.size, k.weight.cols(), linalg::columns<K>(k.weight.data(), k.outputs()),
                    k.low_rank() ? linalg::columns<K>(t, k.rank()) : linalg::columns<K>(a, ld), out, ldo, c.team());
  }
  static void narrow_output(const Layer<S>& k, const S* u, Index ld, S* s, Cache& c) {
    if (k.low_rank())
      linalg::gemm<K>(k.rank(), c.size, k.outputs(), linalg::transposed<K>(k.weight.data(), k.outputs()),
                      linalg::columns<K>(u, ld), s, k.rank(), c.team());
  }
  static void widen_input(const Layer<S>& k, const S* u, Index ld, const S* s, S* out, Index ldo, Cache& c) {
    if (k.low_rank())
      linalg::gemm<K>(k.inputs(), c.size, k.rank(), linalg::columns<K>(k.right.data(), k.inputs()),
                      linalg::columns<K>(s, k.rank()), out, ldo, c.team());
    else
      linalg::gemm<K>(k.inputs(), c.size, k.outputs(), linalg::transposed<K>(k.weight.data(), k.outputs()),
                      linalg::columns<K>(u, ld), out, ldo, c.team());
  }
  /// dW += u a^T; by factors dU += u (V^T a)^T, dV += a (U^T u)^T.
  static void add_outer(const Layer<S>& k, Layer<S>& g, const S* u, Index ldu, const S* s, const S* a, Index lda,
                        const S* t, Cache& c) {
    const auto add = [&](const S* left, Index ldl, const S* right, Index ldr, Matrix<S>& to) {
      linalg::gemm<K>(to.rows(), to.cols(), c.size, linalg::columns<K>(left, ldl), linalg::transposed<K>(right, ldr),
                      to.data(), to.rows(), c.team(), linalg::Mode::Add);
    };
    if (k.low_rank()) {
      add(u, ldu, t, k.rank(), g.weight);
      add(a, lda, s, k.rank(), g.right);
    } else {
      add(u, ldu, a, lda, g.weight);
    }
  }
};

}  // namespace jacobian
}  // namespace lowrank
