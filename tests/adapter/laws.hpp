// The laws of every adapter and layer: gradients against finite differences, accumulation, the same bits for any thread
// count, storage order and offset, no allocation once warm, nothing touched by bad input.
#pragma once

#include <cmath>

#include <lowrank/adapter/adapter.hpp>
#include <support/catch.hpp>
#include <support/golden.hpp>
#include <support/malloc_counter.hpp>
#include <support/placed.hpp>
#if defined(_OPENMP)
#include <omp.h>
#endif

namespace support {

using lowrank::Pass;
using lowrank::Trace;
using lowrank::Workspace;

template <class S>
using Matrix = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic>;

/// One name for both kinds: a Layer takes no W.
template <class A, class W, class X, class Y>
void forward(const A& a, const W& base, const X& x, Y&& y, Trace<typename A::Scalar>& trace, Workspace& w, const Pass& pass = {}) {
  if constexpr (lowrank::Layer<A>) a.forward(x, y, trace, w, pass);
  else a.forward(base, x, y, trace, w, pass);
}
template <class A, class W, class X, class DY, class DX>
void backward(A& a, const W& base, const X& x, const DY& dy, DX&& dx, const Trace<typename A::Scalar>& trace, Workspace& w) {
  if constexpr (lowrank::Layer<A>) a.backward(x, dy, dx, trace, w);
  else a.backward(base, x, dy, dx, trace, w);
}

template <class S>
Eigen::Map<Matrix<S>> map(lowrank::Buffer<S>& b) { return {b.data(), b.rows(), b.cols()}; }
template <class S>
Eigen::Map<const Matrix<S>> map(const lowrank::Buffer<S>& b) { return {b.data(), b.rows(), b.cols()}; }

/// Normal values for every parameter, none of them zero, so that every gradient says something.
template <class A>
void randomize(A& a, unsigned seed, double size = 0.3) {
  a.visit([&](auto& p) {
    using S = typename A::Scalar;
    map(p.value) = (size * random_matrix(p.value.rows(), p.value.cols(), seed++)).template cast<S>();
  });
}

/// <R, forward(X)>, and its derivatives by the five-point rule along random directions of X and of each parameter,
/// compared with backward's. Double only.
template <class A>
void check_gradients(const A& adapter, Index samples, const Pass& pass, double tolerance = 1e-9) {
  const Index m = adapter.rows(), n = adapter.cols();
  const Eigen::MatrixXd W = 0.3 * random_matrix(m, n, 1), R = random_matrix(m, samples, 2), X = random_matrix(n, samples, 3);
  Workspace workspace;
  const auto loss = [&](const A& a, const Eigen::MatrixXd& x) {
    Trace<double> trace;
    Eigen::MatrixXd Y(m, samples);
    forward(a, W, x, Y, trace, workspace, pass);
    return R.cwiseProduct(Y).sum();
  };
  A a = adapter;
  Trace<double> trace;
  Eigen::MatrixXd Y(m, samples), dX(n, samples);
  forward(a, W, X, Y, trace, workspace, pass);
  backward(a, W, X, R, dX, trace, workspace);

  const double h = 5e-4;
  const auto slope = [&](const auto& at) { return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h); };
  // the rounding of the loss, h times smaller than the loss itself, is what the differences can tell
  const auto compare = [&](const char* what, double got, double expected, double size) {
    CAPTURE(what, got, expected, size);
    CHECK(std::abs(got - expected) <= tolerance * size);
  };
  for (unsigned direction = 0; direction < 3; ++direction) {
    const Eigen::MatrixXd D = random_matrix(n, samples, 50 + direction);
    const double size = dX.norm() * D.norm();
    REQUIRE(dX.norm() > 0);
    compare("X", dX.cwiseProduct(D).sum(), slope([&](double t) { return loss(a, X + t * D); }), size);
    int which = 0;
    a.visit([&](auto& p) {
      const Eigen::MatrixXd E = random_matrix(p.value.rows(), p.value.cols(), 70 + direction + unsigned(10 * which));
      const Eigen::MatrixXd gradient = map(p.gradient);
      REQUIRE(gradient.norm() > 0);
      const double expected = slope([&](double t) {
        A moved = a;
        int other = 0;
        moved.visit([&](auto& q) {
          if (other++ == which) map(q.value) += t * E;
        });
        return loss(moved, X);
      });
      compare(p.name, gradient.cwiseProduct(E).sum(), expected, gradient.norm() * E.norm());
      ++which;
    });
  }

  // backward adds: a second batch's gradients on top of the first's
  A twice = a;
  backward(twice, W, X, R, lowrank::no_gradient, trace, workspace);
  std::vector<Eigen::MatrixXd> once;
  a.visit([&](auto& p) { once.push_back(map(p.gradient)); });
  std::size_t at = 0;
  twice.visit([&](auto& p) {
    CHECK((map(p.gradient) - 2 * once[at]).norm() <= 1e-14 * once[at].norm());
    ++at;
  });
}

