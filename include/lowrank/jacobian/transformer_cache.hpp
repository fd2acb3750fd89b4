// The shape, the parameters and the intermediates of a Transformer.
#pragma once

#include <lowrank/jacobian/dual.hpp>

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

}  // namespace jacobian
}  // namespace lowrank
