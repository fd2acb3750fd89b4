// Mlp: a multilayer perceptron whose Jacobian can be penalised.
//
//   h_0 = x,  z_l = W_l h_{l-1} + b_l (l = 1..L),  h_l = s(z_l) (l < L),  f(x) = z_L,  J = W_L D_{L-1} .. D_1 W_1,
//
// W_l n_l x n_{l-1}, D_l = diag(s'(z_l)). The last layer is linear: logits, not probabilities. A layer with a right
// factor has W = U V^T and is never multiplied out: every product goes through the factors, O((n + n') r) a sample.
//
// mixed_vjp is exact, second derivatives of s included. With u_l, p_l of the vjp of V (u_L = V, p_l = W_{l+1}^T
// u_{l+1}, u_l = s'(z_l) o p_l) and a_0 = G, beta_l = W_l a_{l-1}, a_l = s'(z_l) o beta_l,
//
//   dW_l += u_l a_{l-1}^T,   zeta_l = s''(z_l) o p_l o beta_l,
//   delta_l = zeta_l + s'(z_l) o W_{l+1}^T delta_{l+1},   dW_l += delta_l h_{l-1}^T,  db_l += delta_l 1,  dX = W_1^T
//   delta_1.
//
// The first line is defer_mixed, the second is sweep, which takes a loss's cotangent as delta_L as well. Where s is
// piecewise linear zeta = 0 and the second line is the loss's alone. The products are linalg::gemm's: no result depends
// on the number of threads.
#pragma once

#include <lowrank/core/rng.hpp>
#include <lowrank/jacobian/elementwise.hpp>
#include <lowrank/jacobian/mlp_cache.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace jacobian {

template <class S, class K = kernel::Best>
class Mlp {
 public:
  using Scalar = S;
  using Cache = MlpCache<S, K>;
  using Grads = std::vector<Layer<S>>;
  enum class Bias { With, Without };

