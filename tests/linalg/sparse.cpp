#include <lowrank/linalg/sparse.hpp>

#include "linalg/workspace.hpp"
#include "support/catch.hpp"
#include "support/malloc_counter.hpp"
#include "support/placed.hpp"

using namespace lowrank_test;
using lowrank::linalg::Factor;
using lowrank::linalg::memory;
using lowrank::linalg::SparseProduct;
using lowrank::linalg::Support;
using support::Order;
using support::Placed;

namespace {

Eigen::MatrixXd dense(const Support& at, const std::vector<double>& values) {
  Eigen::MatrixXd S = Eigen::MatrixXd::Zero(at.rows(), at.cols());
  for (Index i = 0; i < at.rows(); ++i)
    for (Index k = at.begin(i); k < at.end(i); ++k) S(i, at.column(k)) = values[std::size_t(k)];
  return S;
}

template <class S, class K>
struct Case {
  using Scalar = S;
  using Kernel = K;
};

}  // namespace

TEMPLATE_TEST_CASE("sparse products are the dense ones, to the bit alike for orders, offsets and threads", "",
                   (Case<double, lowrank::kernel::Best>), (Case<float, lowrank::kernel::Best>), (Case<float, lowrank::kernel::Portable>)) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  struct Shape { Index m, n, count, tokens; };
  for (const auto& [m, n, count, tokens] : {Shape{37, 70, 300, 333}, Shape{37, 1100, 900, 1290}, Shape{70, 37, 2590, 64}, Shape{5, 9, 0, 10}, Shape{1, 1, 1, 1},
                                            Shape{3, 66000, 500, 3}}) {
    const Support at = Support::random(m, n, count, 3, 0);
    REQUIRE(at.entries() == count);
    std::vector<double> values;
    const Eigen::MatrixXd source = support::random_matrix(count, 1, 2).template cast<S>().template cast<double>();
    for (Index k = 0; k < count; ++k) values.push_back(source(k, 0));
    const std::vector<S> v(values.begin(), values.end());
    const Eigen::MatrixXd D = dense(at, values), X = support::random_matrix(n, tokens, 3), dY = support::random_matrix(m, tokens, 4);
    const Eigen::MatrixXd Y0 = support::random_matrix(m, tokens, 5), dX0 = support::random_matrix(n, tokens, 6);
    std::vector<S> first;
    for (const Order order : {Order::Columns, Order::Rows})
      for (const Index offset : {0, 1}) {
        for_each_thread_count([&, m = m, n = n, count = count, tokens = tokens] {
          CAPTURE(m, n, order == Order::Rows, offset);
          Placed<S> x(X, order, offset, 1), dy(dY, order, offset, 2), y(Y0, order, offset, 3), dx(dX0, order, offset, 1);
          std::vector<S> dv(std::size_t(count), S(1));
          const Owned product([m = m, n = n, count = count](lowrank::Arena& arena) {
            return SparseProduct<S, K>(arena, lowrank::detail::available_threads(), m, n, count);
          });
          const Factor<S, K> fx(memory(x.view())), fdy(memory(dy.view()));
          product->multiply(at, v.data(), tokens, fx, memory(y.view()));
          product->transposed(at, v.data(), tokens, fx, fdy, memory(dx.view()), dv.data());
          std::vector<S> all = y.elements();
          for (const auto& part : {dx.elements(), dv}) all.insert(all.end(), part.begin(), part.end());
          if (first.empty()) first = all;
          CHECK(support::same_bits(all, first));
          const double eps = sizeof(S) == 8 ? 1e-13 : 1e-5;
          CHECK((y.values() - Y0 - D * X).norm() < eps * (1 + (D * X).norm() + Y0.norm()));
          CHECK((dx.values() - dX0 - D.transpose() * dY).norm() < eps * (1 + (D.transpose() * dY).norm() + dX0.norm()));
          double worst = 0;
          for (Index i = 0; i < m; ++i)
            for (Index k = at.begin(i); k < at.end(i); ++k)
              worst = std::max(worst, std::abs(double(dv[std::size_t(k)]) - 1 - dY.row(i).dot(X.row(at.column(k)))));
          CHECK(worst < 20 * eps * std::sqrt(double(tokens)));
          CHECK((x.guards_intact() && dy.guards_intact() && y.guards_intact() && dx.guards_intact()));
          const support::AllocationCount allocations;
          product->multiply(at, v.data(), tokens, fx, memory(y.view()));
          product->transposed(at, v.data(), tokens, fx, fdy, memory(dx.view()), dv.data());
          CHECK(allocations.since() == 0);
        });
      }
  }
}

TEST_CASE("a random support: as many places as asked for, in order, all equally likely") {
  const Index m = 6, n = 5, rounds = 6000;
  for (const Index count : {0, 1, 7, 15, 16, 29, 30}) {
    Eigen::MatrixXd hits = Eigen::MatrixXd::Zero(m, n);
    for (Index round = 0; round < rounds; ++round) {
      const Support at = Support::random(m, n, count, std::uint64_t(round), 4);
      Index found = 0;
      for (Index i = 0; i < m; ++i)
        for (Index k = at.begin(i); k < at.end(i); ++k, ++found) {
          if (k > at.begin(i)) REQUIRE(at.column(k) > at.column(k - 1));
          ++hits(i, at.column(k));
        }
      REQUIRE(found == count);
    }
    const double p = double(count) / double(m * n), deviation = std::sqrt(p * (1 - p) * double(rounds));
    CHECK((hits.array() - p * double(rounds)).abs().maxCoeff() <= 4.5 * deviation);
  }
  CHECK(Support::random(512, 512, 7864, 1, 2) == Support::random(512, 512, 7864, 1, 2));
  CHECK_FALSE(Support::random(512, 512, 7864, 1, 2) == Support::random(512, 512, 7864, 2, 2));
  CHECK_THROWS_AS(Support::random(3, 3, 10, 0, 0), std::invalid_argument);
}

TEST_CASE("a support is checked and compact") {
  using Indices = std::vector<std::int64_t>;
  const auto make = [](Index m, Index n, const Indices& at) { return Support(m, n, std::span<const std::int64_t>(at)); };
  CHECK_THROWS_AS(make(2, 3, {0, 0}), std::invalid_argument);
  CHECK_THROWS_AS(make(2, 3, {2, 1}), std::invalid_argument);
  CHECK_THROWS_AS(make(2, 3, {6}), std::invalid_argument);
  CHECK_THROWS_AS(make(2, 3, {-1}), std::invalid_argument);
  CHECK(make(4, 65536, {1, 65536, 262143}).bytes() == 4 * 5 + 2 * 3);
  CHECK(make(4, 65537, {1, 65536, 262147}).bytes() == 4 * 5 + 4 * 3);
  // flat indices beyond 32 bits
  const Support large = make(100000, 100000, {9999999999});
  CHECK((large.begin(99999) == 0 && large.end(99999) == 1 && large.column(0) == 99999));
}
