// The only file that may use Eigen's SVD: an oracle that shares no line with ours.
#include <limits>

#include <Eigen/QR>
#include <Eigen/SVD>

#include "linalg/workspace.hpp"
#include "support/catch.hpp"
#include "support/malloc_counter.hpp"

#include <lowrank/linalg/svd.hpp>

using namespace lowrank_test;
using lowrank::linalg::Source;
using lowrank::linalg::TruncatedSvd;
using K = lowrank::kernel::Best;

namespace {

using Matrix = Eigen::MatrixXd;
template <class S>
using MatrixOf = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic>;

template <class S>
struct Result {
  MatrixOf<S> P, Q;
  Eigen::VectorXd sigma;
  Index found = 0;
};

template <class S>
Source<S, K> operand(const MatrixOf<S>& a) {
  return {{a.data(), sizeof(S) == 4 ? lowrank::Dtype::F32 : lowrank::Dtype::F64, 1, a.rows()}, a.rows(), a.cols()};
}

template <class S>
auto make_svd(Index d, Index k, Index r) {
  return Owned([=](Arena& arena) { return TruncatedSvd<S, K>(arena, d, k, r); });
}

template <class S>
Result<S> decompose(const MatrixOf<S>& a, Index r) {
  Result<S> out{MatrixOf<S>(a.rows(), r), MatrixOf<S>(a.cols(), r), Eigen::VectorXd(r)};
  out.found = (*make_svd<S>(a.rows(), a.cols(), r))(operand(a), out.P.data(), out.Q.data(), out.sigma.data(),
                                                    *make_team<S, K>(std::max(a.rows(), a.cols())));
  return out;
}

Matrix gaussian(Index rows, Index cols, unsigned seed) {
  return Eigen::Map<const Matrix>(random_matrix<double>(rows, cols, seed).data(), rows, cols);
}

Matrix orthonormal(Index rows, Index cols, unsigned seed) {
  return Eigen::HouseholderQR<Matrix>(gaussian(rows, cols, seed)).householderQ() * Matrix::Identity(rows, cols);
}

template <class F>
Matrix with_spectrum(Index d, Index k, const F& sigma) {
  const Index n = std::min(d, k);
  return orthonormal(d, n, 1) * Eigen::VectorXd::NullaryExpr(n, sigma).asDiagonal() * orthonormal(k, n, 2).transpose();
}

/// What every result has: orthonormal factors, A Q = P Sigma, A^T P = Q Sigma, sigma descending, the sign convention.
template <class S>
void check_laws(const MatrixOf<S>& a, const Result<S>& x) {
  const double tolerance = sizeof(S) == 4 ? 3e-7 : 1e-13;
  const Index r = x.P.cols();
  const Matrix P = x.P.template cast<double>(), Q = x.Q.template cast<double>();
  CHECK(orthogonality(P.rows(), r, P.data()) < tolerance);
  CHECK(orthogonality(Q.rows(), r, Q.data()) < tolerance);
  const double size = x.sigma[0] > 0 ? x.sigma[0] : 1;
  const Matrix A = a.template cast<double>() / size;
  const Eigen::VectorXd sigma = x.sigma / size;
  CHECK((A * Q - P * sigma.asDiagonal()).cwiseAbs().maxCoeff() < tolerance);
  CHECK((A.transpose() * P - Q * sigma.asDiagonal()).cwiseAbs().maxCoeff() < tolerance);
  for (Index j = 0; j < r; ++j) {
    Index at = 0;
    x.P.col(j).cwiseAbs().maxCoeff(&at);
    CHECK(x.P(at, j) > 0);
    if (j > 0) CHECK(x.sigma[j] <= x.sigma[j - 1]);
    CHECK((j < x.found) == (x.sigma[j] > 0));
  }
}

/// sin of the angle between two unit vectors, without cancellation.
double angle(const Eigen::VectorXd& x, const Eigen::VectorXd& y) { return (x - y * y.dot(x)).norm(); }

}  // namespace

TEMPLATE_TEST_CASE("the laws of a truncated SVD", "", float, double) {
  const std::tuple<Index, Index, Index> shapes[] = {{1, 1, 1},    {1, 9, 1},    {9, 1, 1},     {5, 9, 3},
                                                    {40, 30, 30}, {30, 40, 10}, {97, 150, 97}, {150, 61, 17}};
  for (const auto& [d, k, r] : shapes)
    for (double scale : {1.0, 1e-30, 1e30}) {
      CAPTURE(d, k, r, scale);
      const auto n = double(std::min(d, k));
      const Matrix examples[] = {gaussian(d, k, 3), with_spectrum(d, k, [n](Index i) { return std::pow(570, -double(i) / n); }),
                                 with_spectrum(d, k, [](Index i) { return std::pow(double(i + 1), -0.8); })};
      for (const Matrix& example : examples) {
        const MatrixOf<TestType> a = (example * scale).template cast<TestType>();
        const auto x = decompose(a, r);
        CHECK(x.found == r);
        check_laws(a, x);
      }
    }
}

