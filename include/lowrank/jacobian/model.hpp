// Model: somebody's network f: R^d -> R^C, seen a batch at a time. What a model offers decides, at compile time, what
// can be asked of its Jacobian J(x) = df/dx (C x d, one for each sample):
//
//   forward(X, cache, Y)              Y = f(X); fills the cache                      everything
//   vjp(cache, V, Q)                  q_b = J_b^T v_b                                measures, values of penalties
//   jvp(cache, T, Y)                  y_b = J_b t_b                                  spectral norm, A(x)
//   param_vjp(cache, V, grads)        grads += grad_theta sum_b <v_b, f(x_b)>        finite-difference penalties
//   mixed_vjp(cache, V, G, grads, dX) grads += grad_theta sum_b <v_b, J_b g_b>       penalties
//                                     dX    += the same with respect to X, unless dX is empty
//
// A batch is features x samples, column-major, one sample a column: the memory of a row-major C array
// [sample][feature]. Models are const and may be shared by threads, each with a cache of its own. Every function is
// called after forward on the same cache; mixed_vjp after the vjp of the same V, whose intermediate results it may take
// from the cache.
//
// The smallest model is a struct with these members, or callables:
//
//   auto f = make_model<float, Cache, Grads>(d, C, Forward{[](ConstBatch<float> X, Cache& c, Batch<float> Y) { ... }},
//                                            Vjp{...}, ParamVjp{...});
//
// Source of the one second-order operation: R. Pearlmutter, Fast exact multiplication by the Hessian, Neural
// Computation 6, 1994; here on <v, J g> instead of a loss.
#pragma once

#include <concepts>  // std::convertible_to
#include <string>
#include <utility>  // std::move

#include <lowrank/core/view.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace jacobian {

template <class S>
using Matrix = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic>;
template <class S>
using Vector = Eigen::Matrix<S, Eigen::Dynamic, 1>;

/// Some columns in somebody's memory. Without columns: "not given" or "not wanted".
template <class S>
using Batch = Eigen::Map<Matrix<S>, 0, Eigen::OuterStride<>>;
template <class S>
struct ConstBatch : Eigen::Map<const Matrix<S>, 0, Eigen::OuterStride<>> {
  using Base = Eigen::Map<const Matrix<S>, 0, Eigen::OuterStride<>>;
  using Base::Base;
  ConstBatch(const Batch<S>& b) : Base(b.data(), b.rows(), b.cols(), Eigen::OuterStride<>(b.outerStride())) {}
};

template <class S>
Batch<S> batch(S* data, Index rows, Index cols) {
  return {data, rows, cols, Eigen::OuterStride<>(rows)};
}
template <class S>
ConstBatch<S> batch(const S* data, Index rows, Index cols) {
  return {data, rows, cols, Eigen::OuterStride<>(rows)};
}

template <class S>
Batch<S> no_batch() {
  return {nullptr, 0, 0, Eigen::OuterStride<>(0)};
}

/// A column-major matrix with storage, as a batch; throws std::invalid_argument when it is row-major.
template <class M>
auto batch(M&& matrix) {
  const auto v = view(matrix);
  if (v.rows > 1 && v.cols > 1 && v.row_stride != 1)
    lowrank::detail::bad_argument("lowrank::jacobian::batch", "a row-major matrix", "column-major features x samples");
  using T = std::remove_pointer_t<decltype(v.data)>;
  using Map = std::conditional_t<std::is_const_v<T>, ConstBatch<std::remove_const_t<T>>, Batch<T>>;
  const Index stride = v.rows == 1 && v.col_stride == 1 ? 1 : std::max(v.col_stride, v.rows);
  return Map(v.data, v.rows, v.cols, Eigen::OuterStride<>(stride));
}

template <class M>
concept VjpModel = requires {
  typename M::Scalar;
  typename M::Cache;
}
&&requires(const M& m, typename M::Cache& cache, ConstBatch<typename M::Scalar> in, Batch<typename M::Scalar> out) {
  { m.input_dim() } -> std::convertible_to<Index>;
  { m.output_dim() } -> std::convertible_to<Index>;
  m.forward(in, cache, out);
  m.vjp(cache, in, out);
};

