// Linear Policy Net: a policy whose action is linear in the state, with a gain that a generator network writes,
//
//   a = K s + k_ff,   (K, k_ff) = o = g_theta(phi),   da/ds = K,                    (Xie et al.: arXiv 2602.18312)
//
// so that the action Jacobian penalty |da/ds|_F^2 = |K|_F^2 needs no second derivative. A reference action is the
// caller's to add to a. States s: k, actions a: m, generator outputs o, column-major one after another:
//
//   full gain  rank = 0   K m x k, then k_ff                     m k + m numbers
//   low rank   rank = r   U m x r, V k x r, then k_ff; K = U V^T (m + k) r + m numbers, |K|^2 = tr((U^T U)(V^T V))
//
// A generator that sees s as well has da/ds = K + (dK/ds) s + dk_ff/ds: LinearPolicyNet is then a model like any other,
// whose full Jacobian a Penalty takes; its own add_gradient penalises the first term alone.
#pragma once

#include <tuple>

#include <lowrank/jacobian/mlp.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace jacobian {

/// The layer a(o, s) for one sample: derivatives of first and second order, in pointers to contiguous vectors.
struct LinearPolicy {
  Index actions, states, rank = 0;

  Index outputs() const { return (rank > 0 ? (actions + states) * rank : actions * states) + actions; }

  /// a
  template <class S>
  void act(const S* o, const S* s, S* a) const {
    const auto [K, U, V, ff] = parts(o);
    auto action = vector(a, actions);
    action = ff;
    for (Index j = 0; j < K.cols(); ++j) action += s[j] * K.col(j);
    for (Index j = 0; j < rank; ++j) action += V.col(j).dot(vector(s, states)) * U.col(j);
  }
  /// do = (da/do)^T v and ds = (da/ds)^T v, overwritten.
  template <class S>
  void pull(const S* o, const S* s, const S* v, S* d_o, S* ds) const {
    const auto [K, U, V, ff] = parts(o);
    auto [dK, dU, dV, dff] = parts(d_o);
    const auto state = vector(s, states), cotangent = vector(v, actions);
    auto d_state = vector(ds, states);
    dff = cotangent;
    d_state.setZero();
    for (Index j = 0; j < K.cols(); ++j) {
      dK.col(j) = state[j] * cotangent;
      d_state[j] = K.col(j).dot(cotangent);
    }
    for (Index j = 0; j < rank; ++j) {
      const S left = U.col(j).dot(cotangent), right = V.col(j).dot(state);
      dU.col(j) = right * cotangent;
      dV.col(j) = left * state;
      d_state += left * V.col(j);
    }
  }
  /// (da/do) o' + (da/ds) s'
  template <class S>
  void push(const S* o, const S* s, const S* o_dot, const S* s_dot, S* a) const {
    const auto [K, U, V, ff] = parts(o);
    const auto [K1, U1, V1, ff1] = parts(o_dot);
    const auto state = vector(s, states), moved = vector(s_dot, states);
    auto action = vector(a, actions);
    action = ff1;
    for (Index j = 0; j < K.cols(); ++j) action += state[j] * K1.col(j) + moved[j] * K.col(j);
    for (Index j = 0; j < rank; ++j)
      action += V.col(j).dot(state) * U1.col(j) + (V1.col(j).dot(state) + V.col(j).dot(moved)) * U.col(j);
  }
  /// Gradient of <v, push> with respect to o (overwritten) and s (added to).
  template <class S>
  void mixed(const S* o, const S* s, const S* o_dot, const S* s_dot, const S* v, S* d_o, S* ds) const {
    const auto [K, U, V, ff] = parts(o);
    const auto [K1, U1, V1, ff1] = parts(o_dot);
    auto [dK, dU, dV, dff] = parts(d_o);
    const auto state = vector(s, states), moved = vector(s_dot, states), cotangent = vector(v, actions);
    auto d_state = vector(ds, states);
    dff.setZero();
    for (Index j = 0; j < K.cols(); ++j) {
      dK.col(j) = moved[j] * cotangent;
      d_state[j] += K1.col(j).dot(cotangent);
    }
    for (Index j = 0; j < rank; ++j) {
      const S left = U.col(j).dot(cotangent), left1 = U1.col(j).dot(cotangent);
      dU.col(j) = (V1.col(j).dot(state) + V.col(j).dot(moved)) * cotangent;
      dV.col(j) = left1 * state + left * moved;
      d_state += left1 * V.col(j) + left * V1.col(j);
    }
  }
  /// |K|_F^2; gradient += scale d|K|^2/do unless it is null.
  template <class S>
  double gain_square(const S* o, double scale, S* gradient) const {
    const auto [K, U, V, ff] = parts(o);
    if (rank == 0) {
      if (gradient != nullptr) std::get<0>(parts(gradient)) += S(2 * scale) * K;
      return double(K.squaredNorm());
    }
    double sum = 0;
    for (Index i = 0; i < rank; ++i)
      for (Index j = 0; j < rank; ++j) {
        const S uu = U.col(i).dot(U.col(j)), vv = V.col(i).dot(V.col(j));
        sum += double(uu) * double(vv);
        if (gradient == nullptr) continue;
        auto [dK, dU, dV, dff] = parts(gradient);
        dU.col(i) += S(2 * scale) * vv * U.col(j);
        dV.col(i) += S(2 * scale) * uu * V.col(j);
      }
    return sum;
  }
  /// K, m x k.
  template <class S>
  Matrix<S> gain(const S* o) const {
    const auto [K, U, V, ff] = parts(o);
    return rank > 0 ? Matrix<S>(U * V.transpose()) : Matrix<S>(K);
  }

