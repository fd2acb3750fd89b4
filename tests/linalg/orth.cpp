#include <limits>

#include "linalg/workspace.hpp"
#include "support/catch.hpp"
#include "support/malloc_counter.hpp"

#include <lowrank/linalg/orth.hpp>

using namespace lowrank_test;
namespace kernel = lowrank::kernel;

namespace {

enum class Kind { Gaussian, Zero, RankOne, Duplicated, Graded, GradedRows, NearlyDependent, HalfRank };
constexpr Kind kinds[] = {Kind::Gaussian, Kind::Zero,       Kind::RankOne,         Kind::Duplicated,
                          Kind::Graded,   Kind::GradedRows, Kind::NearlyDependent, Kind::HalfRank};

template <class S>
std::vector<S> example(Kind kind, Index d, Index r, double scale) {
  std::vector<double> y = random_matrix<double>(d, r, 7);
  const std::vector<double> base = y;
  for (Index j = 0; j < r; ++j)
    for (Index i = 0; i < d; ++i) {
      double& x = y[std::size_t(i + j * d)];
      switch (kind) {
        case Kind::Gaussian: break;
        case Kind::Zero: x = 0; break;
        case Kind::RankOne: x = base[std::size_t(i)] * double(1 + j); break;
        case Kind::Duplicated: x = base[std::size_t(i + j / 2 * 2 * d)]; break;
        case Kind::Graded: x *= std::pow(10.0, -8.0 * double(j) / double(r)); break;
        case Kind::GradedRows: x *= std::pow(10.0, -5.0 * double(i) / double(d)); break;
        case Kind::NearlyDependent: x = base[std::size_t(i)] + 1e-4 * x; break;
        case Kind::HalfRank:
          x = 0;
          for (Index p = 0; p < (r + 1) / 2; ++p)
            x += base[std::size_t(i + p * d)] * std::cos(double((p + 1) * (7 * j + 3)));
          break;
      }
    }
  std::vector<S> out;
  for (double x : y) out.push_back(S(x * scale));
  return out;
}

Index expected_rank(Kind kind, Index r) {
  switch (kind) {
    case Kind::Zero: return 0;
    case Kind::RankOne: return 1;
    case Kind::Duplicated: return (r + 1) / 2;
    default: return r;
  }
}

/// The longest part of a column of y outside span(Q), relative to the column.
template <class S>
double outside(Index d, Index r, const std::vector<S>& y, const std::vector<S>& Q) {
  double worst = 0;
  for (Index j = 0; j < r; ++j) {
    double largest = 0, length = 0, rest = 0;
    for (Index i = 0; i < d; ++i) largest = std::max(largest, std::abs(double(y[std::size_t(i + j * d)])));
    if (largest == 0) continue;
    std::vector<double> v;
    for (Index i = 0; i < d; ++i) v.push_back(double(y[std::size_t(i + j * d)]) / largest);
    for (double x : v) length += x * x;
    std::vector<double> along(std::size_t(r), 0.0);
    for (Index p = 0; p < r; ++p)
      for (Index i = 0; i < d; ++i) along[std::size_t(p)] += v[std::size_t(i)] * double(Q[std::size_t(i + p * d)]);
    for (Index p = 0; p < r; ++p)
      for (Index i = 0; i < d; ++i) v[std::size_t(i)] -= along[std::size_t(p)] * double(Q[std::size_t(i + p * d)]);
    for (double x : v) rest += x * x;
    worst = std::max(worst, std::sqrt(rest / length));
  }
  return worst;
}

template <class S, class K>
struct Case {
  using Scalar = S;
  using Kernel = K;
};
using FloatBest = Case<float, kernel::Best>;
using DoubleBest = Case<double, kernel::Best>;
using FloatPortable = Case<float, kernel::Portable>;

template <class S, class K>
auto make_orth(Index d, Index r) {
  return Owned([d, r](Arena& arena) { return lowrank::linalg::Orth<S, K>(arena, d, r); });
}

}  // namespace

