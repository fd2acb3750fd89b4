// Bounds of local Lipschitz constants: the published numbers of five nets, and bounds never below sampled Jacobians.
#include "jacobian/lipschitz_nets.hpp"

using namespace lowrank_test;
using Catch::Approx;

namespace {

RowBounds bounds(const Example& e, Index row, BoxMethod boxes = BoxMethod::LinearBounds,
                 Enclosure enclosure = Enclosure::Chords) {
  return row_bounds(e.net, e.row(row), e.box, boxes, enclosure);
}
double intervals(const Example& e, Index row, BoxMethod boxes = BoxMethod::LinearBounds) {
  return interval_lipschitz(e.net, e.row(row), slope_boxes(e.net.activation, preactivation_boxes(e.net, e.box, boxes)));
}
void check_box(const Box& b, std::vector<double> lower, std::vector<double> upper) {
  for (Index i = 0; i < b.size(); ++i) {
    CHECK(b.lower[i] == Approx(lower[std::size_t(i)]).epsilon(1e-12));
    CHECK(b.upper[i] == Approx(upper[std::size_t(i)]).epsilon(1e-12));
  }
}

}  // namespace

TEST_CASE("one-dimensional net N0: every method is exact") {
  const Example e = net_n0();
  CHECK(bounds(e, 0).norm == Approx(1).epsilon(1e-11));
  CHECK(bounds(e, 0, BoxMethod::LinearBounds, Enclosure::Constants).norm == Approx(1).epsilon(1e-11));
  CHECK(intervals(e, 0) == Approx(1).epsilon(1e-11));
}

TEST_CASE("N1") {
  const Example e = net_n1();
  check_box(preactivation_boxes(e.net, e.box, BoxMethod::Intersection)[0], {-2, -2}, {2, 2});
  const RowBounds b = bounds(e, 0);
  check_box(b.entries, {0, -1}, {2, 1});
  CHECK(b.norm == Approx(3).epsilon(1e-11));
  CHECK(bounds(e, 0, BoxMethod::LinearBounds, Enclosure::Constants).norm == Approx(3).epsilon(1e-11));
  CHECK(intervals(e, 0) == Approx(3).epsilon(1e-11));
}

TEST_CASE("N3 on the large and the small box") {
  const Example e = net_n3();
  const auto z = preactivation_boxes(e.net, e.box, BoxMethod::LinearBounds);
  check_box(z[0], {-2, -1.5, -2.75}, {2, 2.5, 2.25});
  check_box(z[1], {-2.25, -4.5}, {2.975, 6.3});
  const RowBounds r0 = bounds(e, 0), r1 = bounds(e, 1);
  check_box(r0.entries, {-1.1666666666667, -3}, {4.8333333333333, 2.25});
  check_box(r1.entries, {-5, -0.5}, {4, 7.25});
  CHECK(r0.norm == Approx(7.416666666667).epsilon(1e-11));
  CHECK(r1.norm == Approx(11.694444444444).epsilon(1e-11));
  CHECK(r0.entry_sum == Approx(7.833333333333).epsilon(1e-11));
  CHECK(r1.entry_sum == Approx(12.25).epsilon(1e-11));
  CHECK(intervals(e, 0) == Approx(9).epsilon(1e-11));
  CHECK(intervals(e, 1) == Approx(13.5).epsilon(1e-11));
  CHECK(bounds(e, 0, BoxMethod::LinearBounds, Enclosure::Constants).norm == Approx(8.880434782609).epsilon(1e-11));
  CHECK(bounds(e, 1, BoxMethod::LinearBounds, Enclosure::Constants).norm == Approx(12.863636363636).epsilon(1e-11));
  const Example s = net_n3_small();
  CHECK(bounds(s, 0).norm == Approx(7.035714285714).epsilon(1e-11));
  CHECK(bounds(s, 1).norm == Approx(10.497619047619).epsilon(1e-11));
  CHECK(bounds(s, 0, BoxMethod::LinearBounds, Enclosure::Constants).norm == Approx(7.642857142857).epsilon(1e-11));
  CHECK(bounds(s, 1, BoxMethod::LinearBounds, Enclosure::Constants).norm == Approx(11.125).epsilon(1e-11));
}

