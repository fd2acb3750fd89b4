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
#include <lowrank/jacobian/elementwise.hpp>
#include <lowrank/jacobian/model.hpp>
#include <lowrank/linalg/gemm.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace jacobian {

struct TransformerShape {
  Index tokens, width, heads, hidden, outputs;  // T, d, heads (d a multiple of it), f, C
};

/// The parameters, or their gradients.
template <class S>
struct TransformerWeights {
  Matrix<S> position;                      // d x T
  Matrix<S> query, key, value, out;        // d x d
  Matrix<S> up, down;                      // f x d, d x f
  Matrix<S> unembed;                       // C x d
  Matrix<S> gain1, shift1, gain2, shift2;  // d x 1
  Matrix<S> up_bias, down_bias;            // f x 1, d x 1

  /// f(name, matrix) for each.
  void visit(auto&& f) { visit_all(*this, f); }
  void visit(auto&& f) const { visit_all(*this, f); }
  void set_zero() {
    visit([](const char*, Matrix<S>& m) { m.setZero(); });
  }

 private:
  static void visit_all(auto& w, auto&& f) {
    f("position", w.position), f("query", w.query), f("key", w.key), f("value", w.value), f("out", w.out);
    f("up", w.up), f("down", w.down), f("unembed", w.unembed), f("gain1", w.gain1), f("shift1", w.shift1);
    f("gain2", w.gain2), f("shift2", w.shift2), f("up_bias", w.up_bias), f("down_bias", w.down_bias);
  }
};

/// A value and its tangent, or the cotangents of both.
template <class S>
struct Dual {
  Matrix<S> a, t;
  Dual() = default;
  Dual(Index rows, Index cols) : a(Matrix<S>::Zero(rows, cols)), t(a) {}
};

template <class S, class K>
struct TransformerCache {
  Dual<S> x, norm1, y1, k, v;          // d x TB
  Dual<S> q, o, mid, norm2, y2, last;  // d x B
  Dual<S> p, scores;                   // heads T x B: softmax and what goes in (of which only t is kept)
  Dual<S> z, h;                        // f x B
  Matrix<S> slope, curvature;          // f x B
  Dual<S> r1, r2;                      // 1 x TB, 1 x B: 1 / deviation, and <norm, x'> / d
  Dual<S> dx, dy1, dk, dv, dq, d_o, dmid, dy2, dz, dh, dlast;
  Matrix<S> output;  // V, C x B
  Buffer<std::byte> scratch;
  Index capacity = 0, size = 0, largest = 0;
  int threads = 1;