 private:
  template <class T>
  static auto vector(T* p, Index n) {
    using S = std::remove_const_t<T>;
    return Eigen::Map<std::conditional_t<std::is_const_v<T>, const Vector<S>, Vector<S>>>(p, n);
  }
  /// K (empty when low rank), U and V (empty when full), k_ff.
  template <class T>
  auto parts(T* o) const {
    using S = std::remove_const_t<T>;
    using Block = Eigen::Map<std::conditional_t<std::is_const_v<T>, const Matrix<S>, Matrix<S>>>;
    const Index full = rank > 0 ? 0 : states;
    T* tail = o + outputs() - actions;
    return std::tuple(Block(o, full > 0 ? actions : 0, full), Block(o, actions, rank),
                      Block(o + actions * rank, rank > 0 ? states : 0, rank), vector(tail, actions));
  }
};

/// The policy as a model of z = [phi; s] (p + k inputs, m outputs). A generator with p inputs sees phi alone, one with
/// p + k inputs sees all of z. Its parameters and gradients are the generator's.
template <class S, class K = kernel::Best>
class LinearPolicyNet {
 public:
  using Scalar = S;
  using Grads = typename Mlp<S, K>::Grads;
  struct Cache {
    typename Mlp<S, K>::Cache generator;
    Matrix<S> z, o, o_dot, d_o, d_o2, dz;  // columns are samples
    Vector<S> ds;                          // of one sample
    Index size = 0;
  };

  LinearPolicyNet(Mlp<S, K> generator, LinearPolicy layer, Index context)
      : generator_(std::move(generator)), layer_(layer), context_(context) {
    const Index in = generator_.input_dim();
    if (generator_.output_dim() != layer.outputs())
      lowrank::detail::bad_argument(who, "a generator of " + std::to_string(generator_.output_dim()) + " outputs",
                                    std::to_string(layer.outputs()));
    if (in != context && in != context + layer.states)
      lowrank::detail::bad_argument(who, "a generator of " + std::to_string(in) + " inputs",
                                    std::to_string(context) + " or " + std::to_string(context + layer.states));
  }

  Mlp<S, K>& generator() { return generator_; }
  const Mlp<S, K>& generator() const { return generator_; }
  const LinearPolicy& layer() const { return layer_; }
  Index input_dim() const { return context_ + layer_.states; }
  Index output_dim() const { return layer_.actions; }
  Grads grads() const { return generator_.grads(); }
  Cache cache(Index samples) const {
    const Index n = layer_.outputs();
    Matrix<S> wide(n, samples), input(input_dim(), samples);
    return {generator_.cache(samples), input, wide, wide, wide, wide, input, Vector<S>(layer_.states), 0};
  }

