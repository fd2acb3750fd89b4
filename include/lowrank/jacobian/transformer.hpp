// Transformer: one pre-norm block from embeddings to the logits at the last position, as a model whose Jacobian can be
// penalised: it shows that the concept of model.hpp carries beyond multilayer perceptrons.
//
//   x   <- x + position
//   x_T <- x_T + W_o attend(q_T; K, V),  q, K, V from norm_1(x);  attend: softmax over all T tokens
//   x_T <- x_T + W_2 s(W_1 norm_2(x_T) + b_1) + b_2,  norm: layer norm with gain and shift
//   f    = W_u x_T
//
// A sample is T embeddings of d entries one after another (T d inputs), so a batch is d x (T B); C outputs.
//
// Derivatives: every intermediate a goes forward with its tangent a' and back with the cotangents of both. One pass
// back serves all: cotangent V on f gives vjp and param_vjp; cotangent V on f' gives the gradient of <V, J G>, G = x'.
#pragma once

#include <tuple>

#include <lowrank/core/rng.hpp>
#include <lowrank/jacobian/activation.hpp>
#include <lowrank/jacobian/attention.hpp>
#include <lowrank/jacobian/layer_norm.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace jacobian {

template <class S, class K = kernel::Best>
class Transformer {
 public:
  using Scalar = S;
  using Cache = TransformerCache<S, K>;
  using Grads = TransformerWeights<S>;

  /// Gains one, all else zero, until randomize().
  Transformer(TransformerShape shape, Activation activation) : n_(shape), activation_(activation) {
    if (shape.tokens < 1 || shape.width < 1 || shape.heads < 1 || shape.hidden < 1 || shape.outputs < 1 ||
        shape.width % shape.heads != 0)
      lowrank::detail::bad_argument(
          who, "width " + std::to_string(shape.width) + " and " + std::to_string(shape.heads) + " heads",
          "positive sizes, the width a multiple of the heads");
    detail::check_activation(who, activation);
    const Index d = n_.width;
    const auto zero = [](Index rows, Index cols) { return Matrix<S>(Matrix<S>::Zero(rows, cols)); };
    w_ = {zero(d, n_.tokens),  zero(d, d), zero(d, d), zero(d, d), zero(d, d), zero(n_.hidden, d), zero(d, n_.hidden),
          zero(n_.outputs, d), zero(d, 1), zero(d, 1), zero(d, 1), zero(d, 1), zero(n_.hidden, 1), zero(d, 1)};
    w_.gain1.setOnes(), w_.gain2.setOnes();
  }
  /// Matrices N(0, gain^2 / fan-in), gains one, shifts and biases zero.
  void randomize(std::uint64_t seed, double gain) {
    std::uint64_t stream = 0;
    w_.visit([&](const char*, Matrix<S>& m) {
      if (m.cols() == 1) return;
      fill_normal(m.data(), m.size(), seed, stream++, 0);
      m *= S(gain / std::sqrt(double(&m == &w_.position ? n_.width : m.cols())));
    });
  }

  TransformerWeights<S>& weights() { return w_; }
  const TransformerWeights<S>& weights() const { return w_; }
  const TransformerShape& shape() const { return n_; }
  Index input_dim() const { return n_.tokens * n_.width; }
  Index output_dim() const { return n_.outputs; }
  Grads grads() const {
    Grads g = w_;
    g.set_zero();
    return g;
  }