  linalg::Team<S, K> team() {
    Arena arena(scratch);
    return {arena, threads, largest};
  }
};

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
    apply(w_.unembed, c.last.a, c.size, Y.data(), Y.outerStride(), c);
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
    apply(w_.unembed, c.last.t, c.size, Y.data(), Y.outerStride(), c);
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
  enum class Stream { Value, Tangent };  // which of f and f' has the cotangent

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

  // -- products over n columns
  // ------------------------------------------------------------------------------------------

  /// out = W x
  static void apply(const Matrix<S>& W, const Matrix<S>& x, Index n, S* out, Index ld, Cache& c) {
    linalg::gemm<K>(W.rows(), n, W.cols(), linalg::columns<K>(W.data(), W.rows()),
                    linalg::columns<K>(x.data(), x.rows()), out, ld, c.team());
  }
  static void apply(const Matrix<S>& W, const Matrix<S>& x, Index n, Matrix<S>& out, Cache& c) {
    apply(W, x, n, out.data(), out.rows(), c);
  }
  /// out = W^T x
  static void pull(const Matrix<S>& W, const Matrix<S>& x, Index n, Matrix<S>& out, Cache& c) {
    linalg::gemm<K>(W.cols(), n, W.rows(), linalg::transposed<K>(W.data(), W.rows()),
                    linalg::columns<K>(x.data(), x.rows()), out.data(), out.rows(), c.team());
  }
  /// dW += u x^T
  static void outer(const Matrix<S>& u, const Matrix<S>& x, Index n, Matrix<S>& dW, Cache& c) {
    linalg::gemm<K>(u.rows(), x.rows(), n, linalg::columns<K>(u.data(), u.rows()),
                    linalg::transposed<K>(x.data(), x.rows()), dW.data(), dW.rows(), c.team(), linalg::Mode::Add);
  }
  /// Both streams of y = W x backwards: dx, and dW += dy x^T + dy' x'^T.
  template <Stream stream>
  static void linear_back(const Matrix<S>& W, const Dual<S>& x, const Dual<S>& dy, Index n, Dual<S>& dx, Matrix<S>* dW,
                          Cache& c) {
    pull(W, dy.a, n, dx.a, c);
    if constexpr (stream == Stream::Tangent) pull(W, dy.t, n, dx.t, c);
    if (dW == nullptr) return;
    outer(dy.a, x.a, n, *dW, c);
    if constexpr (stream == Stream::Tangent) outer(dy.t, x.t, n, *dW, c);
  }
  static void add_columns(const Matrix<S>& from, Index n, Matrix<S>& to) {
    for (Index j = 0; j < n; ++j) detail::add<K>(from.rows(), 1, from.data() + j * from.rows(), to.data());
  }

  // -- layer norm: norm = (x - mean) r, y = gain norm + shift
  // -------------------------------------------------------------

  void norm(const Dual<S>& x, Index n, const Matrix<S>& gain, const Matrix<S>& shift, Dual<S>& norm, Dual<S>& r,
            Dual<S>& y) const {
    const S d = S(n_.width);
    for (Index j = 0; j < n; ++j) {
      norm.a.col(j).array() = x.a.col(j).array() - x.a.col(j).mean();
      r.a(0, j) = 1 / std::sqrt(norm.a.col(j).squaredNorm() / d + S(1e-5));
      norm.a.col(j) *= r.a(0, j);
      y.a.col(j) = norm.a.col(j).cwiseProduct(gain.col(0)) + shift.col(0);
    }
  }
  /// norm' = r (x' - mean(x') - norm m), m = <norm, x'> / d
  void norm_tangent(const Dual<S>& x, Index n, const Matrix<S>& gain, Dual<S>& norm, Dual<S>& r, Dual<S>& y) const {
    for (Index j = 0; j < n; ++j) {
      const S m = r.t(0, j) = norm.a.col(j).dot(x.t.col(j)) / S(n_.width), mean = x.t.col(j).mean();
      norm.t.col(j).array() = r.a(0, j) * (x.t.col(j).array() - mean - m * norm.a.col(j).array());
      y.t.col(j) = norm.t.col(j).cwiseProduct(gain.col(0));
    }
  }
  /// dx += both streams of y backwards. dy is overwritten.
  template <Stream stream>
  void norm_back(const Dual<S>& x, const Dual<S>& norm, const Dual<S>& r, const Matrix<S>& gain, Index n, Dual<S>& dy,
                 Dual<S>& dx, Matrix<S>* dgain, Matrix<S>* dshift) const {
    const S d = S(n_.width);
    for (Index j = 0; j < n; ++j) {
      auto dn = dy.a.col(j);
      const auto hat = norm.a.col(j);
      const S scale = r.a(0, j);
      if (dgain != nullptr) {
        dgain->col(0) += dn.cwiseProduct(hat);
        dshift->col(0) += dn;
      }
      dn = dn.cwiseProduct(gain.col(0));
      S deviation = 0;  // of r: cotangent times r
      if constexpr (stream == Stream::Tangent) {
        auto dt = dy.t.col(j);
        if (dgain != nullptr) dgain->col(0) += dt.cwiseProduct(norm.t.col(j));
        dt = dt.cwiseProduct(gain.col(0));
        const S along = hat.dot(dt), m = r.t(0, j), mean = dt.mean();
        dx.t.col(j).array() += scale * (dt.array() - mean - hat.array() * (along / d));
        dn -= scale * (m * dt + (along / d) * x.t.col(j));
        deviation = dt.dot(norm.t.col(j));
      }
      const S mean = dn.mean(), along = (hat.dot(dn) + deviation) / d;
      dx.a.col(j).array() += scale * (dn.array() - mean - hat.array() * along);
    }
  }

  // -- forward
  // --------------------------------------------------------------------------------------------------------------

  void primal(Cache& c) const {
    const Index B = c.size, all = B * n_.tokens, d = n_.width, size = d / n_.heads;
    norm(c.x, all, w_.gain1, w_.shift1, c.norm1, c.r1, c.y1);
    apply(w_.key, c.y1.a, all, c.k.a, c);
    apply(w_.value, c.y1.a, all, c.v.a, c);
    for (Index b = 0; b < B; ++b) c.o.a.col(b) = c.y1.a.col(last(b));
    apply(w_.query, c.o.a, B, c.q.a, c);
    const S scale = 1 / std::sqrt(S(size));
    for (Index b = 0; b < B; ++b)
      for (Index head = 0; head < n_.heads; ++head) {
        const Index row = head * size;
        auto p = c.p.a.col(b).segment(head * n_.tokens, n_.tokens);
        for (Index i = 0; i < n_.tokens; ++i)
          p[i] = scale * c.q.a.col(b).segment(row, size).dot(c.k.a.col(b * n_.tokens + i).segment(row, size));
        p = (p.array() - p.maxCoeff()).exp();
        p /= p.sum();
        auto o = c.o.a.col(b).segment(row, size);
        o.setZero();
        for (Index i = 0; i < n_.tokens; ++i) o += p[i] * c.v.a.col(b * n_.tokens + i).segment(row, size);
      }
    apply(w_.out, c.o.a, B, c.mid.a, c);
    for (Index b = 0; b < B; ++b) c.mid.a.col(b) += c.x.a.col(last(b));
    norm(c.mid, B, w_.gain2, w_.shift2, c.norm2, c.r2, c.y2);
    apply(w_.up, c.y2.a, B, c.z.a, c);
    detail::with_activation<S>(activation_, [&](const auto& jet) {
      for (Index b = 0; b < B; ++b)
        for (Index i = 0; i < n_.hidden; ++i) {
          const Jet<S> j = jet(c.z.a(i, b) + w_.up_bias(i, 0));
          c.h.a(i, b) = j.value;
          c.slope(i, b) = j.slope;
          c.curvature(i, b) = j.curvature;
        }
    });
    apply(w_.down, c.h.a, B, c.last.a, c);
    for (Index b = 0; b < B; ++b) c.last.a.col(b) += c.mid.a.col(b) + w_.down_bias.col(0);
  }

  void tangent(Cache& c, ConstBatch<S> T) const {
    const Index B = c.size, all = B * n_.tokens, d = n_.width, size = d / n_.heads;
    for (Index b = 0; b < B; ++b)
      std::copy_n(T.data() + b * T.outerStride(), input_dim(), c.x.t.data() + b * input_dim());
    norm_tangent(c.x, all, w_.gain1, c.norm1, c.r1, c.y1);
    apply(w_.key, c.y1.t, all, c.k.t, c);
    apply(w_.value, c.y1.t, all, c.v.t, c);
    for (Index b = 0; b < B; ++b) c.o.t.col(b) = c.y1.t.col(last(b));
    apply(w_.query, c.o.t, B, c.q.t, c);
    const S scale = 1 / std::sqrt(S(size));
    for (Index b = 0; b < B; ++b)
      for (Index head = 0; head < n_.heads; ++head) {
        const Index row = head * size;
        const auto p = c.p.a.col(b).segment(head * n_.tokens, n_.tokens);
        auto s1 = c.scores.t.col(b).segment(head * n_.tokens, n_.tokens),
             p1 = c.p.t.col(b).segment(head * n_.tokens, n_.tokens);
        for (Index i = 0; i < n_.tokens; ++i) {
          const Index j = b * n_.tokens + i;
          s1[i] = scale * (c.q.t.col(b).segment(row, size).dot(c.k.a.col(j).segment(row, size)) +
                           c.q.a.col(b).segment(row, size).dot(c.k.t.col(j).segment(row, size)));
        }
        const S mean = p.dot(s1);
        p1 = p.array() * (s1.array() - mean);
        auto o = c.o.t.col(b).segment(row, size);
        o.setZero();
        for (Index i = 0; i < n_.tokens; ++i) {
          const Index j = b * n_.tokens + i;
          o += p1[i] * c.v.a.col(j).segment(row, size) + p[i] * c.v.t.col(j).segment(row, size);
        }
      }
    apply(w_.out, c.o.t, B, c.mid.t, c);
    for (Index b = 0; b < B; ++b) c.mid.t.col(b) += c.x.t.col(last(b));
    norm_tangent(c.mid, B, w_.gain2, c.norm2, c.r2, c.y2);
    apply(w_.up, c.y2.t, B, c.z.t, c);
    c.h.t.leftCols(B) = c.slope.leftCols(B).cwiseProduct(c.z.t.leftCols(B));
    apply(w_.down, c.h.t, B, c.last.t, c);
    c.last.t.leftCols(B) += c.mid.t.leftCols(B);
  }

  // -- back
  // -------------------------------------------------------------------------------------------------------------------

  /// From V on f (Value) or on f' (Tangent) to dx; g += the parameters' part unless it is null.
  template <Stream stream>
  void back(Cache& c, ConstBatch<S> V, Grads* g) const {
    constexpr bool dual = stream == Stream::Tangent;
    const Index B = c.size, all = B * n_.tokens, d = n_.width, size = d / n_.heads;
    const auto grad = [&](Matrix<S> Grads::*m) { return g == nullptr ? nullptr : &(g->*m); };

    for (Index b = 0; b < B; ++b)
      std::copy_n(V.data() + b * V.outerStride(), n_.outputs, c.output.data() + b * n_.outputs);
    if constexpr (dual) {
      c.dlast.a.leftCols(B).setZero();
      pull(w_.unembed, c.output, B, c.dlast.t, c);
      if (g != nullptr) outer(c.output, c.last.t, B, g->unembed, c);
    } else {
      pull(w_.unembed, c.output, B, c.dlast.a, c);
      if (g != nullptr) outer(c.output, c.last.a, B, g->unembed, c);
    }
    // the residual stream at the last token: dlast goes on to dmid
    linear_back<stream>(w_.down, c.h, c.dlast, B, c.dh, grad(&Grads::down), c);
    if (g != nullptr) add_columns(c.dlast.a, B, g->down_bias);
    c.dz.a.leftCols(B) = c.slope.leftCols(B).cwiseProduct(c.dh.a.leftCols(B));
    if constexpr (dual) {
      c.dz.a.leftCols(B).array() +=
          c.curvature.leftCols(B).array() * c.z.t.leftCols(B).array() * c.dh.t.leftCols(B).array();
      c.dz.t.leftCols(B) = c.slope.leftCols(B).cwiseProduct(c.dh.t.leftCols(B));
    }
    linear_back<stream>(w_.up, c.y2, c.dz, B, c.dy2, grad(&Grads::up), c);
    if (g != nullptr) add_columns(c.dz.a, B, g->up_bias);
    c.dmid.a.leftCols(B) = c.dlast.a.leftCols(B);
    if constexpr (dual) c.dmid.t.leftCols(B) = c.dlast.t.leftCols(B);
    norm_back<stream>(c.mid, c.norm2, c.r2, w_.gain2, B, c.dy2, c.dmid, grad(&Grads::gain2), grad(&Grads::shift2));

    linear_back<stream>(w_.out, c.o, c.dmid, B, c.d_o, grad(&Grads::out), c);
    const S scale = 1 / std::sqrt(S(size));
    for (Index b = 0; b < B; ++b)
      for (Index head = 0; head < n_.heads; ++head) attend_back<stream>(c, b, head, size, scale);

    c.dx.a.leftCols(all).setZero();
    if constexpr (dual) c.dx.t.leftCols(all).setZero();
    for (Index b = 0; b < B; ++b) {
      c.dx.a.col(last(b)) = c.dmid.a.col(b);
      if constexpr (dual) c.dx.t.col(last(b)) = c.dmid.t.col(b);
    }
    // y1 feeds keys and values everywhere and the query at the last token; each part goes back through the norm
    for (const auto& [W, dy, dW] :
         {std::tuple(&w_.key, &c.dk, &Grads::key), std::tuple(&w_.value, &c.dv, &Grads::value)}) {
      linear_back<stream>(*W, c.y1, *dy, all, c.dy1, grad(dW), c);
      norm_back<stream>(c.x, c.norm1, c.r1, w_.gain1, all, c.dy1, c.dx, grad(&Grads::gain1), grad(&Grads::shift1));
    }
    for (Index b = 0; b < B; ++b) {
      c.d_o.a.col(b) = c.y1.a.col(last(b));
      if constexpr (dual) c.d_o.t.col(b) = c.y1.t.col(last(b));
    }
    linear_back<stream>(w_.query, c.d_o, c.dq, B, c.dy2, grad(&Grads::query), c);
    c.dy1.a.leftCols(all).setZero();
    if constexpr (dual) c.dy1.t.leftCols(all).setZero();
    for (Index b = 0; b < B; ++b) {
      c.dy1.a.col(last(b)) = c.dy2.a.col(b);
      if constexpr (dual) c.dy1.t.col(last(b)) = c.dy2.t.col(b);
    }
    norm_back<stream>(c.x, c.norm1, c.r1, w_.gain1, all, c.dy1, c.dx, grad(&Grads::gain1), grad(&Grads::shift1));
    if (g != nullptr)
      for (Index b = 0; b < B; ++b)
        detail::add<K>(d * n_.tokens, 1, c.dx.a.data() + b * d * n_.tokens, g->position.data());
  }

  /// o = sum_i p_i v_i, p = softmax(s), s_i = scale q . k_i:  d_o -> dv, dk, dq of one head.
  template <Stream stream>
  void attend_back(Cache& c, Index b, Index head, Index size, S scale) const {
    constexpr bool dual = stream == Stream::Tangent;
    const Index row = head * size, T = n_.tokens;
    const auto token = [&](Matrix<S>& m, Index i) { return m.col(b * T + i).segment(row, size); };
    const auto p = c.p.a.col(b).segment(head * T, T), p1 = c.p.t.col(b).segment(head * T, T),
               s1 = c.scores.t.col(b).segment(head * T, T);
    const auto d_o = c.d_o.a.col(b).segment(row, size), d_o1 = c.d_o.t.col(b).segment(row, size);
    const auto q = c.q.a.col(b).segment(row, size), q1 = c.q.t.col(b).segment(row, size);
    auto dq = c.dq.a.col(b).segment(row, size), dq1 = c.dq.t.col(b).segment(row, size);
    // cotangents of p and of p'; p' = p (s' - <p, s'>)
    S mean = 0, mean_dp1 = 0;
    if constexpr (dual) {
      mean = p.dot(s1);
      for (Index i = 0; i < T; ++i) mean_dp1 += p[i] * token(c.v.a, i).dot(d_o1);
    }
    const auto dp = [&](Index i) {
      S value = token(c.v.a, i).dot(d_o);
      if constexpr (dual)
        value += token(c.v.t, i).dot(d_o1) + token(c.v.a, i).dot(d_o1) * (s1[i] - mean) - mean_dp1 * s1[i];
      return value;
    };
    S mean_dp = 0;
    for (Index i = 0; i < T; ++i) mean_dp += p[i] * dp(i);
    dq.setZero();
    if constexpr (dual) dq1.setZero();
    for (Index i = 0; i < T; ++i) {
      const S ds = scale * p[i] * (dp(i) - mean_dp);
      token(c.dv.a, i) = p[i] * d_o;
      token(c.dk.a, i) = ds * q;
      dq += ds * token(c.k.a, i);
      if constexpr (dual) {
        const S ds1 = scale * p[i] * (token(c.v.a, i).dot(d_o1) - mean_dp1);
        token(c.dv.a, i) += p1[i] * d_o1;
        token(c.dv.t, i) = p[i] * d_o1;
        token(c.dk.a, i) += ds1 * q1;
        token(c.dk.t, i) = ds1 * q;
        dq += ds1 * token(c.k.t, i);
        dq1 += ds1 * token(c.k.a, i);
      }
    }
  }

  TransformerShape n_;
  Activation activation_;
  TransformerWeights<S> w_;
};

}  // namespace jacobian
}  // namespace lowrank