TEST_CASE("NA and NB: linear bounds alone, intersected, and the baselines") {
  const Example a = net_na(), b = net_nb();
  CHECK(a.net.weights[0](0, 0) == Approx(0.05821292740660668).epsilon(1e-13));
  CHECK(a.net.biases[0][0] == Approx(0.10806046117362794).epsilon(1e-13));
  const double na[] = {4.8545915304, 4.6376628053}, nb[] = {14.2455043581, 16.7515961848};
  const double na_both[] = {2.1313271817, 2.1734003810};
  const double na_constants[] = {5.1006309149, 5.0939435531}, nb_constants[] = {28.2998490369, 33.2039579604};
  const double na_intervals[] = {5.2192121774, 5.1246026608}, nb_intervals[] = {28.5316666530, 33.5703508148};
  for (Index r = 0; r < 2; ++r) {
    CAPTURE(r);
    CHECK(bounds(a, r).norm == Approx(na[r]).epsilon(1e-9));
    CHECK(bounds(b, r).norm == Approx(nb[r]).epsilon(1e-9));
    CHECK(bounds(a, r, BoxMethod::Intersection).norm == Approx(na_both[r]).epsilon(1e-9));
    CHECK(bounds(a, r, BoxMethod::LinearBounds, Enclosure::Constants).norm == Approx(na_constants[r]).epsilon(1e-9));
    CHECK(bounds(b, r, BoxMethod::LinearBounds, Enclosure::Constants).norm == Approx(nb_constants[r]).epsilon(1e-9));
    CHECK(intervals(a, r) == Approx(na_intervals[r]).epsilon(1e-9));
    CHECK(intervals(b, r) == Approx(nb_intervals[r]).epsilon(1e-9));
  }
  CHECK(global_lipschitz(a.net) == Approx(9.816219).epsilon(1e-6));
  CHECK(global_lipschitz(b.net) == Approx(96.067823).epsilon(1e-6));
}

TEST_CASE("no bound is below 200000 sampled Jacobians, whatever the activation") {
  for (const Activation& act : activations()) {
    CAPTURE(int(act.kind));
    const Mlp<double> net = network({3, 5, 4, 2}, act, Kind::Mixed, 4);
    const DenseNetwork dense(net);
    const Box box = Box::around(random_matrix(3, 1, 6), 0.4);
    const auto boxes = preactivation_boxes(dense, box, BoxMethod::Intersection);
    for (Index r = 0; r < 2; ++r) {
      Vector<double> w = Vector<double>::Zero(2);
      w[r] = 1;
      const double seen = sampled_lipschitz(dense, w, box, 200000, 5);
      for (const BoxMethod m : {BoxMethod::Intervals, BoxMethod::LinearBounds, BoxMethod::Intersection})
        for (const Enclosure e : {Enclosure::Chords, Enclosure::Constants}) {
          const RowBounds b = row_bounds(dense, w, box, m, e);
          CHECK(b.norm >= seen);
          CHECK(b.entry_sum >= b.norm);
        }
      CHECK(interval_lipschitz(dense, w, slope_boxes(act, boxes)) >= seen);
      CHECK(global_lipschitz(dense) >= seen);
    }
  }
}

