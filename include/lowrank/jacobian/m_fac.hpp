// M-FAC: products with an inverse empirical Fisher matrix of m gradients g_i (Frantar, Kurtic, Alistarh: arXiv
// 2107.03356),
//
//   F = damp I + (1/m) sum_i g_i g_i^T,   F^-1 x = (x - G^T (m damp I + G G^T)^-1 G x) / damp,
//
// by Woodbury's identity and a Cholesky factorisation of the m x m matrix, where the paper recurses over gradients and
// its code factors without pivots: the same in exact arithmetic, and stable. Inner products and the m x m system are in
// double. G: D x m, one gradient a column.
//
//   SlidingFisher  the last m gradients; push replaces the oldest. Memory D m + 2 m^2, push O(D m), the next product
//                  factors once, O(m^3 / 3), and costs 2 D m.
//   StaticFisher   given gradients, F approximated by its diagonal blocks (of all D parameters, or smaller): products
//   and
//                  the diagonal of F^-1, which pruning needs.
#pragma once

#include <cmath>  // std::sqrt
#include <vector>

#include <lowrank/core/buffer.hpp>
#include <lowrank/jacobian/model.hpp>
#include <lowrank/linalg/vectors.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace jacobian {
namespace detail {

/// x . y with both widened to double first.
template <class K, class S>
double wide_dot(Index n, const S* x, const S* y) {
  if constexpr (std::is_same_v<S, double>) return linalg::dot<K>(n, x, y);
  constexpr Index chunk = 256;
  double a[chunk], b[chunk], sum = 0;
  for (Index i = 0; i < n; i += chunk) {
    const Index m = std::min(chunk, n - i);
    for (Index j = 0; j < m; ++j) a[j] = double(x[i + j]), b[j] = double(y[i + j]);
    sum += linalg::dot<K>(m, a, b);
  }
  return sum;
}

/// A symmetric positive definite m x m system, rows contiguous.
template <class K>
struct Cholesky {
  Buffer<double> L;  // row i is column i of the buffer

  explicit Cholesky(Index m) : L(m, m) {}
  /// A + shift I = L L^T; the lower triangle of A, row i at A.column(i), is read.
  void factor(const Buffer<double>& A, double shift) {
    for (Index i = 0; i < L.rows(); ++i)
      for (Index j = 0; j <= i; ++j) {
        const double rest = A(j, i) + (i == j ? shift : 0) - linalg::dot<K>(j, L.column(i), L.column(j));
        // F >= damp I: a pivot below the shift is rounding
        L(j, i) = i == j ? std::sqrt(std::max(rest, shift)) : rest / L(j, j);
      }
  }
  void forward(double* x) const {
    for (Index i = 0; i < L.rows(); ++i) x[i] = (x[i] - linalg::dot<K>(i, L.column(i), x)) / L(i, i);
  }
  void solve(double* x) const {
    forward(x);
    for (Index i = L.rows() - 1; i >= 0; --i) {
      x[i] /= L(i, i);
      K::combine(i, 1.0, x, -x[i], L.column(i), x);
    }
  }
};

inline void check_fisher(const char* who, Index dimension, Index gradients, double damp) {
  if (dimension < 1 || gradients < 1)
    lowrank::detail::bad_argument(who, std::to_string(gradients) + " gradients of " + std::to_string(dimension),
                                  "one or more of each");
  if (!(damp > 0) || !lowrank::detail::is_finite(damp))
    lowrank::detail::bad_argument(who, "damp = " + std::to_string(damp), "a number > 0");
}

}  // namespace detail

/// Published: damp 1e-5, m 1024. Until m gradients were pushed the missing ones are zero, and m still divides.
template <class S, class K = kernel::Best>
class SlidingFisher {
 public:
  SlidingFisher(Index dimension, Index gradients, double damp)
      : damp_(damp),
        G_(checked(dimension, gradients, damp), gradients),
        gram_(gradients, gradients),
        factor_(gradients),
        room_(gradients, 1) {}

  Index dimension() const { return G_.rows(); }
  Index gradients() const { return G_.cols(); }