TEST_CASE("svd against an independent one") {
  for (const auto& [d, k] : {std::pair<Index, Index>{40, 30}, {37, 80}}) {
    const Index n = std::min(d, k);
    const Matrix a = with_spectrum(d, k, [n](Index i) { return std::pow(570, -double(i) / double(n)); });
    const Eigen::JacobiSVD<Matrix> oracle(a, Eigen::ComputeThinU | Eigen::ComputeThinV);
    const auto x = decompose<double>(a, n);
    for (Index i = 0; i < n; ++i) {
      CHECK(std::abs(x.sigma[i] / oracle.singularValues()[i] - 1) < 1e-13);
      CHECK(angle(x.P.col(i), oracle.matrixU().col(i)) < 1e-11);
      CHECK(angle(x.Q.col(i), oracle.matrixV().col(i)) < 1e-11);
    }
  }
}

TEST_CASE("small singular values are as good as the matrix: twelve orders of magnitude, columns graded") {
  const Index d = 60, k = 24;
  Matrix a = orthonormal(d, k, 4);
  for (Index j = 0; j < k; ++j) a.col(j) *= std::pow(10, -double(j) / 2);
  const auto x = decompose<double>(a, k);
  CHECK(x.found == k);
  for (Index j = 0; j < k; ++j) {
    CHECK(std::abs(x.sigma[j] / std::pow(10, -double(j) / 2) - 1) < 1e-13);
    CHECK(angle(x.P.col(j), a.col(j).normalized()) < 1e-13);
  }
}

TEMPLATE_TEST_CASE("singular values of zero: unit vectors in index order", "", float, double) {
  for (const auto& [d, k] : {std::pair<Index, Index>{30, 50}, {50, 30}}) {
    MatrixOf<TestType> a = MatrixOf<TestType>::Zero(d, k);
    auto x = decompose(a, 7);
    CHECK(x.found == 0);
    CHECK(x.P == MatrixOf<TestType>::Identity(d, 7));
    CHECK(x.Q == MatrixOf<TestType>::Identity(k, 7));

    a(2, 3) = TestType(-4);  // e_2 e_3^T: what is completed skips e_2 and e_3
    x = decompose(a, 4);
    CHECK(x.found == 1);
    check_laws(a, x);
    for (Index j = 0; j < 4; ++j) CHECK(x.P(j == 0 ? 2 : j < 3 ? j - 1 : j, j) == 1);

    a.topRows(3) = gaussian(3, k, 8).template cast<TestType>();
    x = decompose(a, 9);
    CHECK(x.found == 3);
    check_laws(a, x);

    a(1, 1) = std::numeric_limits<TestType>::quiet_NaN();
    x = decompose(a, 2);
    CHECK(x.found == 0);
    CHECK(x.P == MatrixOf<TestType>::Identity(d, 2));
  }
}

TEST_CASE("many equal singular values") {
  const Matrix a = with_spectrum(60, 80, [](Index i) { return i < 20 ? 2.0 : 1.0; });
  const auto x = decompose<double>(a, 20);
  check_laws(a, x);
  CHECK((x.sigma.array() - 2).abs().maxCoeff() < 1e-13);
  // the subspace is unique though its vectors are not: P P^T = U U^T, and A A^T = 3 U U^T + I
  CHECK((3 * (x.P * x.P.transpose()) - (a * a.transpose() - Matrix::Identity(60, 60))).cwiseAbs().maxCoeff() < 1e-12);
}

TEMPLATE_TEST_CASE("svd: the same bits for any number of threads and storage order, and no allocation", "", float,
                   double) {
  for (const auto& [d, k, r] : {std::tuple<Index, Index, Index>{90, 213, 40}, {213, 90, 90}}) {
    const MatrixOf<TestType> a =
        with_spectrum(d, k, [](Index i) { return std::pow(double(i + 1), -1.5); }).template cast<TestType>();
    const MatrixOf<TestType> flipped = a.transpose();
    auto by_rows = operand(flipped);
    std::swap(by_rows.gradient.row_stride, by_rows.gradient.col_stride);
    std::swap(by_rows.rows, by_rows.cols);
    const auto first = decompose(a, r);
    auto x = first;
    for_each_thread_count([&, d = d, k = k, r = r] {
      const auto svd = make_svd<TestType>(d, k, r);
      const auto team = make_team<TestType, K>(std::max(d, k));
      for (const auto& source : {operand(a), by_rows}) {
        (*svd)(source, x.P.data(), x.Q.data(), x.sigma.data(), *team);
        const support::AllocationCount count;
        (*svd)(source, x.P.data(), x.Q.data(), x.sigma.data(), *team);
        CHECK(count.since() == 0);
        CHECK(x.P == first.P);
        CHECK(x.Q == first.Q);
        CHECK(x.sigma == first.sigma);
        (*svd)(source, x.P.data(), nullptr, x.sigma.data(), *team);
        CHECK(x.P == first.P);
      }
    });
  }
}
