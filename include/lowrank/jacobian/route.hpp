// The two routes to a penalty's gradient. Analytic: the model's mixed_vjp. FiniteDifference: two ordinary backward
// passes,
//
//   grad_theta <v, J(x) g> ~ (grad_theta <v, f(x + h g)> - grad_theta <v, f(x - h g)>) / (2h),
//
// for models with nothing but a parameter gradient. Smooth networks in double: relative error about 1e-10 at the
// default step. ReLU: exact while no unit changes its sign between x - h g and x + h g, otherwise wrong by any amount
// (factors of 10 to 30 were seen at h = 1e-3), which no test at run time can tell. Use double. Never chosen unless it
// is asked for.
#pragma once

#include <lowrank/jacobian/elementwise.hpp>
#include <lowrank/jacobian/model.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace jacobian {

struct Analytic {};

struct FiniteDifference {
  double h = 1e-5;  // of a sample: it moves by h (1 + |x|) along g / |g|
};

namespace detail {

template <class S>
struct DifferenceRoom {
  S *shifted, *cotangent, *outputs, *product;  // d x B, C x B, C x B, d x B
};

/// grads += grad_theta sum_b <v_b, J_b g_b>, dX likewise unless empty. The cache is left at a shifted point.
template <class K, class M, class S>
void central_difference(const FiniteDifference& route, const M& model, typename M::Cache& cache, ConstBatch<S> X,
                        ConstBatch<S> V, ConstBatch<S> G, typename M::Grads& grads, Batch<S> dX,
                        const DifferenceRoom<S>& room) {
  const Index d = X.rows(), B = X.cols(), C = V.rows();
  const Batch<S> shifted = batch(room.shifted, d, B), cotangent = batch(room.cotangent, C, B);
  const Batch<S> product = batch(room.product, d, B);
  for (const double side : {1.0, -1.0}) {
    for (Index b = 0; b < B; ++b) {
      const S* g = G.data() + b * G.outerStride();
      const S* x = X.data() + b * X.outerStride();
      const double length = std::sqrt(K::sum_squares(d, g));
      const double h = length > 0 ? side * route.h * (1 + std::sqrt(K::sum_squares(d, x))) / length : 0;
      const S* v = V.data() + b * V.outerStride();
      K::combine(d, 1.0, x, h, g, room.shifted + b * d);
      K::combine(C, h != 0 ? 1 / (2 * h) : 0, v, 0.0, v, room.cotangent + b * C);
    }
    model.forward(ConstBatch<S>(shifted), cache, batch(room.outputs, C, B));
    model.param_vjp(cache, ConstBatch<S>(cotangent), grads);
    if (dX.cols() == 0) continue;
    model.vjp(cache, ConstBatch<S>(cotangent), product);
    for (Index b = 0; b < B; ++b) add<K>(d, 1, room.product + b * d, &dX(0, b));
  }
}

/// grads += grad_theta <v, J g>; a model that can defer does.
template <class M, class S>
void add_mixed(const M& model, typename M::Cache& cache, ConstBatch<S> v, ConstBatch<S> g, typename M::Grads& grads,
               Batch<S> dX) {
  if constexpr (DeferringModel<M>) model.defer_mixed(cache, v, g, grads);
  else model.mixed_vjp(cache, v, g, grads, dX);
}

/// What is left after all add_mixed: deferred terms, and the loss unless it is empty. room: d x B.
template <class K, class M, class S>
void finish(const M& model, typename M::Cache& cache, ConstBatch<S> loss, typename M::Grads& grads, Batch<S> dX,
            S* room) {
  if constexpr (DeferringModel<M>) {
    model.sweep(cache, loss, grads, dX);
  } else if (loss.cols() > 0) {
    model.param_vjp(cache, loss, grads);
    if (dX.cols() == 0) return;
    const Batch<S> product = batch(room, dX.rows(), dX.cols());
    model.vjp(cache, loss, product);
    for (Index b = 0; b < dX.cols(); ++b) add<K>(dX.rows(), 1, room + b * dX.rows(), &dX(0, b));
  }
}

}  // namespace detail
}  // namespace jacobian
}  // namespace lowrank
