// The laws of the estimators: mean, variance and the bias of the square root, against their closed forms.
#include <numbers>

#include "jacobian/networks.hpp"

#include <lowrank/jacobian/penalty.hpp>

using namespace lowrank_test;

namespace {

/// Estimates of |J|_F^2 (or its root) for the linear map J, with fresh projections each.
struct Moments {
  double mean = 0, variance = 0;
};
template <class Term>
Moments sample(const Matrix<double>& J, Projection p, Term term, int draws) {
  const Mlp<double> net(std::vector<Layer<double>>{{J}}, {Nonlinearity::Identity});
  auto cache = net.cache(1, 1);
  const Matrix<double> x = Matrix<double>::Ones(J.cols(), 1);
  Matrix<double> y(J.rows(), 1);
  net.forward(batch(x), cache, batch(y));
  Penalty penalty(p, term);
  Moments m;
  double squares = 0;
  for (int t = 0; t < draws; ++t) {
    const double value = penalty.value(net, cache, x, {7, std::uint64_t(t)});
    m.mean += value / draws;
    squares += value * value / draws;
  }
  m.variance = squares - m.mean * m.mean;
  return m;
}

}  // namespace

TEST_CASE("estimates of the squared norm have the mean and the variance of their law") {
  const int draws = 40000;
  Matrix<double> rank_one = random_matrix(5, 1, 3) * random_matrix(1, 4, 4), random = random_matrix(5, 4, 5);
  for (const Matrix<double>& J : {rank_one, random}) {
    const Matrix<double> M = J * J.transpose();
    const double C = 5, trace = M.trace(), square = M.squaredNorm(), diagonal = M.diagonal().squaredNorm();
    const double sphere = 2 / (C + 2) * (C * square - trace * trace);
    struct Row {
      Projection p;
      double variance;
    };
    for (const Row& row :
         {Row{{Law::Sphere, 1}, sphere}, Row{{Law::Sphere, 3}, sphere / 3}, Row{{Law::Gaussian, 1}, 2 * square},
          Row{{Law::Gaussian, 2}, square}, Row{{Law::Rademacher, 1}, 2 * (square - diagonal)},
          Row{{Law::Coordinate, 1}, C * diagonal - trace * trace},
          Row{{Law::Orthonormal, 2}, sphere * (C - 2) / (2 * (C - 1))},
          Row{{Law::Orthonormal, 4}, sphere * (C - 4) / (4 * (C - 1))}, Row{{Law::Orthonormal, 5}, 0},
          Row{{Law::Exact}, 0}}) {
      CAPTURE(int(row.p.law), row.p.n);
      const Moments m = sample(J, row.p, SquaredFrobenius{1}, draws);
      CHECK(std::abs(m.mean - trace) <= 4 * std::sqrt(row.variance / draws) + 1e-12 * trace);
      CHECK(std::abs(m.variance - row.variance) <= 0.1 * row.variance + 1e-10 * trace * trace);
    }
  }
}

TEST_CASE("a Rademacher estimate is exact when J J^T is diagonal") {
  Matrix<double> J = Matrix<double>::Zero(3, 3);
  J.diagonal() << 1, 2, 3;
  CHECK(sample(J, {Law::Rademacher, 1}, SquaredFrobenius{1}, 50).variance < 1e-10);
}

// E r / |J|_F for rank-one J is sqrt(C) Gamma(C/2) / (sqrt(pi) Gamma((C+1)/2)).
TEST_CASE("the square root's estimate is low by the known factor, except for isotropic J and for one output") {
  for (const Index C : {2, 5, 10}) {
    const Matrix<double> J = random_matrix(C, 1, 3) * random_matrix(1, 3, 4);
    const double c = double(C);
    const double factor =
        std::sqrt(c) * std::numbers::inv_sqrtpi * std::exp(std::lgamma(c / 2) - std::lgamma((c + 1) / 2));
    const Moments m = sample(J, {}, FrobeniusNorm{}, 40000);
    CHECK(std::abs(m.mean / J.norm() - factor) <= 4 * std::sqrt(m.variance / 40000) / J.norm());
  }
  CHECK(sample(Matrix<double>::Identity(4, 4), {}, FrobeniusNorm{}, 20).mean == Catch::Approx(2).epsilon(1e-12));
  const Matrix<double> row = random_matrix(1, 6, 8);
  const Moments one = sample(row, {}, FrobeniusNorm{}, 20);
  CHECK(one.mean == Catch::Approx(row.norm()).epsilon(1e-12));
  CHECK(one.variance < 1e-20);
}

TEST_CASE("projections are drawn afresh for every sample and step, and repeat with the draw") {
  const auto drawn = [](Projection p, Draw d) {
    Matrix<double> V(4, 2 * 3);
    lowrank::jacobian::detail::draw<kernel::Best>(p, 2, 4, 3, d, V.data());
    return V;
  };
  for (const Law law : {Law::Sphere, Law::Gaussian, Law::Rademacher, Law::Orthonormal}) {
    const Matrix<double> V = drawn({law, 2}, {1, 2});
    CHECK(V == drawn({law, 2}, {1, 2}));
    CHECK(V != drawn({law, 2}, {1, 3}));
    CHECK(V != drawn({law, 2}, {2, 2}));
    CHECK(V.col(0) != V.col(1));
    if (law != Law::Sphere && law != Law::Orthonormal) continue;
    for (Index j = 0; j < 6; ++j) CHECK(std::abs(V.col(j).norm() - 1) < 1e-14);
    if (law == Law::Orthonormal)
      for (Index b = 0; b < 3; ++b) CHECK(std::abs(V.col(b).dot(V.col(3 + b))) < 1e-14);
  }
}