template <class M>
concept JvpModel = VjpModel<M> &&
    requires(const M& m, typename M::Cache& cache, ConstBatch<typename M::Scalar> in, Batch<typename M::Scalar> out) {
  m.jvp(cache, in, out);
};

template <class M>
concept ParamModel = VjpModel<M> && requires {
  typename M::Grads;
} && requires(const M& m, typename M::Cache& cache, ConstBatch<typename M::Scalar> in, typename M::Grads& grads) {
  m.param_vjp(cache, in, grads);
};

template <class M>
concept MixedModel = ParamModel<M> && requires(const M& m, typename M::Cache& cache, ConstBatch<typename M::Scalar> in,
                                               typename M::Grads& grads, Batch<typename M::Scalar> out) {
  m.mixed_vjp(cache, in, in, grads, out);
};

/// A model that can put off the second half of mixed_vjp: defer_mixed leaves in the cache what still has to travel back
/// through the layers, and one sweep takes it along with a loss's cotangent dY (C x B, or empty), for any number of
/// deferred products:  grads += grad_theta <dY, f> + what was deferred;  dX likewise unless empty.
template <class M>
concept DeferringModel = MixedModel<M> &&
    requires(const M& m, typename M::Cache& cache, ConstBatch<typename M::Scalar> in, typename M::Grads& grads,
             Batch<typename M::Scalar> out) {
  m.defer_mixed(cache, in, in, grads);
  m.sweep(cache, in, grads, out);
};

// -- callables as a model -------------------------------------------------------------------------------------------

template <class F>
struct Forward {
  F call;
  void forward(auto X, auto& cache, auto Y) const { call(X, cache, Y); }
};
template <class F>
struct Vjp {
  F call;
  void vjp(auto& cache, auto V, auto Q) const { call(cache, V, Q); }
};
template <class F>
struct Jvp {
  F call;
  void jvp(auto& cache, auto T, auto Y) const { call(cache, T, Y); }
};
template <class F>
struct ParamVjp {
  F call;
  void param_vjp(auto& cache, auto V, auto& grads) const { call(cache, V, grads); }
};
template <class F>
struct MixedVjp {
  F call;
  void mixed_vjp(auto& cache, auto V, auto G, auto& grads, auto dX) const { call(cache, V, G, grads, dX); }
};
template <class F>
Forward(F) -> Forward<F>;
template <class F>
Vjp(F) -> Vjp<F>;
template <class F>
Jvp(F) -> Jvp<F>;
template <class F>
ParamVjp(F) -> ParamVjp<F>;
template <class F>
MixedVjp(F) -> MixedVjp<F>;

/// What a model without parameters accumulates.
struct NoGrads {};

template <class S, class CacheType, class GradsType, class... Parts>
class CallableModel : public Parts... {
 public:
  using Scalar = S;
  using Cache = CacheType;
  using Grads = GradsType;

  CallableModel(Index inputs, Index outputs, Parts... parts)
      : Parts(std::move(parts))..., inputs_(inputs), outputs_(outputs) {}
  Index input_dim() const { return inputs_; }
  Index output_dim() const { return outputs_; }

 private:
  Index inputs_, outputs_;
};

/// f: R^inputs -> R^outputs from callables, in any order; Forward and Vjp are needed.
template <class S, class Cache, class Grads = NoGrads, class... Parts>
CallableModel<S, Cache, Grads, Parts...> make_model(Index inputs, Index outputs, Parts... parts) {
  static_assert(
      VjpModel<CallableModel<S, Cache, Grads, Parts...>>,
      "a model needs Forward{(X, cache, Y)} and Vjp{(cache, V, Q)}, with Batch<S> and ConstBatch<S> of its scalar");
  return {inputs, outputs, std::move(parts)...};
}

namespace detail {

inline void check_batch(const char* who, Index rows, Index cols, Index want_rows, Index want_cols) {
  if (rows != want_rows || cols != want_cols) lowrank::detail::bad_shape(who, rows, cols, want_rows, want_cols);
}

}  // namespace detail
}  // namespace jacobian
}  // namespace lowrank