  Cache cache(Index samples, int threads = lowrank::detail::available_threads()) const {
    if (samples < 1) lowrank::detail::bad_argument(who, std::to_string(samples) + " samples", "one or more");
    Cache c;
    const Index d = n_.width, all = n_.tokens * samples;
    for (Dual<S>* m : {&c.x, &c.norm1, &c.y1, &c.k, &c.v, &c.dx, &c.dy1, &c.dk, &c.dv}) *m = Dual<S>(d, all);
    for (Dual<S>* m : {&c.q, &c.o, &c.mid, &c.norm2, &c.y2, &c.last, &c.dq, &c.d_o, &c.dmid, &c.dy2, &c.dlast})
      *m = Dual<S>(d, samples);
    for (Dual<S>* m : {&c.p, &c.scores}) *m = Dual<S>(n_.heads * n_.tokens, samples);
    for (Dual<S>* m : {&c.z, &c.h, &c.dz, &c.dh}) *m = Dual<S>(n_.hidden, samples);
    c.r1 = Dual<S>(1, all), c.r2 = Dual<S>(1, samples);
    c.slope = c.curvature = c.z.a;
    c.output = Matrix<S>::Zero(n_.outputs, samples);
    c.capacity = samples;
    c.threads = threads;
    c.largest = std::max({d, n_.hidden, n_.outputs, all});
    Arena count;
    (void)linalg::Team<S, K>(count, threads, c.largest);
    c.scratch = Buffer<std::byte>(Index(count.used()), 1);
    return c;
  }

  void forward(ConstBatch<S> X, Cache& c, Batch<S> Y) const {
    if (X.cols() < 1 || X.cols() > c.capacity)
      lowrank::detail::bad_argument(who, std::to_string(X.cols()) + " samples", "1 to " + std::to_string(c.capacity));
    detail::check_batch(who, X.rows(), X.cols(), input_dim(), X.cols());
    detail::check_batch(who, Y.rows(), Y.cols(), output_dim(), X.cols());
    c.size = X.cols();
    for (Index b = 0; b < c.size; ++b)
      for (Index i = 0; i < n_.tokens; ++i)
        c.x.a.col(b * n_.tokens + i) = X.col(b).segment(i * n_.width, n_.width) + w_.position.col(i);
    primal(c);
    detail::apply(w_.unembed, c.last.a, c.size, Y.data(), Y.outerStride(), c.team());
  }
  void vjp(Cache& c, ConstBatch<S> V, Batch<S> Q) const {
    check(c, V, n_.outputs);
    check(c, Q, input_dim());
    back<Stream::Value>(c, V, nullptr);
    store(c, c.dx.a, Q);
  }
  void jvp(Cache& c, ConstBatch<S> T, Batch<S> Y) const {
    check(c, T, input_dim());
    check(c, Y, n_.outputs);
    tangent(c, T);
    detail::apply(w_.unembed, c.last.t, c.size, Y.data(), Y.outerStride(), c.team());
  }
  void param_vjp(Cache& c, ConstBatch<S> V, Grads& g) const {
    check(c, V, n_.outputs);
    back<Stream::Value>(c, V, &g);
  }
  void mixed_vjp(Cache& c, ConstBatch<S> V, ConstBatch<S> G, Grads& g, Batch<S> dX) const {
    check(c, V, n_.outputs);
    check(c, G, input_dim());
    if (dX.cols() > 0) check(c, dX, input_dim());
    tangent(c, G);
    back<Stream::Tangent>(c, V, &g);
    if (dX.cols() > 0) add_to(c, c.dx.a, dX);
  }

 private:
  static constexpr const char* who = "lowrank::jacobian::Transformer";

  template <class M>
  void check(const Cache& c, const M& m, Index rows) const {
    if (c.size == 0) lowrank::detail::bad_argument(who, "an empty cache", "forward(X, cache, Y) before");
    detail::check_batch(who, m.rows(), m.cols(), rows, c.size);
  }
  void store(const Cache& c, const Matrix<S>& from, Batch<S> to) const {
    for (Index b = 0; b < c.size; ++b) std::copy_n(from.data() + b * to.rows(), to.rows(), &to(0, b));
  }
  void add_to(const Cache& c, const Matrix<S>& from, Batch<S> to) const {
    for (Index b = 0; b < c.size; ++b) detail::add<K>(to.rows(), 1, from.data() + b * to.rows(), &to(0, b));
  }
  Index last(Index b) const { return b * n_.tokens + n_.tokens - 1; }

