// The cosine transform against its definition, its reference vectors and its own laws, for every kind of length.
#include <cmath>
#include <vector>

#include <support/catch.hpp>
#include <support/golden.hpp>
#include <support/malloc_counter.hpp>
#include <support/placed.hpp>

#include <lowrank/kernel/kernel.hpp>
#include <lowrank/linalg/dct.hpp>

using namespace lowrank;
using Eigen::MatrixXd;

namespace {

using K = kernel::Best;

/// A transform of `lanes` signals, one per column.
template <class S>
struct Signals {
  static constexpr Index lanes = K::lanes<S>;
  linalg::Dct<S, K> plan;
  Buffer<S> x, work;

  explicit Signals(Index n) : plan(n), x(n * lanes, 1), work(plan.work_size(), 1) {}
  void set(const MatrixXd& m) {
    for (Index l = 0; l < lanes; ++l)
      for (Index i = 0; i < m.rows(); ++i) x[i * lanes + l] = S(m(i, l % m.cols()));
  }
  MatrixXd get() const {
    MatrixXd m(plan.size(), lanes);
    for (Index l = 0; l < lanes; ++l)
      for (Index i = 0; i < m.rows(); ++i) m(i, l) = double(x[i * lanes + l]);
    return m;
  }
  MatrixXd dct2(const MatrixXd& m) {
    set(m);
    plan.dct2(x.data(), work.data());
    return get();
  }
  MatrixXd dct3(const MatrixXd& m) {
    set(m);
    plan.dct3(x.data(), work.data());
    return get();
  }
};

/// Row k of the orthonormal DCT-II, the angle reduced in integers.
Eigen::RowVectorXd cosines(Index k, Index n) {
  Eigen::RowVectorXd row(n);
  for (Index j = 0; j < n; ++j)
    row(j) = std::sqrt((k == 0 ? 1 : 2) / double(n)) *
             std::cos(std::acos(-1.0) * double(k * (2 * j + 1) % (4 * n)) / double(2 * n));
  return row;
}

std::vector<Index> lengths() {
  std::vector<Index> all;
  for (Index n = 1; n <= 140; ++n) all.push_back(n);
  // powers of two, smooth numbers, primes beyond every table, and their multiples
  for (const Index n : {256, 337, 343, 384, 509, 512, 625, 719, 768, 1009, 1024, 1331, 1365, 2048, 2731, 4093, 4096, 5461})
    all.push_back(n);
  return all;
}

}  // namespace

TEST_CASE("DCT-II and DCT-III, reference vectors", "[dct][golden]") {
  for (const Index n : {1, 2, 5, 8, 16, 30, 64, 101, 384, 1365}) {
    INFO("length " << n);
    const support::Golden golden("dct." + std::to_string(n));
    Signals<double> transform(n);
    const MatrixXd x = golden.matrix("x").transpose();
    const auto first = [&](const MatrixXd& m) { return MatrixXd(m.leftCols(x.cols())); };
    CHECK(support::relative_error(first(transform.dct2(x)), golden.matrix("dct2_rows").transpose()) < 1e-12);
    CHECK(support::relative_error(first(transform.dct3(x)), golden.matrix("dct3_rows").transpose()) < 1e-12);
  }
}

TEMPLATE_TEST_CASE("Every length agrees with the definition, and the transforms are inverse", "[dct]", float, double) {
  // rounding grows like log n; a wrong factor or index is an error of order one
  const double eps = double(std::numeric_limits<TestType>::epsilon());
  for (const Index n : lengths()) {
    INFO("length " << n);
    Signals<TestType> transform(n);
    transform.set(support::random_matrix(n, Signals<TestType>::lanes, unsigned(n)));
    const MatrixXd x = transform.get();  // rounded to the scalar
    const MatrixXd c = transform.dct2(x);
    const double size = x.norm(), allowed = 8 * eps * std::log2(2.0 + double(n)) * size;
    double worst = 0;
    for (Index k = 0; k < n; k += 1 + n / 200) worst = std::max(worst, (cosines(k, n) * x - c.row(k)).norm());
    CHECK(worst < allowed);
    CHECK(std::abs(c.norm() - size) < allowed);
    CHECK((transform.dct3(c) - x).norm() < 2 * allowed);
  }
}

TEMPLATE_TEST_CASE("Lanes are independent: a signal has the same bits in every lane", "[dct]", float, double) {
  for (const Index n : {30, 64, 97, 101, 509, 1365}) {
    Signals<TestType> transform(n);
    const MatrixXd one = support::random_matrix(n, 1, 3);
    for (const MatrixXd& result : {transform.dct2(one), transform.dct3(one)})
      for (Index l = 1; l < result.cols(); ++l) CHECK(result.col(l) == result.col(0));
  }
}

TEST_CASE("The kernels agree", "[dct]") {
  for (const Index n : {30, 64, 101, 509, 1365}) {
    const Index lanes = kernel::Portable::lanes<double>;
    const linalg::Dct<double, kernel::Portable> plan(n);
    Buffer<double> x(n * lanes, 1), work(plan.work_size(), 1);
    const MatrixXd one = support::random_matrix(n, 1, 3);
    for (Index i = 0; i < n * lanes; ++i) x[i] = one(i / lanes, 0);
    plan.dct2(x.data(), work.data());
    const MatrixXd best = Signals<double>(n).dct2(one);
    for (Index i = 0; i < n; ++i) CHECK(std::abs(x[i * lanes] - best(i, 0)) < 1e-12);
  }
}

TEST_CASE("A transform allocates nothing", "[dct]") {
  if (!support::AllocationCount::counted) SKIP("allocations are not counted in this build");
  for (const Index n : {64, 101, 509, 1365}) {
    Signals<float> transform(n);
    const support::AllocationCount count;
    transform.plan.dct2(transform.x.data(), transform.work.data());
    transform.plan.dct3(transform.x.data(), transform.work.data());
    CHECK(count.since() == 0);
  }
}
