// Basis: where an optimizer's gradient lives at this moment, how far that is from where it lived before, and what other
// bases of the same rank would have captured of the same gradient. Plain dense algebra in double: this is for looking,
// not for training.
#pragma once

#include <algorithm>   // std::clamp, std::partial_sort, std::set_intersection
#include <cmath>       // std::acos, std::cos, std::sqrt
#include <cstdint>     // std::int32_t
#include <functional>  // std::greater
#include <iterator>    // std::back_inserter
#include <numbers>     // std::numbers::pi
#include <string>
#include <vector>

#include <Eigen/QR>

#include <lowrank/core/buffer.hpp>
#include <lowrank/linalg/eigh.hpp>

namespace pretrain {

using Eigen::Index;

/// Of one matrix after a step. A is the gradient seen from the projected side, d x k. vectors: d x rank, column-major, or
/// indices: of `rank` vectors of a fixed basis; the other one is null.
struct Basis {
  std::string name;
  Index rows, cols;
  const float* gradient;  // rows x cols, row-major
  bool transposed;        // A is its transpose
  Index rank;
  double captured, drift;  // as the step reports them: of the gradient and whatever was fed back to it
  bool refreshed;
  const float* vectors;
  const std::int32_t* indices;

  Index d() const { return transposed ? cols : rows; }
  Eigen::MatrixXd A() const {
    const Eigen::Map<const Eigen::Matrix<float, -1, -1, Eigen::RowMajor>> g(gradient, rows, cols);
    if (transposed) return g.transpose().cast<double>();
    return g.cast<double>();
  }
};

/// Eigenvalues of a symmetric matrix, descending.
inline std::vector<double> eigenvalues(Eigen::MatrixXd a) {
  std::vector<double> values(std::size_t(a.rows()));
  lowrank::Arena count;
  (void)lowrank::linalg::Eigh<double>(count, a.rows());
  lowrank::Buffer<std::byte> memory(Index(count.used()), 1);
  lowrank::Arena arena(memory);
  lowrank::linalg::Eigh<double>(arena, a.rows())(a.data(), values.data());
  return values;
}

/// The vectors or indices of a basis, to be compared with those of a later one.
struct Snapshot {
  std::vector<float> vectors;
  std::vector<std::int32_t> indices;

  explicit Snapshot(const Basis& b) {
    if (b.vectors != nullptr) vectors.assign(b.vectors, b.vectors + b.d() * b.rank);
    if (b.indices != nullptr) indices.assign(b.indices, b.indices + b.rank);
  }
};

/// Squared cosines of the principal angles between the two subspaces, descending. Vectors of a fixed orthonormal basis
/// either stay (1) or go (0).
inline std::vector<double> squared_cosines(const Snapshot& before, const Basis& now) {
  const std::size_t rank = std::size_t(now.rank);
  if (now.indices != nullptr) {
    std::vector<std::int32_t> old = before.indices, kept, fresh(now.indices, now.indices + now.rank);
    std::sort(old.begin(), old.end()), std::sort(fresh.begin(), fresh.end());
    std::set_intersection(old.begin(), old.end(), fresh.begin(), fresh.end(), std::back_inserter(kept));
    std::vector<double> cosines(rank, 0.0);
    std::fill_n(cosines.begin(), kept.size(), 1.0);
    return cosines;
  }
  const auto orthonormal = [&](const float* vectors) -> Eigen::MatrixXd {
    const Eigen::Map<const Eigen::MatrixXf> P(vectors, now.d(), now.rank);
    return Eigen::HouseholderQR<Eigen::MatrixXd>(P.cast<double>()).householderQ() * Eigen::MatrixXd::Identity(P.rows(), P.cols());
  };
  const Eigen::MatrixXd C = orthonormal(before.vectors.data()).transpose() * orthonormal(now.vectors);
  std::vector<double> cosines = eigenvalues(C.transpose() * C);
  for (double& c : cosines) c = std::clamp(c, 0.0, 1.0);
  return cosines;
}
inline double degrees(double squared_cosine) { return std::acos(std::sqrt(squared_cosine)) * 180 / std::numbers::pi; }

/// Shares of ||A||^2 that bases of the same rank hold: the leading singular vectors (the optimum), the strongest cosines,
/// the longest rows of A, and a random subspace on average.
struct Energies {
  double svd = 0, dct = 0, rows = 0, random = 0;
};

inline Energies energies(const Basis& b) {
  const Eigen::MatrixXd A = b.A();
  const Index d = A.rows();
  const double total = A.squaredNorm();
  if (!(total > 0)) return {};
  const auto strongest = [&](std::vector<double> squares) {
    std::partial_sort(squares.begin(), squares.begin() + b.rank, squares.end(), std::greater<>());
    double sum = 0;
    for (Index i = 0; i < b.rank; ++i) sum += squares[std::size_t(i)];
    return std::clamp(sum / total, 0.0, 1.0);
  };
  const auto row_squares = [](const Eigen::MatrixXd& X) {
    const Eigen::VectorXd s = X.rowwise().squaredNorm();
    return std::vector<double>(s.begin(), s.end());
  };
  const Eigen::MatrixXd C = Eigen::MatrixXd::NullaryExpr(d, d, [&](Index k, Index j) {  // the orthonormal DCT-II
    return std::sqrt((k == 0 ? 1.0 : 2.0) / double(d)) * std::cos(std::numbers::pi * double(k * (2 * j + 1)) / double(2 * d));
  });
  return {strongest(eigenvalues(A * A.transpose())), strongest(row_squares(C * A)), strongest(row_squares(A)),
          double(b.rank) / double(d)};
}

}  // namespace pretrain
