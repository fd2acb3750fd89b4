// Singular values of small matrices, and what is made of them: shares and ranks. Values may be in any order; of nothing
// but zeros every rank and share is 0.
#pragma once

#include <lowrank/jacobian/model.hpp>
#include <lowrank/linalg/svd.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace jacobian {

/// Singular values of d x k matrices, descending, with the scratch memory for one shape.
class Spectrum {
 public:
  Spectrum(Index d, Index k) : d_(d), k_(k), r_(std::min(d, k)) {
    Arena count;
    (void)Svd(count, d_, k_, r_, 1);
    (void)linalg::Team<double, kernel::Best>(count, 1, std::max(d_, k_));
    memory_ = Buffer<std::byte>(Index(count.used()), 1);
  }

  Vector<double> operator()(const Matrix<double>& A) const {
    detail::check_batch("lowrank::jacobian::Spectrum", A.rows(), A.cols(), d_, k_);
    Buffer<std::byte> memory = memory_;
    Arena arena(memory);
    const Svd svd(arena, d_, k_, r_, 1);
    const linalg::Team<double, kernel::Best> team(arena, 1, std::max(d_, k_));
    Matrix<double> left(d_, r_);
    Vector<double> sigma(r_);
    svd(linalg::columns<kernel::Best>(A.data(), d_), left.data(), static_cast<double*>(nullptr), sigma.data(), team);
    return sigma;
  }

 private:
  using Svd = linalg::TruncatedSvd<double, kernel::Best>;
  Index d_, k_, r_;
  Buffer<std::byte> memory_;
};

inline Vector<double> singular_values(const Matrix<double>& A) { return Spectrum(A.rows(), A.cols())(A); }

/// sigma_1^2 / sum sigma^2
inline double first_component(const Vector<double>& sigma) {
  const double all = sigma.squaredNorm(), top = sigma.size() > 0 ? sigma.cwiseAbs().maxCoeff() : 0;
  return all > 0 ? top * top / all : 0;
}
/// sum sigma^2 / sigma_1^2
inline double stable_rank(const Vector<double>& sigma) {
  const double first = first_component(sigma);
  return first > 0 ? 1 / first : 0;
}
/// (sum sigma^2)^2 / sum sigma^4
inline double participation_ratio(const Vector<double>& sigma) {
  const double squares = sigma.squaredNorm(), fourth = sigma.array().square().square().sum();
  return fourth > 0 ? squares * squares / fourth : 0;
}
/// exp(-sum p log p), p = sigma / sum sigma (Roy, Vetterli: The effective rank, EUSIPCO 2007).
inline double entropy_rank(const Vector<double>& sigma) {
  const double sum = sigma.sum();
  if (!(sum > 0)) return 0;
  double entropy = 0;
  for (const double s : sigma)
    if (s > 0) entropy -= s / sum * std::log(s / sum);
  return std::exp(entropy);
}

}  // namespace jacobian
}  // namespace lowrank