  void primal(Cache& c) const {
    const Index B = c.size, all = B * n_.tokens;
    detail::layer_norm(c.x, all, w_.gain1, w_.shift1, c.norm1, c.r1, c.y1);
    detail::apply(w_.key, c.y1.a, all, c.k.a, c.team());
    detail::apply(w_.value, c.y1.a, all, c.v.a, c.team());
    for (Index b = 0; b < B; ++b) c.o.a.col(b) = c.y1.a.col(last(b));
    detail::apply(w_.query, c.o.a, B, c.q.a, c.team());
    detail::attend(n_, c);
    detail::apply(w_.out, c.o.a, B, c.mid.a, c.team());
    for (Index b = 0; b < B; ++b) c.mid.a.col(b) += c.x.a.col(last(b));
    detail::layer_norm(c.mid, B, w_.gain2, w_.shift2, c.norm2, c.r2, c.y2);
    detail::apply(w_.up, c.y2.a, B, c.z.a, c.team());
    detail::with_activation<S>(activation_, [&](const auto& jet) {
      for (Index b = 0; b < B; ++b)
        for (Index i = 0; i < n_.hidden; ++i) {
          const Jet<S> j = jet(c.z.a(i, b) + w_.up_bias(i, 0));
          c.h.a(i, b) = j.value;
          c.slope(i, b) = j.slope;
          c.curvature(i, b) = j.curvature;
        }
    });
    detail::apply(w_.down, c.h.a, B, c.last.a, c.team());
    for (Index b = 0; b < B; ++b) c.last.a.col(b) += c.mid.a.col(b) + w_.down_bias.col(0);
  }

  void tangent(Cache& c, ConstBatch<S> T) const {
    const Index B = c.size, all = B * n_.tokens;
    for (Index b = 0; b < B; ++b)
      std::copy_n(T.data() + b * T.outerStride(), input_dim(), c.x.t.data() + b * input_dim());
    detail::layer_norm_tangent(c.x, all, w_.gain1, c.norm1, c.r1, c.y1);
    detail::apply(w_.key, c.y1.t, all, c.k.t, c.team());
    detail::apply(w_.value, c.y1.t, all, c.v.t, c.team());
    for (Index b = 0; b < B; ++b) c.o.t.col(b) = c.y1.t.col(last(b));
    detail::apply(w_.query, c.o.t, B, c.q.t, c.team());
    detail::attend_tangent(n_, c);
    detail::apply(w_.out, c.o.t, B, c.mid.t, c.team());
    for (Index b = 0; b < B; ++b) c.mid.t.col(b) += c.x.t.col(last(b));
    detail::layer_norm_tangent(c.mid, B, w_.gain2, c.norm2, c.r2, c.y2);
    detail::apply(w_.up, c.y2.t, B, c.z.t, c.team());
    c.h.t.leftCols(B) = c.slope.leftCols(B).cwiseProduct(c.z.t.leftCols(B));
    detail::apply(w_.down, c.h.t, B, c.last.t, c.team());
    c.last.t.leftCols(B) += c.mid.t.leftCols(B);
  }

