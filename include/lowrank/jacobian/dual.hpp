// Values together with their tangents, and linear maps of n columns of them, forwards and backwards.
#pragma once

#include <lowrank/jacobian/elementwise.hpp>
#include <lowrank/jacobian/model.hpp>
#include <lowrank/linalg/gemm.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace jacobian {

/// A value and its tangent, or the cotangents of both.
template <class S>
struct Dual {
  Matrix<S> a, t;
  Dual() = default;
  Dual(Index rows, Index cols) : a(Matrix<S>::Zero(rows, cols)), t(a) {}
};

enum class Stream { Value, Tangent };  // which of f and f' has the cotangent V

namespace detail {

/// out = W x
template <class S, class K>
void apply(const Matrix<S>& W, const Matrix<S>& x, Index n, S* out, Index ld, const linalg::Team<S, K>& team) {
  linalg::gemm<K>(W.rows(), n, W.cols(), linalg::columns<K>(W.data(), W.rows()), linalg::columns<K>(x.data(), x.rows()),
                  out, ld, team);
}
template <class S, class K>
void apply(const Matrix<S>& W, const Matrix<S>& x, Index n, Matrix<S>& out, const linalg::Team<S, K>& team) {
  apply(W, x, n, out.data(), out.rows(), team);
}
/// out = W^T x
template <class S, class K>
void pull(const Matrix<S>& W, const Matrix<S>& x, Index n, Matrix<S>& out, const linalg::Team<S, K>& team) {
  linalg::gemm<K>(W.cols(), n, W.rows(), linalg::transposed<K>(W.data(), W.rows()),
                  linalg::columns<K>(x.data(), x.rows()), out.data(), out.rows(), team);
}
/// dW += u x^T
template <class S, class K>
void outer(const Matrix<S>& u, const Matrix<S>& x, Index n, Matrix<S>& dW, const linalg::Team<S, K>& team) {
  linalg::gemm<K>(u.rows(), x.rows(), n, linalg::columns<K>(u.data(), u.rows()),
                  linalg::transposed<K>(x.data(), x.rows()), dW.data(), dW.rows(), team, linalg::Mode::Add);
}
/// Both streams of y = W x backwards: dx, and dW += dy x^T + dy' x'^T.
template <Stream stream, class S, class K>
void linear_back(const Matrix<S>& W, const Dual<S>& x, const Dual<S>& dy, Index n, Dual<S>& dx, Matrix<S>* dW,
                 const linalg::Team<S, K>& team) {
  pull(W, dy.a, n, dx.a, team);
  if constexpr (stream == Stream::Tangent) pull(W, dy.t, n, dx.t, team);
  if (dW == nullptr) return;
  outer(dy.a, x.a, n, *dW, team);
  if constexpr (stream == Stream::Tangent) outer(dy.t, x.t, n, *dW, team);
}
template <class K, class S>
void add_columns(const Matrix<S>& from, Index n, Matrix<S>& to) {
  for (Index j = 0; j < n; ++j) add<K>(from.rows(), 1, from.data() + j * from.rows(), to.data());
}

}  // namespace detail
}  // namespace jacobian
}  // namespace lowrank
