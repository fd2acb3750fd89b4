#include <limits>

#include "linalg/workspace.hpp"
#include "support/catch.hpp"
#include "support/malloc_counter.hpp"

#include <lowrank/linalg/eigh.hpp>

using namespace lowrank_test;
namespace kernel = lowrank::kernel;

namespace {

enum class Kind { Random, Zero, Identity, RankOne, GradedDown, GradedUp, ThreeValues, HalfRank };
constexpr Kind kinds[] = {Kind::Random,     Kind::Zero,     Kind::Identity,    Kind::RankOne,
                          Kind::GradedDown, Kind::GradedUp, Kind::ThreeValues, Kind::HalfRank};

template <class S>
std::vector<S> example(Kind kind, Index n, double scale) {
  const auto x = random_matrix<double>(n, n, 5);
  const auto at = [&](Index i, Index j) { return x[std::size_t(i + j * n)]; };
  std::vector<S> a(std::size_t(n * n));
  for (Index j = 0; j < n; ++j)
    for (Index i = j; i < n; ++i) {
      const double place = double(i + j) / double(n), diagonal = i == j ? 1 : 0;
      double value = at(i, j);
      switch (kind) {
        case Kind::Random: break;
        case Kind::Zero: value = 0; break;
        case Kind::Identity: value = diagonal; break;
        case Kind::RankOne: value = at(i, 0) * at(j, 0); break;
        case Kind::GradedDown: value *= std::pow(10.0, -10 * place); break;
        case Kind::GradedUp: value *= std::pow(10.0, 10 * place - 20); break;
        case Kind::ThreeValues: value = diagonal * double(i % 3); break;
        case Kind::HalfRank:
          value = 0;
          for (Index p = 0; p < (n + 1) / 2; ++p) value += at(i, p) * at(j, p);
          break;
      }
      a[std::size_t(i + j * n)] = a[std::size_t(j + i * n)] = S(value * scale);
    }
  return a;
}

/// max |A V - V Lambda| / max |Lambda|.
template <class S>
double residual(Index n, const std::vector<S>& a, const std::vector<S>& V, const std::vector<S>& values) {
  double size = 0, worst = 0;
  for (S x : values) size = std::max(size, std::abs(double(x)));
  if (size == 0) size = 1;
  std::vector<double> column(static_cast<std::size_t>(n));
  for (Index j = 0; j < n; ++j) {
    for (Index i = 0; i < n; ++i)
      column[std::size_t(i)] = -(double(values[std::size_t(j)]) / size) * double(V[std::size_t(i + j * n)]);
    for (Index p = 0; p < n; ++p)
      for (Index i = 0; i < n; ++i)
        column[std::size_t(i)] += double(a[std::size_t(i + p * n)]) / size * double(V[std::size_t(p + j * n)]);
    for (double x : column) {
      if (!(x == x)) return x;
      worst = std::max(worst, std::abs(x));
    }
  }
  return worst;
}

template <class S, class K>
auto make_eigh(Index n) {
  return Owned([n](Arena& arena) { return lowrank::linalg::Eigh<S, K>(arena, n); });
}

template <class S, class K>
struct Case {
  using Scalar = S;
  using Kernel = K;
};
using FloatBest = Case<float, kernel::Best>;
using DoubleBest = Case<double, kernel::Best>;
using DoublePortable = Case<double, kernel::Portable>;

}  // namespace

TEMPLATE_TEST_CASE("A V = V Lambda, V^T V = I, Lambda descending", "", FloatBest, DoubleBest, DoublePortable) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  const double eps = double(std::numeric_limits<S>::epsilon());
  for (Index n : {1, 2, 3, 5, 16, 33, 100, 131, 257})
    for (Kind kind : kinds)
      for (double scale : {1.0, 1e-25, 1e25}) {
        if (scale != 1 && n > 100) continue;
        CAPTURE(n, int(kind), scale);
        const auto a = example<S>(kind, n, scale);
        auto V = a;
        std::vector<S> values(static_cast<std::size_t>(n));
        (*make_eigh<S, K>(n))(V.data(), values.data());
        CHECK(orthogonality(n, n, V.data()) < (20 + double(n) / 4) * eps);
        CHECK(residual(n, a, V, values) < (20 + double(n) / 4) * eps);
        CHECK(std::is_sorted(values.rbegin(), values.rend()));
      }
}

TEST_CASE("eigenvalues that are known") {
  // the second difference of n points: 2 - 2 cos(pi j / (n + 1))
  const Index n = 120;
  std::vector<double> a(std::size_t(n * n), 0.0), values(static_cast<std::size_t>(n));
  for (Index i = 0; i < n; ++i) {
    a[std::size_t(i + i * n)] = 2;
    if (i + 1 < n) a[std::size_t(i + 1 + i * n)] = -1;  // the upper triangle is not read
  }
  (*make_eigh<double, kernel::Best>(n))(a.data(), values.data());
  for (Index j = 0; j < n; ++j) {
    const double expected = 2 - 2 * std::cos(M_PI * double(n - j) / double(n + 1));
    CHECK(std::abs(values[std::size_t(j)] - expected) < 1e-14);
  }
}

TEST_CASE("the ends of the range of double, and beyond") {
  for (double scale : {1e-300, 1e300}) {
    const auto a = example<double>(Kind::Random, 20, scale);
    auto V = a;
    std::vector<double> values(20);
    (*make_eigh<double, kernel::Best>(20))(V.data(), values.data());
    CHECK(orthogonality(20, 20, V.data()) < 1e-14);
    CHECK(residual(20, a, V, values) < 1e-14);
  }
  auto a = example<double>(Kind::Random, 20, 1);
  a[45] = std::numeric_limits<double>::quiet_NaN();
  std::vector<double> values(20);
  (*make_eigh<double, kernel::Best>(20))(a.data(), values.data());
  CHECK(values == std::vector<double>(20, 0.0));
  CHECK(orthogonality(20, 20, a.data()) == 0);
}

TEMPLATE_TEST_CASE("eigh: the same bits for any number of threads, and no allocation", "", float, double) {
  const Index n = 217;
  const auto a = example<TestType>(Kind::HalfRank, n, 1);
  std::vector<TestType> first, values(static_cast<std::size_t>(n)), first_values;
  for_each_thread_count([&] {
    const auto eigh = make_eigh<TestType, kernel::Best>(n);
    auto V = a;
    (*eigh)(V.data(), values.data(), lowrank::detail::available_threads());
    V = a;
    const support::AllocationCount count;
    (*eigh)(V.data(), values.data(), lowrank::detail::available_threads());
    CHECK(count.since() == 0);
    if (first.empty()) {
      first = V;
      first_values = values;
    }
    CHECK(std::memcmp(first.data(), V.data(), V.size() * sizeof(TestType)) == 0);
    CHECK(std::memcmp(first_values.data(), values.data(), values.size() * sizeof(TestType)) == 0);
  });
}
