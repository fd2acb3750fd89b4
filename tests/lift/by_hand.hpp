// One projected step written out with whole matrices, as the papers do: what the fused steps are compared with.
#pragma once

#include <algorithm>
#include <cmath>

#include <Eigen/Core>
#include <lowrank/options.hpp>

namespace support {

using Eigen::ArrayXXd;
using Eigen::MatrixXd;

/// Adam as GaLore writes it, on R (r x k).
struct AdamByHand {
  ArrayXXd M, V;
  int t = 0;
  double gain = 0;

  MatrixXd direction(const lowrank::AdamW& o, const MatrixXd& R) {
    if (t++ == 0) M = V = ArrayXXd::Zero(R.rows(), R.cols());
    M = o.beta1 * M + (1 - o.beta1) * R.array();
    V = o.beta2 * V + (1 - o.beta2) * R.array().square();
    gain = std::sqrt(1 - std::pow(o.beta2, t)) / (1 - std::pow(o.beta1, t));
    return M / (V.sqrt() + o.eps);
  }
};

/// The limiter of Fira and APOLLO.
struct LimiterByHand {
  double L = 0;
  int limited = 0;  // steps in which it acted

  double factor(const lowrank::Limiter& o, double x) {
    const double c = L == 0 || std::isinf(o.gamma) ? 1 : std::max(x / (L + 1e-8), o.gamma) / o.gamma;
    if (x > 0) L = std::max(x / c, o.floor);
    limited += c > 1;
    return c;
  }
};

inline Eigen::RowVectorXd ratios(const MatrixXd& N, const MatrixXd& R) {
  return (N.colwise().norm().array() / (R.colwise().norm().array() + 1e-8)).matrix();
}

inline double distance(const MatrixXd& a, const MatrixXd& b) {
  return (a - b).cwiseAbs().maxCoeff() / std::max(b.cwiseAbs().maxCoeff(), 1e-300);
}

/// r orthonormal columns: rows of a cosine matrix, a different choice each time.
inline MatrixXd orthonormal(Eigen::Index d, Eigen::Index r, int which) {
  MatrixXd P(d, r);
  for (Eigen::Index q = 0; q < r; ++q)
    for (Eigen::Index i = 0; i < d; ++i) {
      const Eigen::Index n = (q + which * (r / 2 + 1)) % d;
      P(i, q) = std::sqrt((n == 0 ? 1 : 2) / double(d)) * std::cos(std::acos(-1.0) * double(n * (2 * i + 1)) / double(2 * d));
    }
  return P;
}

}  // namespace support
