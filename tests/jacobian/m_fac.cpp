// Inverse Fisher products against dense inverses, the paper's recursion and the numbers worked out by hand.
#include "jacobian/networks.hpp"

#include <support/malloc_counter.hpp>

#include <lowrank/jacobian/m_fac.hpp>

using namespace lowrank_test;

namespace {

/// damp I + (1/m) sum g g^T, solved by Gauss-Jordan with pivots.
Matrix<double> dense_inverse(const Matrix<double>& G, double m, double damp) {
  const Index D = G.rows();
  Matrix<double> A(D, 2 * D);
  A.leftCols(D) = damp * Matrix<double>::Identity(D, D) + G * G.transpose() / m;
  A.rightCols(D).setIdentity();
  for (Index i = 0; i < D; ++i) {
    Index best = 0;
    A.col(i).tail(D - i).cwiseAbs().maxCoeff(&best);
    A.row(i).swap(A.row(i + best));
    A.row(i) /= double(A(i, i));
    for (Index j = 0; j < D; ++j)
      if (j != i) A.row(j) -= double(A(j, i)) * A.row(i);
  }
  return A.rightCols(D);
}

/// H <- H - (H g)(H g)^T / (m + g^T H g) from I / damp, as published.
Matrix<double> recursion(const Matrix<double>& G, double m, double damp) {
  Matrix<double> H = Matrix<double>::Identity(G.rows(), G.rows()) / damp;
  for (Index i = 0; i < G.cols(); ++i) {
    const Vector<double> Hg = H * G.col(i);
    H -= Hg * Hg.transpose() / (m + G.col(i).dot(Hg));
  }
  return H;
}

}  // namespace

TEST_CASE("the worked example") {
  Matrix<double> G(3, 2);
  G << 1, 0, 0, 1, 2, 1;
  const Vector<double> x = Vector<double>::Ones(3),
                       expected = (Vector<double>(3) << 9.0 / 7, 8.0 / 7, -2.0 / 7).finished();
  const Vector<double> diagonal = (Vector<double>(3) << 11.0 / 7, 8.0 / 7, 4.0 / 7).finished();
  SlidingFisher<double> sliding(3, 2, 0.5);
  Vector<double> y(3);
  for (Index i = 0; i < 2; ++i) sliding.push(G.col(i).eval());
  sliding.multiply(x, y);
  const StaticFisher<double> fixed(G, 0.5, 3);
  CHECK((y - expected).cwiseAbs().maxCoeff() < 1e-14);
  CHECK((fixed.multiply(x) - expected).cwiseAbs().maxCoeff() < 1e-14);
  CHECK((fixed.diagonal() - diagonal).cwiseAbs().maxCoeff() < 1e-14);
}

TEST_CASE("the sliding window is the inverse of the last gradients at every step, allocating nothing") {
  const Index D = 11, m = 4;
  const double damp = 0.03;
  const Matrix<double> all = random_matrix(D, 10, 1), x = random_matrix(D, 1, 2);
  SlidingFisher<double> window(D, m, damp);
  Vector<double> y(D);
  window.multiply(x, y);
  CHECK((y - x / damp).cwiseAbs().maxCoeff() < 1e-12);
  for (Index t = 0; t < 10; ++t) {
    const Vector<double> g = all.col(t);
    const support::AllocationCount count;
    window.push(g);
    window.multiply(x, y);
    if (support::AllocationCount::counted) CHECK(count.since() == 0);
    const Index have = std::min(m, t + 1);
    const Matrix<double> last = all.middleCols(t + 1 - have, have);
    CHECK((y - dense_inverse(last, double(m), damp) * x).cwiseAbs().maxCoeff() < 1e-10 / damp);
    CHECK((y - recursion(last, double(m), damp) * x).cwiseAbs().maxCoeff() < 1e-10 / damp);
  }
  Vector<double> in_place = x;
  window.multiply(in_place, in_place);
  CHECK(in_place == y);
}

TEST_CASE("static blocks are the inverses of the diagonal blocks") {
  const Index D = 10;
  const Matrix<double> G = random_matrix(D, 6, 3), x = random_matrix(D, 1, 4);
  for (const Index block : {10, 4, 1, 50}) {
    CAPTURE(block);
    Matrix<double> H = Matrix<double>::Zero(D, D);
    for (Index i = 0; i < D; i += block) {
      const Index n = std::min(block, D - i);
      H.block(i, i, n, n) = dense_inverse(G.middleRows(i, n), 6, 0.1);
    }
    const StaticFisher<double> fisher(G, 0.1, block);
    CHECK((fisher.multiply(x) - H * x).cwiseAbs().maxCoeff() < 1e-11);
    CHECK((fisher.diagonal() - H.diagonal()).cwiseAbs().maxCoeff() < 1e-11);
  }
}

TEST_CASE("float gradients with the published damping keep the accuracy of double sums") {
  const Index D = 300, m = 20;
  const Matrix<float> G = (1e-2 * random_matrix(D, m, 5)).cast<float>();
  const Vector<float> x = random_matrix(D, 1, 6).cast<float>();
  const StaticFisher<float> narrow(G, 1e-5, D);
  const StaticFisher<double> wide(G.cast<double>(), 1e-5, D);
  const Vector<double> exact = wide.multiply(x.cast<double>());
  CHECK((narrow.multiply(x).cast<double>() - exact).norm() < 1e-5 * exact.norm());
  // equal gradients: the system is singular but for the damping
  SlidingFisher<float> same(D, m, 1e-5);
  for (Index i = 0; i < m; ++i) same.push(G.col(0).eval());
  Vector<float> y(D);
  same.multiply(x, y);
  CHECK(y.allFinite());
}

TEST_CASE("M-FAC refuses what has no meaning") {
  CHECK_THROWS_AS(SlidingFisher<double>(0, 3, 0.1), std::invalid_argument);
  CHECK_THROWS_AS(SlidingFisher<double>(3, 3, 0), std::invalid_argument);
  CHECK_THROWS_AS(StaticFisher<double>(Matrix<double>::Zero(3, 2), 0.1, 0), std::invalid_argument);
  SlidingFisher<double> f(3, 2, 0.1);
  CHECK_THROWS_AS(f.push(Vector<double>::Zero(4).eval()), std::invalid_argument);
}
