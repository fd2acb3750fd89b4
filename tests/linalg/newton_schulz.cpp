// The three polynomial iterations against their definition, what they do to singular values, and inputs at the edge.
#include "linalg/workspace.hpp"
#include "support/malloc_counter.hpp"
#include "support/naive.hpp"

#include <lowrank/linalg/newton_schulz.hpp>

using namespace lowrank_test;
using lowrank::Polynomial;
namespace linalg = lowrank::linalg;
using Eigen::MatrixXd;
using K = lowrank::kernel::Best;

namespace {

template <class S>
MatrixXd polar(const MatrixXd& input, Polynomial which, bool* allocated = nullptr) {
  const Index r = input.rows(), k = input.cols();
  const auto team = make_team<S, K>(std::max(r, k));
  const Owned iteration([&](Arena& arena) { return linalg::NewtonSchulz<S, K>(arena, r, k); });
  Eigen::Matrix<S, -1, -1> x = input.cast<S>();
  (*iteration)(x.data(), which, *team);
  if (allocated != nullptr) {
    Eigen::Matrix<S, -1, -1> again = input.cast<S>();
    const support::AllocationCount count;
    (*iteration)(again.data(), which, *team);
    *allocated = support::AllocationCount::counted && count.since() != 0;
  }
  return x.template cast<double>();
}

constexpr Polynomial all[] = {Polynomial::Quintic, Polynomial::Tuned, Polynomial::PolarExpress};
const std::pair<Index, Index> shapes[] = {{1, 1}, {1, 9}, {9, 1}, {5, 5}, {7, 40}, {40, 7}, {64, 64}, {70, 300}, {300, 70}, {129, 131}};

}  // namespace

TEST_CASE("Newton-Schulz is its definition", "[linalg]") {
  for (const auto& [r, k] : shapes)
    for (const Polynomial which : all)
      for (const double size : {1.0, 1e-5, 1e6}) {
        INFO(r << " x " << k << ", set " << int(which) << ", size " << size);
        const MatrixXd x = size * support::random_matrix(r, k, 5);
        const MatrixXd expected = naive::newton_schulz(x, which);
        CHECK(support::relative_error(polar<double>(x, which), expected) < 1e-11);
        const MatrixXd rounded = x.cast<float>().cast<double>();
        CHECK(support::relative_error(polar<float>(x, which), naive::newton_schulz(rounded, which)) < 2e-4);
      }
}

TEST_CASE("Singular values go where the sets say, singular vectors stay", "[linalg]") {
  const struct {
    Polynomial which;
    double low, high;
  } images[] = {{Polynomial::Quintic, 0.682, 1.134}, {Polynomial::Tuned, 0.978, 1.032}, {Polynomial::PolarExpress, 0.859, 1.141}};
  const Index n = 24, k = 40;
  const MatrixXd U = Eigen::HouseholderQR<MatrixXd>(support::random_matrix(n, n, 1)).householderQ();
  const MatrixXd V = MatrixXd(Eigen::HouseholderQR<MatrixXd>(support::random_matrix(k, n, 2)).householderQ()).leftCols(n);
  Eigen::VectorXd sigma(n);
  for (Index i = 0; i < n; ++i) sigma(i) = std::pow(0.01, double(i) / double(n - 1));
  // a spectrum whose norm is that of its largest value keeps sigma / F in [0.01, 1]
  for (const auto& image : images)
    for (const double scale : {1.0, 1e-3, 1e10}) {
      INFO("set " << int(image.which) << ", scale " << scale);
      for (Index i = 0; i < n; ++i) {
        const MatrixXd one = scale * (U.col(0) * V.col(0).transpose() + sigma(i) * U.col(1) * V.col(1).transpose());
        const double norm = std::sqrt(1 + sigma(i) * sigma(i));
        const MatrixXd out = polar<double>(one, image.which);
        const double a = U.col(0).dot(out * V.col(0)), b = U.col(1).dot(out * V.col(1));
        if (1 / norm >= 0.01) CHECK((a > image.low - 0.005 && a < image.high + 0.005));
        if (sigma(i) / norm >= 0.01) CHECK((b > image.low - 0.005 && b < image.high + 0.005));
        CHECK((out - a * U.col(0) * V.col(0).transpose() - b * U.col(1) * V.col(1).transpose()).norm() < 1e-10);
      }
    }
}

TEST_CASE("Zero, the smallest and the largest numbers", "[linalg]") {
  for (const Polynomial which : all)
    for (const auto& [r, k] : shapes) {
      INFO(r << " x " << k << ", set " << int(which));
      CHECK(polar<float>(MatrixXd::Zero(r, k), which).isZero(0));
      const MatrixXd x = support::random_matrix(r, k, 5);
      for (const double size : {1e-44, 1e-30, 1e15, 1e37}) CHECK(polar<float>(size * x, which).allFinite());
      for (const double size : {5e-324, 1e-300, 1e150, 1e306}) CHECK(polar<double>(size * x, which).allFinite());
      // sizes beyond the square root of the largest number are orthogonalised like any other
      CHECK(support::relative_error(polar<float>(1e30 * x.cast<float>().cast<double>(), which), polar<float>(1e10 * x, which)) < 2e-4);
    }
}

TEST_CASE("Threads and a row-major copy do not change a bit, and nothing is allocated", "[linalg]") {
  const MatrixXd x = support::random_matrix(150, 333, 5), tall = x.transpose();
  for (const Polynomial which : all) {
    const MatrixXd first = polar<float>(x, which);
    for_each_thread_count([&] {
      bool allocated = false;
      CHECK(polar<float>(x, which, &allocated) == first);
      CHECK_FALSE(allocated);
      CHECK(polar<float>(tall, which) == first.transpose());
    });
  }
}