  /// Dense layers dims[0] -> dims[1] -> ..., all zero until randomize() or the caller fills layers().
  Mlp(const std::vector<Index>& dims, Activation activation, Bias bias = Bias::With)
      : Mlp(zeros(dims, bias), activation) {}
  /// From layers of the caller's, dense or low rank. Throws std::invalid_argument when they do not fit together.
  Mlp(std::vector<Layer<S>> layers, Activation activation) : layers_(std::move(layers)), activation_(activation) {
    detail::check_activation(who, activation_);
    if (layers_.empty()) lowrank::detail::bad_argument(who, "no layers", "at least one");
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      const Layer<S>& k = layers_[l];
      const std::string name = "layer " + std::to_string(l);
      if (k.weight.size() == 0) lowrank::detail::bad_argument(who, name + " empty", "a weight with rows and columns");
      if (k.low_rank() && k.right.cols() != k.weight.cols())
        lowrank::detail::bad_argument(who,
                                      name + " with factors of rank " + std::to_string(k.weight.cols()) + " and " +
                                          std::to_string(k.right.cols()),
                                      "one rank");
      if (k.bias.size() != 0 && k.bias.size() != k.outputs())
        lowrank::detail::bad_argument(who, name + " with a bias of " + std::to_string(k.bias.size()),
                                      std::to_string(k.outputs()) + " entries or none");
      if (l > 0 && k.inputs() != layers_[l - 1].outputs())
        lowrank::detail::bad_argument(who, name + " with " + std::to_string(k.inputs()) + " inputs",
                                      std::to_string(layers_[l - 1].outputs()) + ", the outputs before it");
    }
  }

  /// Weights N(0, gain^2 / fan-in), the factors of a low-rank layer so that W has that variance; biases zero.
  void randomize(std::uint64_t seed, double gain) {
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      Layer<S>& k = layers_[l];
      fill_normal(k.weight.data(), k.weight.size(), seed, 2 * l, 0);
      double scale = gain / std::sqrt(double(k.inputs()));
      if (k.low_rank()) {
        fill_normal(k.right.data(), k.right.size(), seed, 2 * l + 1, 0);
        scale = std::sqrt(scale / std::sqrt(double(k.rank())));
        k.right *= S(scale);
      }
      k.weight *= S(scale);
      k.bias.setZero();
    }
  }

  /// The parameters: read and written by the caller and its optimizers; shapes stay as they are.
  std::vector<Layer<S>>& layers() { return layers_; }
  const std::vector<Layer<S>>& layers() const { return layers_; }
  const Activation& activation() const { return activation_; }
  Index input_dim() const { return layers_.front().inputs(); }
  Index output_dim() const { return layers_.back().outputs(); }
  Index depth() const { return Index(layers_.size()); }

  /// Zeros of the parameters' shapes.
  Grads grads() const {
    Grads g = layers_;
    set_zero(g);
    return g;
  }
  static void set_zero(Grads& g) {
    for (Layer<S>& k : g) k.weight.setZero(), k.right.setZero(), k.bias.setZero();
  }

  /// Memory for batches of up to `samples`; nothing is allocated later.
  Cache cache(Index samples, int threads = lowrank::detail::available_threads()) const {
    if (samples < 1)
      lowrank::detail::bad_argument("lowrank::jacobian::Mlp::cache", std::to_string(samples), "a sample or more");
    return Cache(layers_, activation_, samples, threads);
  }

  /// Y = f(X).
  void forward(ConstBatch<S> X, Cache& c, Batch<S> Y) const {
    check(c, X.cols());
    detail::check_batch("lowrank::jacobian::Mlp::forward", X.rows(), X.cols(), input_dim(), X.cols());
    detail::check_batch("lowrank::jacobian::Mlp::forward", Y.rows(), Y.cols(), output_dim(), X.cols());
    c.size = X.cols();
    c.left = Cache::Left::Forward;
    c.pending = false;
    copy(X, c.stages[0].input);
    for (Index l = 0; l < depth(); ++l) {
      const Layer<S>& k = layers_[std::size_t(l)];
      auto& stage = c.stages[std::size_t(l)];
      const bool last = l + 1 == depth();
      S* z = last ? Y.data() : c.ping.data();
      const Index n = k.outputs(), ld = last ? Y.outerStride() : n;
      Products::narrow_input(k, stage.input.data(), k.inputs(), stage.t.data(), c);
      Products::widen_output(k, stage.input.data(), k.inputs(), stage.t.data(), z, ld, c);
      if (k.bias.size() > 0)
        for (Index b = 0; b < c.size; ++b) detail::add<K>(n, 1, k.bias.data(), z + b * ld);
      if (!last) activate(n * c.size, z, c.stages[std::size_t(l + 1)].input.data(), stage);
    }
  }

  /// Q = J^T V; the cache keeps what mixed_vjp needs of it.
  void vjp(Cache& c, ConstBatch<S> V, Batch<S> Q) const {
    check_after_forward("lowrank::jacobian::Mlp::vjp", c, V, output_dim());
    detail::check_batch("lowrank::jacobian::Mlp::vjp", Q.rows(), Q.cols(), input_dim(), c.size);
    copy(V, c.stages.back().u);
    for (Index l = depth() - 1; l >= 0; --l) {
      const Layer<S>& k = layers_[std::size_t(l)];
      auto& stage = c.stages[std::size_t(l)];
      Products::narrow_output(k, stage.u.data(), k.outputs(), stage.s.data(), c);
      if (l == 0) {
        Products::widen_input(k, stage.u.data(), k.outputs(), stage.s.data(), Q.data(), Q.outerStride(), c);
        break;
      }
      auto& below = c.stages[std::size_t(l - 1)];
      S* p = below.p.size() > 0 ? below.p.data() : below.u.data();
      Products::widen_input(k, stage.u.data(), k.outputs(), stage.s.data(), p, k.inputs(), c);
      detail::multiply<K>(k.inputs() * c.size, below.slope.data(), p, below.u.data());
    }
    c.left = Cache::Left::Vjp;
  }

  /// Y = J T.
  void jvp(Cache& c, ConstBatch<S> T, Batch<S> Y) const {
    check_after_forward("lowrank::jacobian::Mlp::jvp", c, T, input_dim());
    detail::check_batch("lowrank::jacobian::Mlp::jvp", Y.rows(), Y.cols(), output_dim(), c.size);
    const S* a = T.data();
    Index ld = T.outerStride();
    for (Index l = 0; l < depth(); ++l) {
      const Layer<S>& k = layers_[std::size_t(l)];
      auto& stage = c.stages[std::size_t(l)];
      const bool last = l + 1 == depth();
      S* beta = last ? Y.data() : (l % 2 == 0 ? c.ping : c.pong).data();
      Products::narrow_input(k, a, ld, stage.t_tangent.data(), c);
      Products::widen_output(k, a, ld, stage.t_tangent.data(), beta, last ? Y.outerStride() : k.outputs(), c);
      if (last) break;
      detail::multiply<K>(k.outputs() * c.size, stage.slope.data(), beta, beta);
      a = beta;
      ld = k.outputs();
    }
  }

  /// grads += grad_theta <V, f(X)>. Takes along what was deferred, as sweep does.
  void param_vjp(Cache& c, ConstBatch<S> V, Grads& grads) const { sweep(c, V, grads, no_batch<S>()); }

  void mixed_vjp(Cache& c, ConstBatch<S> V, ConstBatch<S> G, Grads& grads, Batch<S> dX) const {
    defer_mixed(c, V, G, grads);
    sweep(c, no_batch<S>(), grads, dX);
  }

  /// The first-order part of mixed_vjp; second-order terms are added to those that wait for the next sweep.
  void defer_mixed(Cache& c, ConstBatch<S> V, ConstBatch<S> G, Grads& grads) const {
    const char* name = "lowrank::jacobian::Mlp::mixed_vjp";
    if (c.left != Cache::Left::Vjp)
      lowrank::detail::bad_argument(name, "a cache without vjp", "vjp(cache, V, Q) just before");
    check_after_forward(name, c, V, output_dim());
    check_after_forward(name, c, G, input_dim());
    check_grads(name, grads);
    const S* a = G.data();
    Index ld = G.outerStride();
    for (Index l = 0; l < depth(); ++l) {
      const Layer<S>& k = layers_[std::size_t(l)];
      auto& stage = c.stages[std::size_t(l)];
      Products::narrow_input(k, a, ld, stage.t_tangent.data(), c);
      Products::add_outer(k, grads[std::size_t(l)], stage.u.data(), k.outputs(), stage.s.data(), a, ld,
                          stage.t_tangent.data(), c);
      if (l + 1 == depth()) break;
      S* beta = (l % 2 == 0 ? c.ping : c.pong).data();
      const Index n = k.outputs() * c.size;
      Products::widen_output(k, a, ld, stage.t_tangent.data(), beta, k.outputs(), c);
      if (stage.zeta.size() > 0) {
        if (c.pending) detail::multiply_add<K>(n, stage.curvature.data(), stage.p.data(), beta, stage.zeta.data());
        else detail::multiply<K>(n, stage.curvature.data(), stage.p.data(), beta, stage.zeta.data());
      }
      detail::multiply<K>(n, stage.slope.data(), beta, beta);
      a = beta;
      ld = k.outputs();
    }
    c.pending = !activation_.piecewise_linear() && depth() > 1;
  }

  /// grads += grad_theta <dY, f(X)> + deferred terms; dX likewise unless empty. dY may be empty.
  void sweep(Cache& c, ConstBatch<S> dY, Grads& grads, Batch<S> dX) const {
    const char* name = "lowrank::jacobian::Mlp::sweep";
    check_grads(name, grads);
    if (dY.cols() > 0) check_after_forward(name, c, dY, output_dim());
    if (dX.cols() > 0) detail::check_batch(name, dX.rows(), dX.cols(), input_dim(), c.size);
    const S* delta = dY.cols() > 0 ? dY.data() : nullptr;
    Index ld = dY.cols() > 0 ? dY.outerStride() : 0;
    for (Index l = depth() - 1; l >= 0; --l) {
      const Layer<S>& k = layers_[std::size_t(l)];
      auto& stage = c.stages[std::size_t(l)];
      S* below = (l % 2 == 0 ? c.ping : c.pong).data();
      if (delta != nullptr) {
        S* s = c.stages[std::size_t(l)].t_tangent.data();
        Products::narrow_output(k, delta, ld, s, c);
        Products::add_outer(k, grads[std::size_t(l)], delta, ld, s, stage.input.data(), k.inputs(), stage.t.data(), c);
        if (k.bias.size() > 0)
          for (Index b = 0; b < c.size; ++b)
            detail::add<K>(k.outputs(), 1, delta + b * ld, grads[std::size_t(l)].bias.data());
        if (l > 0 || dX.cols() > 0) Products::widen_input(k, delta, ld, s, below, k.inputs(), c);
        delta = below;
      }
      if (l == 0) {
        if (delta != nullptr)
          for (Index b = 0; b < dX.cols(); ++b) detail::add<K>(k.inputs(), 1, below + b * k.inputs(), &dX(0, b));
        break;
      }
      auto& next = c.stages[std::size_t(l - 1)];
      const Index n = k.inputs() * c.size;
      ld = k.inputs();
      if (delta != nullptr) {
        detail::multiply<K>(n, next.slope.data(), below, below);
        if (c.pending) detail::add<K>(n, 1, next.zeta.data(), below);
      } else if (c.pending) {
        delta = next.zeta.data();
      }
    }
    c.pending = false;
  }

 private:
  static constexpr const char* who = "lowrank::jacobian::Mlp";
  using Products = LayerProducts<S, K>;

  static std::vector<Layer<S>> zeros(const std::vector<Index>& dims, Bias bias) {
    std::vector<Layer<S>> layers;
    for (std::size_t l = 1; l < dims.size(); ++l) {
      Layer<S> k{Matrix<S>::Zero(dims[l], dims[l - 1])};
      if (bias == Bias::With) k.bias = Vector<S>::Zero(dims[l]);
      layers.push_back(std::move(k));
    }
    return layers;
  }

  void check(const Cache& c, Index samples) const {
    if (Index(c.stages.size()) != depth())
      lowrank::detail::bad_argument(who, "another model's cache", "one made by cache()");
    if (samples < 1 || samples > c.capacity)
      lowrank::detail::bad_argument(who, std::to_string(samples) + " samples",
                                    "1 to " + std::to_string(c.capacity) + ", what the cache was made for");
  }
  void check_after_forward(const char* name, const Cache& c, ConstBatch<S> x, Index rows) const {
    if (c.left == Cache::Left::Nothing)
      lowrank::detail::bad_argument(name, "an empty cache", "forward(X, cache, Y) before");
    detail::check_batch(name, x.rows(), x.cols(), rows, c.size);
  }
  void check_grads(const char* name, const Grads& g) const {
    bool fits = g.size() == layers_.size();
    for (std::size_t l = 0; fits && l < g.size(); ++l)
      fits = g[l].weight.rows() == layers_[l].weight.rows() && g[l].weight.cols() == layers_[l].weight.cols() &&
             g[l].right.size() == layers_[l].right.size() && g[l].bias.size() == layers_[l].bias.size();
    if (!fits) lowrank::detail::bad_argument(name, "gradients of other shapes", "what grads() makes");
  }

  static void copy(ConstBatch<S> from, Buffer<S>& to) {
    for (Index b = 0; b < from.cols(); ++b)
      std::memcpy(to.column(b), from.data() + b * from.outerStride(), std::size_t(from.rows()) * sizeof(S));
  }

  void activate(Index n, const S* z, S* h, typename Cache::Stage& stage) const {
    S* slope = stage.slope.data();
    S* curvature = stage.curvature.size() > 0 ? stage.curvature.data() : nullptr;
    detail::with_activation<S>(activation_, [&](const auto& jet) {
      for (Index i = 0; i < n; ++i) {
        const Jet<S> j = jet(z[i]);
        h[i] = j.value;
        slope[i] = j.slope;
        if (curvature != nullptr) curvature[i] = j.curvature;
      }
    });
  }

  std::vector<Layer<S>> layers_;
  Activation activation_;
};

}  // namespace jacobian
}  // namespace lowrank