  /// From V on f (Value) or on f' (Tangent) to dx; g += the parameters' part unless it is null.
  template <Stream stream>
  void back(Cache& c, ConstBatch<S> V, Grads* g) const {
    constexpr bool dual = stream == Stream::Tangent;
    const Index B = c.size, all = B * n_.tokens;
    const auto grad = [&](Matrix<S> Grads::*m) { return g == nullptr ? nullptr : &(g->*m); };

    for (Index b = 0; b < B; ++b)
      std::copy_n(V.data() + b * V.outerStride(), n_.outputs, c.output.data() + b * n_.outputs);
    if constexpr (dual) {
      c.dlast.a.leftCols(B).setZero();
      detail::pull(w_.unembed, c.output, B, c.dlast.t, c.team());
      if (g != nullptr) detail::outer(c.output, c.last.t, B, g->unembed, c.team());
    } else {
      detail::pull(w_.unembed, c.output, B, c.dlast.a, c.team());
      if (g != nullptr) detail::outer(c.output, c.last.a, B, g->unembed, c.team());
    }
    // the residual stream at the last token: dlast goes on to dmid
    detail::linear_back<stream>(w_.down, c.h, c.dlast, B, c.dh, grad(&Grads::down), c.team());
    if (g != nullptr) detail::add_columns<K>(c.dlast.a, B, g->down_bias);
    c.dz.a.leftCols(B) = c.slope.leftCols(B).cwiseProduct(c.dh.a.leftCols(B));
    if constexpr (dual) {
      c.dz.a.leftCols(B).array() +=
          c.curvature.leftCols(B).array() * c.z.t.leftCols(B).array() * c.dh.t.leftCols(B).array();
      c.dz.t.leftCols(B) = c.slope.leftCols(B).cwiseProduct(c.dh.t.leftCols(B));
    }
    detail::linear_back<stream>(w_.up, c.y2, c.dz, B, c.dy2, grad(&Grads::up), c.team());
    if (g != nullptr) detail::add_columns<K>(c.dz.a, B, g->up_bias);
    c.dmid.a.leftCols(B) = c.dlast.a.leftCols(B);
    if constexpr (dual) c.dmid.t.leftCols(B) = c.dlast.t.leftCols(B);
    detail::layer_norm_back<stream>(c.mid, c.norm2, c.r2, w_.gain2, B, c.dy2, c.dmid, grad(&Grads::gain2),
                                    grad(&Grads::shift2));

    detail::linear_back<stream>(w_.out, c.o, c.dmid, B, c.d_o, grad(&Grads::out), c.team());
    detail::attend_back<stream>(n_, c);

    c.dx.a.leftCols(all).setZero();
    if constexpr (dual) c.dx.t.leftCols(all).setZero();
    for (Index b = 0; b < B; ++b) {
      c.dx.a.col(last(b)) = c.dmid.a.col(b);
      if constexpr (dual) c.dx.t.col(last(b)) = c.dmid.t.col(b);
    }
    // y1 feeds keys and values everywhere and the query at the last token; each part goes back through the norm
    for (const auto& [W, dy, dW] :
         {std::tuple(&w_.key, &c.dk, &Grads::key), std::tuple(&w_.value, &c.dv, &Grads::value)}) {
      detail::linear_back<stream>(*W, c.y1, *dy, all, c.dy1, grad(dW), c.team());
      detail::layer_norm_back<stream>(c.x, c.norm1, c.r1, w_.gain1, all, c.dy1, c.dx, grad(&Grads::gain1),
                                      grad(&Grads::shift1));
    }
    for (Index b = 0; b < B; ++b) {
      c.d_o.a.col(b) = c.y1.a.col(last(b));
      if constexpr (dual) c.d_o.t.col(b) = c.y1.t.col(last(b));
    }
    detail::linear_back<stream>(w_.query, c.d_o, c.dq, B, c.dy2, grad(&Grads::query), c.team());
    c.dy1.a.leftCols(all).setZero();
    if constexpr (dual) c.dy1.t.leftCols(all).setZero();
    for (Index b = 0; b < B; ++b) {
      c.dy1.a.col(last(b)) = c.dy2.a.col(b);
      if constexpr (dual) c.dy1.t.col(last(b)) = c.dy2.t.col(b);
    }
    detail::layer_norm_back<stream>(c.x, c.norm1, c.r1, w_.gain1, all, c.dy1, c.dx, grad(&Grads::gain1),
                                    grad(&Grads::shift1));
    if (g != nullptr)
      for (Index b = 0; b < B; ++b) detail::add<K>(input_dim(), 1, c.dx.a.data() + b * input_dim(), g->position.data());
  }

  TransformerShape n_;
  Activation activation_;
  TransformerWeights<S> w_;
};

}  // namespace jacobian
}  // namespace lowrank