  void forward(ConstBatch<S> Z, Cache& c, Batch<S> A) const {
    detail::check_batch(who, Z.rows(), Z.cols(), input_dim(), Z.cols());
    detail::check_batch(who, A.rows(), A.cols(), output_dim(), Z.cols());
    c.size = Z.cols();
    generator_.forward(seen(Z), c.generator, batch(c.o.data(), c.o.rows(), c.size));
    c.z.leftCols(c.size) = Z;
    for (Index b = 0; b < c.size; ++b) layer_.act(o(c, b), s(c, b), A.data() + b * A.outerStride());
  }
  void vjp(Cache& c, ConstBatch<S> V, Batch<S> Q) const {
    for (Index b = 0; b < c.size; ++b)
      layer_.pull(o(c, b), s(c, b), V.data() + b * V.outerStride(), &c.d_o(0, b), &Q(context_, b));
    generator_.vjp(c.generator, part(c.d_o, c), batch(c.dz.data(), generator_.input_dim(), c.size));
    Q.topRows(context_).setZero();
    add_seen(c, Q);
  }
  void jvp(Cache& c, ConstBatch<S> T, Batch<S> A) const {
    generator_.jvp(c.generator, seen(T), batch(c.o_dot.data(), c.o_dot.rows(), c.size));
    for (Index b = 0; b < c.size; ++b)
      layer_.push(o(c, b), s(c, b), &c.o_dot(0, b), T.data() + b * T.outerStride() + context_,
                  A.data() + b * A.outerStride());
  }
  void param_vjp(Cache& c, ConstBatch<S> V, Grads& g) const { add_gradient(c, V, 0, g); }

  /// With o' = J_g G: the layer's second derivatives meet the generator's in one sweep.
  void mixed_vjp(Cache& c, ConstBatch<S> V, ConstBatch<S> G, Grads& g, Batch<S> dX) const {
    generator_.jvp(c.generator, seen(G), batch(c.o_dot.data(), c.o_dot.rows(), c.size));
    for (Index b = 0; b < c.size; ++b) {
      const S* v = V.data() + b * V.outerStride();
      layer_.pull(o(c, b), s(c, b), v, &c.d_o(0, b), c.ds.data());
      c.ds.setZero();
      layer_.mixed(o(c, b), s(c, b), &c.o_dot(0, b), G.data() + b * G.outerStride() + context_, v, &c.d_o2(0, b),
                   c.ds.data());
      if (dX.cols() > 0) dX.col(b).tail(layer_.states) += c.ds;
    }
    const Batch<S> dz = batch(c.dz.data(), generator_.input_dim(), c.size);
    generator_.vjp(c.generator, part(c.d_o, c), dz);
    generator_.defer_mixed(c.generator, part(c.d_o, c), seen(G), g);
    c.dz.setZero();
    generator_.sweep(c.generator, part(c.d_o2, c), g, dX.cols() > 0 ? dz : no_batch<S>());
    if (dX.cols() > 0) add_seen(c, dX);
  }

  /// The plain training step: grads += grad_theta (<dA, a> + weight R), R = mean_b |K_b|_F^2; returns R. No second
  /// derivative is involved.
  double add_gradient(Cache& c, ConstBatch<S> dA, double weight, Grads& g) const {
    detail::check_batch(who, dA.rows(), dA.cols(), output_dim(), c.size);
    double sum = 0;
    for (Index b = 0; b < c.size; ++b) {
      layer_.pull(o(c, b), s(c, b), dA.data() + b * dA.outerStride(), &c.d_o(0, b), c.ds.data());
      sum += layer_.gain_square(o(c, b), weight / double(c.size), weight != 0 ? &c.d_o(0, b) : nullptr);
    }
    generator_.sweep(c.generator, part(c.d_o, c), g, no_batch<S>());
    return sum / double(c.size);
  }
  /// K of sample b after forward.
  Matrix<S> gain(const Cache& c, Index b) const { return layer_.gain(o(c, b)); }

 private:
  static constexpr const char* who = "lowrank::jacobian::LinearPolicyNet";

  const S* o(const Cache& c, Index b) const { return c.o.data() + b * c.o.rows(); }
  const S* s(const Cache& c, Index b) const { return c.z.data() + b * c.z.rows() + context_; }
  ConstBatch<S> part(const Matrix<S>& m, const Cache& c) const { return batch(m.data(), m.rows(), c.size); }
  /// What the generator sees of z.
  ConstBatch<S> seen(ConstBatch<S> z) const {
    return {z.data(), generator_.input_dim(), z.cols(), Eigen::OuterStride<>(z.outerStride())};
  }
  void add_seen(Cache& c, Batch<S> to) const {
    const Index n = generator_.input_dim();
    to.topRows(n) += batch(std::as_const(c.dz).data(), n, c.size);
  }

  Mlp<S, K> generator_;
  LinearPolicy layer_;
  Index context_;
};

}  // namespace jacobian
}  // namespace lowrank