TEMPLATE_TEST_CASE("an orthonormal basis that contains the columns", "", FloatBest, DoubleBest, FloatPortable) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  const double eps = double(std::numeric_limits<S>::epsilon());
  const std::pair<Index, Index> shapes[] = {{1, 1}, {9, 1}, {5, 5}, {64, 17}, {300, 64}, {131, 131}, {517, 259}};
  for (const auto& [d, r] : shapes)
    for (Kind kind : kinds)
      for (double scale : {1.0, 1e-30, 1e30}) {
        if (scale != 1 && d * r > 20000) continue;
        CAPTURE(d, r, int(kind), scale);
        const auto y = example<S>(kind, d, r, scale);
        auto Q = y;
        const Index rank = (*make_orth<S, K>(d, r))(Q.data(), *make_team<S, K>(d));
        CHECK(orthogonality(d, r, Q.data()) < (sizeof(S) == 4 ? 1e-6 : 3e-15));
        CHECK(outside(d, r, y, Q) < 64 * eps);
        if (kind == Kind::NearlyDependent || kind == Kind::GradedRows || kind == Kind::HalfRank) {
          CHECK((rank >= std::min<Index>(r, (r + 1) / 2) && rank <= r));
        } else {
          CHECK(rank == expected_rank(kind, r));
        }
      }
}

TEMPLATE_TEST_CASE("nothing to orthonormalise gives the first unit vectors", "", float, double) {
  const Index d = 70, r = 40;
  std::vector<TestType> Q(std::size_t(d * r), TestType(0));
  CHECK((*make_orth<TestType, kernel::Best>(d, r))(Q.data(), *make_team<TestType, kernel::Best>(d)) == 0);
  for (Index j = 0; j < r; ++j)
    for (Index i = 0; i < d; ++i) REQUIRE(Q[std::size_t(i + j * d)] == TestType(i == j ? 1 : 0));
}

TEST_CASE("a column that is not finite counts as zero") {
  const Index d = 50, r = 4;
  auto Q = random_matrix<float>(d, r, 3);
  Q[std::size_t(d + 5)] = std::numeric_limits<float>::quiet_NaN();
  Q[std::size_t(3 * d)] = std::numeric_limits<float>::infinity();
  CHECK((*make_orth<float, kernel::Best>(d, r))(Q.data(), *make_team<float, kernel::Best>(d)) == 2);
  CHECK(orthogonality(d, r, Q.data()) < 1e-6);
}

TEST_CASE("the ends of the range of float") {
  const Index d = 40, r = 7;
  for (double scale : {1e-43, 1e-38, 3e37}) {
    CAPTURE(scale);
    auto Q = random_matrix<float>(d, r, 3);
    for (float& x : Q) x = float(double(x) * scale);
    CHECK((*make_orth<float, kernel::Best>(d, r))(Q.data(), *make_team<float, kernel::Best>(d)) == r);
    CHECK(orthogonality(d, r, Q.data()) < 1e-6);
  }
}

TEMPLATE_TEST_CASE("orth: the same bits for any number of threads, and no allocation", "", float, double) {
  using K = kernel::Best;
  const std::pair<Index, Index> shapes[] = {{700, 70}, {300, 290}};
  for (const auto& [d, r] : shapes)
    for (Kind kind : {Kind::Gaussian, Kind::HalfRank, Kind::Zero}) {
      CAPTURE(d, r, int(kind));
      std::vector<TestType> first;
      for_each_thread_count([&, d = d, r = r] {
        const auto team = make_team<TestType, K>(d);
        const auto orth = make_orth<TestType, K>(d, r);
        const auto y = example<TestType>(kind, d, r, 1);
        auto Q = y;
        (*orth)(Q.data(), *team);  // the first parallel region makes its threads
        Q = y;
        const support::AllocationCount count;
        (*orth)(Q.data(), *team);
        CHECK(count.since() == 0);
        if (first.empty()) first = Q;
        CHECK(std::memcmp(first.data(), Q.data(), Q.size() * sizeof(TestType)) == 0);
      });
    }
}