/// What one forward and backward leave behind, to the bit.
template <class A, class S = typename A::Scalar>
std::vector<S> results(const A& adapter, Order order, Index offset, Index samples, const Pass& pass) {
  const Index m = adapter.rows(), n = adapter.cols();
  Placed<S> W(0.3 * random_matrix(m, n, 1), order, offset, 3), X(random_matrix(n, samples, 3), order, offset, 1);
  Placed<S> dY(random_matrix(m, samples, 2), order, offset, 2);
  Placed<S> Y(Eigen::MatrixXd::Zero(m, samples), order, offset, 1), dX(Eigen::MatrixXd::Zero(n, samples), order, offset, 5);
  A a = adapter;
  Trace<S> trace;
  Workspace workspace;
  forward(a, W.view(), X.view(), Y.view(), trace, workspace, pass);
  backward(a, W.view(), X.view(), dY.view(), dX.view(), trace, workspace);
  CHECK((W.guards_intact() && X.guards_intact() && dY.guards_intact() && Y.guards_intact() && dX.guards_intact()));
  std::vector<S> all = Y.elements();
  const std::vector<S> other = dX.elements();
  all.insert(all.end(), other.begin(), other.end());
  a.visit([&](auto& p) { all.insert(all.end(), p.gradient.data(), p.gradient.data() + p.gradient.size()); });
  return all;
}

template <class A>
void check_determinism(const A& adapter, Index samples, const Pass& pass = {}) {
  const auto expected = results(adapter, Order::Columns, 0, samples, pass);
  bool finite = true;
  for (const auto x : expected) finite = finite && std::isfinite(x);
  REQUIRE(finite);
  for (const Order order : {Order::Columns, Order::Rows})
    for (const Index offset : {0, 1, 3}) {
#if defined(_OPENMP)
      const int before = omp_get_max_threads();
      omp_set_num_threads(1 + int(offset) % 3);
#endif
      CAPTURE(order == Order::Rows, offset);
      CHECK(same_bits(results(adapter, order, offset, samples, pass), expected));
#if defined(_OPENMP)
      omp_set_num_threads(before);
#endif
    }
}

template <class A>
void check_no_allocation(A a, Index samples, const Pass& pass = {}) {
  using S = typename A::Scalar;
  const Index m = a.rows(), n = a.cols();
  const Matrix<S> W = random_matrix(m, n, 1).template cast<S>(), X = random_matrix(n, samples, 3).template cast<S>();
  Matrix<S> Y(m, samples), dX(n, samples);
  Trace<S> trace;
  Workspace workspace;
  forward(a, W, X, Y, trace, workspace, pass);
  backward(a, W, X, Y, dX, trace, workspace);
  const AllocationCount count;
  for (Index fewer : {Index(0), samples / 2}) {
    const auto x = X.leftCols(samples - fewer);
    auto y = Y.leftCols(samples - fewer), dx = dX.leftCols(samples - fewer);
    forward(a, W, x, y, trace, workspace, pass);
    backward(a, W, x, y, dx, trace, workspace);
    a.on_step(std::uint64_t(1), [](const char*) { return lowrank::NoState{}; });
  }
  CHECK(count.since() == 0);
}

template <class A>
void check_bad_input(const A& adapter) {
  using Catch::Matchers::ContainsSubstring;
  using Catch::Matchers::MessageMatches;
  const Index m = adapter.rows(), n = adapter.cols(), N = 5;
  Eigen::MatrixXd W = random_matrix(m, n, 1), X = random_matrix(n, N, 3), Y = Eigen::MatrixXd::Constant(m, N, 7), dX(n, N);
  A a = adapter;
  Trace<double> trace;
  Workspace workspace;
  const Eigen::MatrixXd wrong = random_matrix(n + 1, N, 4);
  CHECK_THROWS_MATCHES(forward(a, W, wrong, Y, trace, workspace), std::invalid_argument, MessageMatches(ContainsSubstring("X")));
  Eigen::MatrixXd narrow(m, N - 1);
  CHECK_THROWS_AS(forward(a, W, X, narrow, trace, workspace), std::invalid_argument);
  CHECK(Y == Eigen::MatrixXd::Constant(m, N, 7));
  CHECK_THROWS_MATCHES(backward(a, W, X, Y, dX, trace, workspace), std::invalid_argument,
                       MessageMatches(ContainsSubstring("without a forward pass")));
  forward(a, W, X, Y, trace, workspace);
  CHECK_THROWS_AS(backward(a, W, X.leftCols(2), Y.leftCols(2), dX.leftCols(2), trace, workspace), std::invalid_argument);
  CHECK_THROWS_AS(backward(a, W, X, Y, X, trace, workspace), std::invalid_argument);
  a.visit([](auto& p) { CHECK((!p.gradient.allocated() || map(p.gradient).norm() == 0)); });
}

/// float stays near double: the same parameters, widened.
template <class D, class F>
void check_float(D wide, F narrow, Index samples) {
  std::vector<Eigen::MatrixXd> values;
  narrow.visit([&](auto& p) { values.push_back(map(p.value).template cast<double>()); });
  std::size_t at = 0;
  wide.visit([&](auto& p) { map(p.value) = values[at++]; });
  const auto a = results(wide, Order::Columns, 0, samples, {});
  const auto b = results(narrow, Order::Rows, 1, samples, {});
  REQUIRE(a.size() == b.size());
  double largest = 0, worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(a[i]));
    worst = std::max(worst, std::abs(a[i] - double(b[i])));
  }
  CHECK(worst < 2e-6 * largest);
}

}  // namespace support