  /// The gradient g (D x 1) takes the place of the oldest.
  template <class V>
  void push(const V& g) {
    check(g, "push");
    std::copy_n(g.data(), dimension(), G_.column(next_));
    for (Index i = 0; i < gradients(); ++i) {
      const double dot = detail::wide_dot<K>(dimension(), G_.column(i), G_.column(next_));
      gram_(i, next_) = gram_(next_, i) = dot;
    }
    next_ = (next_ + 1) % gradients();
    stale_ = true;
  }
  /// out = F^-1 x, both D x 1; out may be x.
  template <class V, class W>
  void multiply(const V& x, W&& out) {
    check(x, "multiply");
    check(out, "multiply");
    const Index m = gradients(), D = dimension();
    if (stale_) factor_.factor(gram_, double(m) * damp_);
    stale_ = false;
    for (Index i = 0; i < m; ++i) room_[i] = detail::wide_dot<K>(D, G_.column(i), x.data());
    factor_.solve(room_.data());
    S* y = out.data();
    K::combine(D, 1 / damp_, x.data(), 0.0, x.data(), y);
    for (Index i = 0; i < m; ++i) K::combine(D, 1.0, y, -room_[i] / damp_, G_.column(i), y);
  }

 private:
  static Index checked(Index dimension, Index gradients, double damp) {
    detail::check_fisher("lowrank::jacobian::SlidingFisher", dimension, gradients, damp);
    return dimension;
  }
  template <class V>
  void check(const V& x, const char* what) const {
    static_assert(std::is_same_v<typename std::remove_cvref_t<V>::Scalar, S>,
                  "vectors have the scalar of the gradients");
    if (x.size() != dimension() || (x.cols() != 1 && x.rows() != 1))
      lowrank::detail::bad_shape((std::string("lowrank::jacobian::SlidingFisher::") + what).c_str(), x.rows(), x.cols(),
                                 dimension(), 1);
  }

  double damp_;
  Buffer<S> G_;
  Buffer<double> gram_;
  detail::Cholesky<K> factor_;
  Buffer<double> room_;
  Index next_ = 0;
  bool stale_ = true;
};

template <class S, class K = kernel::Best>
class StaticFisher {
 public:
  /// G: D x m. block: parameters per diagonal block of F; D for the whole matrix.
  StaticFisher(const Matrix<S>& G, double damp, Index block) : G_(G), damp_(damp), block_(block) {
    const char* who = "lowrank::jacobian::StaticFisher";
    detail::check_fisher(who, G.rows(), G.cols(), damp);
    if (block < 1) lowrank::detail::bad_argument(who, "a block of " + std::to_string(block), "one parameter or more");
    const Index m = G.cols();
    Buffer<double> gram(m, m);
    for (Index begin = 0; begin < G.rows(); begin += block) {
      const Index n = std::min(block, G.rows() - begin);
      for (Index j = 0; j < m; ++j)
        for (Index i = 0; i <= j; ++i) gram(i, j) = detail::wide_dot<K>(n, &G_(begin, i), &G_(begin, j));
      factors_.emplace_back(m).factor(gram, double(m) * damp);
    }
  }

  /// F^-1 x, D x 1.
  Vector<S> multiply(const Vector<S>& x) const {
    if (x.size() != G_.rows())
      lowrank::detail::bad_shape("lowrank::jacobian::StaticFisher::multiply", x.size(), 1, G_.rows(), 1);
    Vector<S> y = x / S(damp_);
    std::vector<double> c(std::size_t(G_.cols()));
    for (std::size_t b = 0; b < factors_.size(); ++b) {
      const Index begin = Index(b) * block_, n = std::min(block_, G_.rows() - begin);
      for (Index i = 0; i < G_.cols(); ++i) c[std::size_t(i)] = detail::wide_dot<K>(n, &G_(begin, i), &x[begin]);
      factors_[b].solve(c.data());
      for (Index i = 0; i < G_.cols(); ++i)
        K::combine(n, 1.0, &y[begin], -c[std::size_t(i)] / damp_, &G_(begin, i), &y[begin]);
    }
    return y;
  }
  /// The diagonal of F^-1: (1 - |L^-1 g_j|^2) / damp, g_j being row j of G.
  Vector<S> diagonal() const {
    Vector<S> d(G_.rows());
    std::vector<double> row(std::size_t(G_.cols()));
    for (Index j = 0; j < G_.rows(); ++j) {
      for (Index i = 0; i < G_.cols(); ++i) row[std::size_t(i)] = double(G_(j, i));
      factors_[std::size_t(j / block_)].forward(row.data());
      d[j] = S((1 - K::sum_squares(G_.cols(), row.data())) / damp_);
    }
    return d;
  }

 private:
  Matrix<S> G_;
  double damp_;
  Index block_;
  std::vector<detail::Cholesky<K>> factors_;
};

}  // namespace jacobian
}  // namespace lowrank
