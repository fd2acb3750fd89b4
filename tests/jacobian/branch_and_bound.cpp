// Branch and bound reaches the exact constants of five nets, and elsewhere says how far it came.
#include "jacobian/lipschitz_nets.hpp"

#include <lowrank/jacobian/branch_and_bound.hpp>

using namespace lowrank_test;
using Catch::Approx;

TEST_CASE("linear programs over boxes with inequalities") {
  Polytope p(Box{Vector<double>::Zero(2), Vector<double>::Constant(2, 3)});
  p.add(matrix(2, 1, {1, 1}), 4);
  p.add(matrix(2, 1, {1, 3}), 6);
  CHECK(*p.maximum(matrix(2, 1, {3, 5})) == Approx(14).epsilon(1e-12));  // at (3, 1)
  CHECK(*p.maximum(matrix(2, 1, {1, 4})) == Approx(8).epsilon(1e-12));   // at (0, 2)
  CHECK(*p.maximum(matrix(2, 1, {-1, -1})) == Approx(0).margin(1e-12));
  p.add(matrix(2, 1, {-1, 0}), -2.5);  // x_1 >= 2.5
  CHECK(*p.maximum(matrix(2, 1, {0, 1})) == Approx(3.5 / 3).epsilon(1e-12));
  CHECK(p.deepest()->depth > 0);
  p.add(matrix(2, 1, {1, 1}), 2);
  CHECK(p.deepest()->depth < 0);
  CHECK_FALSE(p.maximum(matrix(2, 1, {1, 0})));
  CHECK(Polytope(Box::around(Vector<double>::Zero(3), 1)).deepest()->depth == 1);

  // against many points of random polytopes
  for (unsigned seed = 0; seed < 30; ++seed) {
    Polytope q(Box::around(Vector<double>::Zero(3), 1));
    const Matrix<double> G = random_matrix(3, 6, 50 + seed), c = random_matrix(3, 1, 90 + seed);
    for (Index i = 0; i < 6; ++i) q.add(G.col(i), 0.3);  // 0 is inside
    const double best = *q.maximum(c);
    double seen = 0;
    for (int a = -10; a <= 10; ++a)
      for (int b = -10; b <= 10; ++b)
        for (int e = -10; e <= 10; ++e) {
          const Eigen::Vector3d x(a / 10.0, b / 10.0, e / 10.0);
          if ((G.transpose() * x).maxCoeff() <= 0.3) seen = std::max(seen, c.col(0).dot(x));
        }
    CHECK(best >= seen - 1e-12);
    CHECK(best <= c.cwiseAbs().sum());
    // along any ray from the inside the optimum's plane is reached at the boundary: scaling the limits scales the
    // optimum
    Polytope half(Box::around(Vector<double>::Zero(3), 0.5));
    for (Index i = 0; i < 6; ++i) half.add(G.col(i), 0.15);
    CHECK(*half.maximum(c) == Approx(best / 2).epsilon(1e-10));
  }
}

TEST_CASE("the exact constants of N0, N1, N3, NA and NB") {
  for (const auto& [name, e] : {std::pair{"N0", net_n0()},
                                {"N1", net_n1()},
                                {"N3", net_n3()},
                                {"N3 small", net_n3_small()},
                                {"NA", net_na()},
                                {"NB", net_nb()}})
    for (std::size_t r = 0; r < e.exact.size(); ++r) {
      const LipschitzResult result = local_lipschitz(e.net, e.row(Index(r)), e.box, {.seconds = 60});
      CAPTURE(name, r, result.splits);
      CHECK(result.reason == Stopped::GapClosed);
      CHECK(result.bound == Approx(e.exact[r]).epsilon(1e-8));
      CHECK(result.attained == Approx(e.exact[r]).epsilon(1e-8));
      CHECK(result.splits < 2000);
      CHECK(result.bound >= sampled_lipschitz(e.net, e.row(Index(r)), e.box, 200000, 3) * (1 - 1e-12));
    }
  CHECK(local_lipschitz(net_n1().net, net_n1().row(0), net_n1().box).splits <= 2);
}

TEST_CASE("leaky and deeper networks: bound and attained value meet, and no sample is above") {
  for (const Activation act :
       {Activation{Nonlinearity::LeakyRelu, 0.3}, Activation{Nonlinearity::Relu}, Activation{Nonlinearity::Identity}}) {
    CAPTURE(int(act.kind));
    const DenseNetwork net(network({3, 6, 5, 4, 2}, act, Kind::Mixed, 9));
    const Vector<double> w = (Vector<double>(2) << 1, -1).finished();
    const Box box = Box::around(random_matrix(3, 1, 6), 0.5);
    const LipschitzResult r = local_lipschitz(net, w, box, {.seconds = 30});
    CHECK(r.reason == Stopped::GapClosed);
    CHECK(r.gap() <= 1e-8 * r.bound);
    CHECK(r.bound >= sampled_lipschitz(net, w, box, 200000, 3) * (1 - 1e-12));
    CHECK(r.bound <= row_bounds(net, w, box).norm);
  }
}

TEST_CASE("smooth networks: halving the box closes in on the constant from both sides") {
  for (const Nonlinearity kind : {Nonlinearity::Tanh, Nonlinearity::Gelu, Nonlinearity::Silu}) {
    CAPTURE(int(kind));
    const DenseNetwork net(network({2, 4, 3, 1}, {kind}, Kind::Dense, 9));
    const Vector<double> w = Vector<double>::Ones(1);
    const Box box = Box::around(random_matrix(2, 1, 6), 0.3);
    const LipschitzResult few = local_lipschitz(net, w, box, {.max_splits = 20});
    const LipschitzResult many = local_lipschitz(net, w, box, {.gap = 0.02, .max_splits = 20000});
    const double seen = sampled_lipschitz(net, w, box, 200000, 3);
    CHECK(few.reason == Stopped::Splits);
    CHECK(few.splits == 20);
    CHECK(many.reason == Stopped::GapClosed);
    CHECK(many.bound <= few.bound);
    CHECK(many.bound >= seen);
    CHECK(many.bound <= 1.02 * many.attained * (1 + 1e-9));
    CHECK(many.attained <= many.bound);
    CHECK(few.bound <= row_bounds(net, w, box).norm);
  }
}

TEST_CASE("out of time is said, and bad input refused") {
  const Example e = net_nb();
  const LipschitzResult r = local_lipschitz(e.net, e.row(0), e.box, {.seconds = 0});
  CHECK(r.reason == Stopped::Time);
  CHECK(r.bound >= e.exact[0]);
  CHECK(r.attained <= e.exact[0] * (1 + 1e-9));
  CHECK(r.gap() > 0);
  CHECK_THROWS_AS(local_lipschitz(e.net, Vector<double>::Ones(5), e.box), std::invalid_argument);
  CHECK_THROWS_AS(local_lipschitz(e.net, e.row(0), Box::around(Vector<double>::Zero(2), 1)), std::invalid_argument);
  CHECK_THROWS_AS(local_lipschitz(e.net, e.row(0), Box::around(Vector<double>::Zero(3), -1)), std::invalid_argument);
}