TEST_CASE("pre-activations and slopes stay in their boxes, values between their lines") {
  for (const Activation& act : activations()) {
    CAPTURE(int(act.kind));
    const DenseNetwork net(network({3, 5, 4, 4, 2}, act, Kind::Dense, 4));
    const Vector<double> center = random_matrix(3, 1, 6);
    const Box box = Box::around(center, 0.6);
    for (const BoxMethod m : {BoxMethod::Intervals, BoxMethod::LinearBounds, BoxMethod::Intersection}) {
      const auto boxes = preactivation_boxes(net, box, m);
      bool inside = true;
      for (unsigned t = 0; t < 2000; ++t) {
        Vector<double> h = center + 0.1 * random_matrix(3, 1, 100 + t);  // |entries| <= 6
        for (Index k = 0; k < net.hidden(); ++k) {
          const Vector<double> z = net.weights[std::size_t(k)] * h + net.biases[std::size_t(k)];
          const Box& b = boxes[std::size_t(k)];
          inside =
              inside && (z.array() >= b.lower.array() - 1e-12).all() && (z.array() <= b.upper.array() + 1e-12).all();
          h = z.unaryExpr([&](double v) { return evaluate(act, v).value; });
        }
      }
      CHECK(inside);
    }
    for (double l : {-5.0, -2.0, -0.9, -0.1, 0.0, 0.3, 1.5})
      for (double width : {0.0, 1e-12, 0.05, 0.7, 3.0, 8.0}) {
        const double u = l + width;
        const Lines s = enclosing_lines(act, l, u);
        const Range slopes = slope_range(act, l, u), values = value_range(act, l, u);
        for (int i = 0; i <= 200; ++i) {
          const double z = l + width * i / 200;
          const Jet<double> j = evaluate(act, z);
          const bool ok = s.lower_slope * z + s.lower_intercept <= j.value + 1e-12 &&
                          s.upper_slope * z + s.upper_intercept >= j.value - 1e-12 && slopes.lower <= j.slope + 1e-12 &&
                          slopes.upper >= j.slope - 1e-12 && values.lower <= j.value + 1e-12 &&
                          values.upper >= j.value - 1e-12;
          if (!ok) FAIL_CHECK("l = " << l << ", u = " << u << ", z = " << z);
        }
      }
  }
  const Range gelu = slope_range({Nonlinearity::Gelu}, -3, 3), silu = slope_range({Nonlinearity::Silu}, -3, 3);
  CHECK(gelu.upper == Approx(1.128904145185155).epsilon(1e-13));
  CHECK(gelu.lower == Approx(-0.128904145185155).epsilon(1e-12));
  CHECK(silu.upper == Approx(1.099839320128867).epsilon(1e-13));
  CHECK(value_range({Nonlinearity::Gelu}, -3, 3).lower == Approx(-0.16997120747990369).epsilon(1e-13));
  CHECK(value_range({Nonlinearity::Silu}, -3, 3).lower == Approx(-0.2784645427610738).epsilon(1e-13));
}

TEST_CASE("smaller boxes have smaller bounds, points and linear maps exact ones") {
  for (const Activation& act : activations()) {
    CAPTURE(int(act.kind));
    const Mlp<double> net = network({3, 5, 4, 2}, act, Kind::Dense, 4);
    const DenseNetwork dense(net);
    const Vector<double> x = random_matrix(3, 1, 6), w = (Vector<double>(2) << 1, -1).finished();
    double before = row_bounds(dense, w, Box::around(x, 1)).norm;
    for (const double radius : {0.5, 0.2, 0.1, 0.01, 0.0}) {
      const double now = row_bounds(dense, w, Box::around(x, radius), BoxMethod::Intervals).norm;
      const double within = row_bounds(dense, w, Box::around(x, radius * 0.9), BoxMethod::Intervals).norm;
      CHECK(within <= now * (1 + 1e-9));
      before = row_bounds(dense, w, Box::around(x, radius)).norm;
    }
    CHECK(before == Approx(lowrank::jacobian::detail::gradient_at(dense, w, x).lpNorm<1>()).epsilon(1e-9));
  }
  const DenseNetwork linear(network({3, 5, 4, 2}, {Nonlinearity::LeakyRelu, 1}, Kind::Dense, 4));
  const Vector<double> w = (Vector<double>(2) << 1, 0).finished();
  const Matrix<double> J = linear.weights[2] * linear.weights[1] * linear.weights[0];
  CHECK(row_bounds(linear, w, Box::around(Vector<double>::Zero(3), 5)).norm ==
        Approx(J.row(0).lpNorm<1>()).epsilon(1e-11));
}
