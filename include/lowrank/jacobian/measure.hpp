// Measures: how far the Jacobians of a batch are aligned, x by x. Nothing here is differentiated, so a vjp is enough: C
// of them give all Jacobians. Called after forward on the cache; they allocate what they return.
//
//   centroid            mu = J^T w                    w: ones (arXiv 2506.12284), or centroid_cotangents()
//   centroid alignment  <mu, x> / max(|mu| |x|, 1e-8)  signed; under cross entropy mu -> 0 at the optimum: see A
//   Jacobian alignment  A = |J x| / (|J|_F |x|)        in [0, 1], 1 exactly when J = c x^T
//   row alignment       cos(J_c, x), its smallest and largest over the rows
//   first component     sigma_1^2 / sum_i sigma_i^2
//   effective rank      exp(-sum_i p_i log p_i), p = sigma / sum sigma
//
// Whatever would be 0/0 is 0.
#pragma once

#include <vector>

#include <lowrank/jacobian/model.hpp>
#include <lowrank/jacobian/spectrum.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace jacobian {

/// d x (C B): column c + C b is the gradient of output c at sample b, so that block b is J_b^T.
template <VjpModel M>
Matrix<typename M::Scalar> jacobians(const M& model, typename M::Cache& cache, Index samples) {
  using S = typename M::Scalar;
  const Index d = model.input_dim(), C = model.output_dim();
  Matrix<S> all(d, C * samples), V(C, samples), Q(d, samples);
  for (Index c = 0; c < C; ++c) {
    V.setZero();
    V.row(c).setOnes();
    model.vjp(cache, batch(std::as_const(V)), batch(Q));
    for (Index b = 0; b < samples; ++b) all.col(c + C * b) = Q.col(b);
  }
  return all;
}

/// d x B: J_b^T w_b for cotangents W (C x B).
template <VjpModel M, class W>
Matrix<typename M::Scalar> centroids(const M& model, typename M::Cache& cache, const W& cotangents) {
  Matrix<typename M::Scalar> Q(model.input_dim(), cotangents.cols());
  model.vjp(cache, batch(cotangents), batch(Q));
  return Q;
}

/// Which combination of outputs a centroid is of, y being the label: ones (the reference's), e_y, e_y - 1/C, or e_y
/// minus the largest other output.
enum class CentroidOf { Ones, Label, LabelMinusMean, LabelMinusRunnerUp };

/// C x B cotangents from outputs Y (C x B) and labels in [0, C); labels are not read for Ones.
template <class S>
Matrix<S> centroid_cotangents(CentroidOf kind, const Matrix<S>& Y, const std::vector<Index>& labels) {
  const Index C = Y.rows(), B = Y.cols();
  if (kind == CentroidOf::Ones) return Matrix<S>::Ones(C, B);
  const char* who = "lowrank::jacobian::centroid_cotangents";
  if (Index(labels.size()) != B)
    lowrank::detail::bad_argument(who, std::to_string(labels.size()) + " labels", std::to_string(B));
  Matrix<S> W = Matrix<S>::Zero(C, B);
  for (Index b = 0; b < B; ++b) {
    const Index y = labels[std::size_t(b)];
    if (y < 0 || y >= C)
      lowrank::detail::bad_argument(who, "label " + std::to_string(y), "0 to " + std::to_string(C - 1));
    W(y, b) = 1;
    if (kind == CentroidOf::LabelMinusMean) W.col(b).array() -= S(1) / S(C);
    if (kind == CentroidOf::LabelMinusRunnerUp && C > 1) {
      Index other = y == 0 ? 1 : 0;
      for (Index c = 0; c < C; ++c)
        if (c != y && Y(c, b) > Y(other, b)) other = c;
      W(other, b) -= 1;
    }
  }
  return W;
}

/// One value a sample.
struct Alignment {
  Vector<double> centroid;       // signed cosine
  Vector<double> centroid_norm;  // |mu|
  Vector<double> inner;          // <mu, x>; f summed over outputs for a bias-free piecewise-linear network
  Vector<double> jacobian;       // A(x)
  Vector<double> jacobian_norm;  // |J|_F
  Vector<double> row_min, row_max;
  Vector<double> first_component, effective_rank;
};

/// All measures of a batch X (d x B) with centroid cotangents W (C x B).
template <VjpModel M, class X, class W>
Alignment alignment(const M& model, typename M::Cache& cache, const X& x, const W& cotangents) {
  const Index d = model.input_dim(), C = model.output_dim(), B = x.cols();
  detail::check_batch("lowrank::jacobian::alignment", x.rows(), B, d, B);
  detail::check_batch("lowrank::jacobian::alignment", cotangents.rows(), cotangents.cols(), C, B);
  const auto J = jacobians(model, cache, B);
  Alignment a;
  for (Vector<double>* v : {&a.centroid, &a.centroid_norm, &a.inner, &a.jacobian, &a.jacobian_norm, &a.row_min,
                            &a.row_max, &a.first_component, &a.effective_rank})
    *v = Vector<double>::Zero(B);
  const Spectrum spectrum(d, C);
  const auto ratio = [](double over, double under) { return under > 1e-8 ? over / under : 0.0; };
  for (Index b = 0; b < B; ++b) {
    const Matrix<double> Jt = J.middleCols(C * b, C).template cast<double>();
    const Vector<double> point = x.col(b).template cast<double>(), w = cotangents.col(b).template cast<double>();
    Vector<double> mu = Vector<double>::Zero(d), Jx(C);
    double low = 2, high = -2;
    for (Index c = 0; c < C; ++c) {
      mu += w[c] * Jt.col(c);
      Jx[c] = Jt.col(c).dot(point);
      const double cosine = ratio(Jx[c], Jt.col(c).norm() * point.norm());
      low = std::min(low, cosine);
      high = std::max(high, cosine);
    }
    a.inner[b] = mu.dot(point);
    a.centroid_norm[b] = mu.norm();
    a.centroid[b] = ratio(a.inner[b], mu.norm() * point.norm());
    a.jacobian_norm[b] = Jt.norm();
    a.jacobian[b] = ratio(Jx.norm(), Jt.norm() * point.norm());
    a.row_min[b] = low;
    a.row_max[b] = high;
    const Vector<double> sigma = spectrum(Jt);
    a.first_component[b] = first_component(sigma);
    a.effective_rank[b] = entropy_rank(sigma);
  }
  return a;
}

}  // namespace jacobian
}  // namespace lowrank
