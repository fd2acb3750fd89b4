// The order of products: Y = (W0 + s B A) X can be computed as W0 X + s B (A X), or from the composed weight, and the
// gradients of A and B from their short products, or from the dense G = dY X^T. All give the same numbers up to rounding;
// which is cheaper depends on the shape and the number of samples, not on taste.
//
//   forward    factored 2 N r (m + n)        composed 2 r m n           -> composed iff N > m n / (m + n)
//   dX         factored 2 N r (m + n)        composed 2 r m n
//   dA, dB     short    2 N r (m + n) (+)    dense    2 N m n + 4 r m n -> dense from about r = m n / (2 (m + n)) on
//   (+) with B^T dY shared with the factored dX, and A X if the forward pass did not leave it behind.
//
// Counted beyond the product with W0, which every order needs once. The composed orders need m n numbers of workspace.
#pragma once

#include <cstdint>           // std::int64_t
#include <initializer_list>  // of a loop

#include <lowrank/core/abi.hpp>

namespace lowrank::inline LOWRANK_ABI {

/// Of Y and dX.
enum class Order { Auto, Factored, Composed };
/// Of dA and dB.
enum class Gradient { Auto, Factored, Dense };

/// What is left at Auto is decided by the counts above.
struct Path {
  Order forward = Order::Auto, backward = Order::Auto;
  Gradient gradient = Gradient::Auto;

  friend bool operator==(const Path&, const Path&) = default;
};

/// The shape of a factored weight at work: B m x r, A r x n, X n x N.
struct Work {
  std::int64_t m = 0, n = 0, rank = 0, samples = 0;
};

/// Floating-point operations beyond the product with W0.
inline double forward_flops(const Work& w, Order order) {
  const double m = double(w.m), n = double(w.n), r = double(w.rank), N = double(w.samples);
  return order == Order::Composed ? 2 * r * m * n : 2 * N * r * (m + n);
}
/// forward: the order that the forward pass took, which decides whether A X is there.
inline double backward_flops(const Work& w, Order backward, Gradient gradient, Order forward) {
  const double m = double(w.m), n = double(w.n), r = double(w.rank), N = double(w.samples);
  const bool back = backward == Order::Factored || gradient == Gradient::Factored;  // B^T dY
  double flops = back ? 2 * N * m * r : 0;
  flops += backward == Order::Factored ? 2 * N * n * r : 2 * r * m * n;
  if (gradient == Gradient::Dense) return flops + 2 * N * m * n + 4 * r * m * n;
  return flops + 2 * N * r * (m + n) + (forward == Order::Composed ? 2 * N * n * r : 0);
}

/// Fills in Auto with what takes the fewest operations over both passes; ties go to the factored orders.
inline Path choose(const Work& w, const Path& wanted) {
  Path best = wanted;
  double least = -1;
  for (const Order forward : {Order::Factored, Order::Composed})
    for (const Order backward : {Order::Factored, Order::Composed})
      for (const Gradient gradient : {Gradient::Factored, Gradient::Dense}) {
        if (wanted.forward != Order::Auto && wanted.forward != forward) continue;
        if (wanted.backward != Order::Auto && wanted.backward != backward) continue;
        if (wanted.gradient != Gradient::Auto && wanted.gradient != gradient) continue;
        const double flops = forward_flops(w, forward) + backward_flops(w, backward, gradient, forward);
        if (least >= 0 && flops >= least) continue;
        least = flops;
        best = {forward, backward, gradient};
      }
  return best;
}

/// For a layer that has no dense W: there, composing adds a product of 2 N m n that nothing else needs, and an m x n
/// array that the layer exists to avoid. Taken when it is asked for, never by itself.
inline Path short_of_weight(Path path) {
  if (path.forward == Order::Auto) path.forward = Order::Factored;
  if (path.backward == Order::Auto) path.backward = Order::Factored;
  if (path.gradient == Gradient::Auto) path.gradient = Gradient::Factored;
  return path;
}

}  // namespace lowrank
