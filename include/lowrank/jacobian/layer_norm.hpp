// Layer norm of columns x of d entries, its tangent, and both streams of it backwards:
//
//   norm = (x - mean(x)) r,  r = 1 / sqrt(<x - mean, x - mean> / d + 1e-5),  y = gain o norm + shift.
//
// In a Dual r, what is kept as its tangent is m = <norm, x'> / d.
#pragma once

#include <lowrank/jacobian/dual.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace jacobian::detail {

/// norm, 1 / deviation and y of n columns
template <class S>
void layer_norm(const Dual<S>& x, Index n, const Matrix<S>& gain, const Matrix<S>& shift, Dual<S>& norm, Dual<S>& r,
                Dual<S>& y) {
  const S d = S(x.a.rows());
  for (Index j = 0; j < n; ++j) {
    norm.a.col(j).array() = x.a.col(j).array() - x.a.col(j).mean();
    r.a(0, j) = 1 / std::sqrt(norm.a.col(j).squaredNorm() / d + S(1e-5));
    norm.a.col(j) *= r.a(0, j);
    y.a.col(j) = norm.a.col(j).cwiseProduct(gain.col(0)) + shift.col(0);
  }
}
/// norm' = r (x' - mean(x') - norm m), m = <norm, x'> / d
template <class S>
void layer_norm_tangent(const Dual<S>& x, Index n, const Matrix<S>& gain, Dual<S>& norm, Dual<S>& r, Dual<S>& y) {
  for (Index j = 0; j < n; ++j) {
    const S m = r.t(0, j) = norm.a.col(j).dot(x.t.col(j)) / S(x.a.rows()), mean = x.t.col(j).mean();
    norm.t.col(j).array() = r.a(0, j) * (x.t.col(j).array() - mean - m * norm.a.col(j).array());
    y.t.col(j) = norm.t.col(j).cwiseProduct(gain.col(0));
  }
}
/// dx += both streams of y backwards. dy is overwritten.
template <Stream stream, class S>
void layer_norm_back(const Dual<S>& x, const Dual<S>& norm, const Dual<S>& r, const Matrix<S>& gain, Index n,
                     Dual<S>& dy, Dual<S>& dx, Matrix<S>* dgain, Matrix<S>* dshift) {
  const S d = S(x.a.rows());
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

}  // namespace jacobian::detail
}  // namespace lowrank
