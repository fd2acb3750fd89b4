// The derivatives of Mlp against central differences and against each other, for every activation, dense and low rank.
#include "jacobian/networks.hpp"

using namespace lowrank_test;

namespace {

struct Setup {
  Mlp<double> net;
  Matrix<double> X, V, G, Y, Q;
  Mlp<double>::Cache cache;

  Setup(const std::vector<Index>& dims, Activation a, Kind kind, Index B = 3)
      : net(network(dims, a, kind)),
        X(random_matrix(dims.front(), B, 91)),
        V(random_matrix(dims.back(), B, 92)),
        G(random_matrix(dims.front(), B, 93)),
        Y(dims.back(), B),
        Q(dims.front(), B),
        cache(net.cache(B)) {
    forward();
  }
  void forward() { net.forward(batch(std::as_const(X)), cache, batch(Y)); }
  const Matrix<double>& outputs() {
    forward();
    return Y;
  }
  /// sum_b <v_b, J_b g_b>
  double bilinear() {
    forward();
    net.jvp(cache, batch(std::as_const(G)), batch(Y));
    return V.cwiseProduct(Y).sum();
  }
};

const std::vector<std::vector<Index>> shapes = {{4, 3}, {4, 6, 3}, {5, 7, 6, 2}, {3, 4, 1, 4, 2}};

template <class F>
void for_all(const F& f) {
  for (const Activation& a : activations())
    for (const auto& dims : shapes)
      for (const Kind kind : {Kind::Dense, Kind::Mixed}) {
        CAPTURE(int(a.kind), dims.size(), int(kind));
        Setup s(dims, a, kind);
        f(s);
      }
}

}  // namespace

TEST_CASE("slopes and curvatures are derivatives") {
  for (const Activation& a : activations()) {
    CAPTURE(int(a.kind));
    for (double z = -4.05; z < 4.1; z += 0.3) {
      const Jet<double> j = evaluate(a, z);
      CHECK(std::abs(j.slope - slope([&](double h) { return evaluate(a, z + h).value; }, 1e-3)) < 1e-9);
      CHECK(std::abs(j.curvature - slope([&](double h) { return evaluate(a, z + h).slope; }, 1e-3)) < 1e-9);
    }
  }
  CHECK(evaluate({Nonlinearity::Relu}, 0).slope == 0);
  CHECK(evaluate({Nonlinearity::LeakyRelu, 0.2}, 0).slope == 0.2);
  for (const Activation& a : activations())  // far out nothing overflows
    for (double z : {-800.0, 800.0}) {
      const Jet<double> j = evaluate(a, z);
      CHECK((std::isfinite(j.value) && std::isfinite(j.slope) && std::isfinite(j.curvature)));
    }
}

TEST_CASE("vjp and jvp are adjoint, and jvp is the derivative of forward") {
  for_all([](Setup& s) {
    s.net.vjp(s.cache, batch(std::as_const(s.V)), batch(s.Q));
    const double left = s.Q.cwiseProduct(s.G).sum(), right = s.bilinear();
    CHECK(std::abs(left - right) <= 1e-12 * (1 + std::abs(right)));
    const Matrix<double> X = s.X;
    const double numeric = slope(
        [&](double h) {
          s.X = X + h * s.G;
          return s.V.cwiseProduct(s.outputs()).sum();
        },
        1e-5);
    CHECK(std::abs(numeric - right) <= 1e-8 * (1 + std::abs(right)));
  });
}

TEST_CASE("param_vjp and mixed_vjp are gradients, in parameters and inputs") {
  for_all([](Setup& s) {
    const Grads direction = random_direction(s.net, 5);
    const auto numeric = [&](auto f) {
      return slope(
          [&](double h) {
            move(s.net, h, direction);
            const double value = f();
            move(s.net, -h, direction);
            return value;
          },
          1e-5);
    };
    Grads grads = s.net.grads();
    s.net.param_vjp(s.cache, batch(std::as_const(s.V)), grads);
    const double expected = numeric([&] { return s.V.cwiseProduct(s.outputs()).sum(); });
    CHECK(std::abs(inner(grads, direction) - expected) <= 1e-8 * (1 + std::abs(expected)));

    s.forward();
    s.net.vjp(s.cache, batch(std::as_const(s.V)), batch(s.Q));
    grads = s.net.grads();
    Matrix<double> dX = Matrix<double>::Zero(s.X.rows(), s.X.cols());
    s.net.mixed_vjp(s.cache, batch(std::as_const(s.V)), batch(std::as_const(s.G)), grads, batch(dX));
    const double mixed = numeric([&] { return s.bilinear(); });
    CHECK(std::abs(inner(grads, direction) - mixed) <= 1e-7 * (1 + std::abs(mixed)));

    const Matrix<double> X = s.X, D = random_matrix(X.rows(), X.cols(), 77);
    const double along = slope(
        [&](double h) {
          s.X = X + h * D;
          return s.bilinear();
        },
        1e-5);
    CHECK(std::abs(dX.cwiseProduct(D).sum() - along) <= 1e-7 * (1 + std::abs(along)));
    CHECK(grads.back().bias.cwiseAbs().maxCoeff() == 0);  // the last bias never enters J
  });
}

TEST_CASE("one sweep takes the loss and several deferred products") {
  for_all([](Setup& s) {
    const Matrix<double> dY = random_matrix(s.Y.rows(), s.Y.cols(), 31), V2 = random_matrix(s.V.rows(), s.V.cols(), 32);
    const Matrix<double>* const both[] = {&s.V, &V2};
    Grads fused = s.net.grads(), apart = s.net.grads();
    Matrix<double> dX = Matrix<double>::Zero(s.X.rows(), s.X.cols()), dX_apart = dX;
    for (const Matrix<double>* V : both) {
      s.net.vjp(s.cache, batch(*V), batch(s.Q));
      s.net.defer_mixed(s.cache, batch(*V), batch(std::as_const(s.G)), fused);
    }
    s.net.sweep(s.cache, batch(dY), fused, batch(dX));
    for (const Matrix<double>* V : both) {
      s.net.vjp(s.cache, batch(*V), batch(s.Q));
      s.net.mixed_vjp(s.cache, batch(*V), batch(std::as_const(s.G)), apart, batch(dX_apart));
    }
    s.net.sweep(s.cache, batch(dY), apart, batch(dX_apart));
    CHECK(difference(fused, apart) <= 1e-12);
    CHECK((dX - dX_apart).cwiseAbs().maxCoeff() <= 1e-12);
  });
}

TEST_CASE("a low-rank layer is the dense layer of its product") {
  for (const Activation& a : activations()) {
    Setup s({5, 6, 4}, a, Kind::Mixed);
    auto layers = s.net.layers();
    const Layer<double> factors = layers[0];
    layers[0].weight = factors.weight * factors.right.transpose();
    layers[0].right.resize(0, 0);
    Setup dense({5, 6, 4}, a, Kind::Dense);
    dense.net = Mlp<double>(layers, a);
    dense.cache = dense.net.cache(3);
    CHECK((dense.outputs() - s.Y).cwiseAbs().maxCoeff() < 1e-12);
    Grads g = s.net.grads(), full = dense.net.grads();
    for (auto* x : {&s, &dense}) {
      x->net.vjp(x->cache, batch(std::as_const(x->V)), batch(x->Q));
      x->net.mixed_vjp(x->cache, batch(std::as_const(x->V)), batch(std::as_const(x->G)), x == &s ? g : full,
                       no_batch<double>());
    }
    CHECK((g[0].weight - full[0].weight * factors.right).cwiseAbs().maxCoeff() < 1e-12);
    CHECK((g[0].right - full[0].weight.transpose() * factors.weight).cwiseAbs().maxCoeff() < 1e-12);
  }
}

TEST_CASE("bias-free piecewise linear networks satisfy J x = f(x)") {
  for (const Activation& a : activations()) {
    if (!a.piecewise_linear()) continue;
    Setup s({6, 8, 7, 3}, a, Kind::Mixed);
    for (auto& k : s.net.layers()) k.bias.resize(0);
    s.forward();
    Matrix<double> JX(3, 3);
    s.net.jvp(s.cache, batch(std::as_const(s.X)), batch(JX));
    CHECK((JX - s.Y).cwiseAbs().maxCoeff() < 1e-12);
  }
}

TEST_CASE("a smaller batch, blocks of columns and thread counts do not change a sample's numbers") {
  Setup s({70, 90, 5}, {Nonlinearity::Tanh}, Kind::Dense, 70);
  s.net.vjp(s.cache, batch(std::as_const(s.V)), batch(s.Q));
  const auto part = s.X.middleCols(10, 3);
  const auto v = s.V.middleCols(10, 3);
  Matrix<double> Y(5, 3), Q(70, 3);
  s.net.forward(batch(part), s.cache, batch(Y));
  s.net.vjp(s.cache, batch(v), batch(Q));
  CHECK(Y == s.Y.middleCols(10, 3));
  CHECK(Q == s.Q.middleCols(10, 3));
  for (int threads : {1, 2, 3}) {
    auto cache = s.net.cache(70, threads);
    Matrix<double> all(5, 70), back(70, 70);
    s.net.forward(batch(std::as_const(s.X)), cache, batch(all));
    s.net.vjp(cache, batch(std::as_const(s.V)), batch(back));
    CHECK(all == s.Y);
    CHECK(back == s.Q);
  }
}

TEST_CASE("misuse says what was expected") {
  using Catch::Matchers::ContainsSubstring;
  Setup s({4, 5, 3}, {Nonlinearity::Tanh}, Kind::Dense);
  const auto message = [](const auto& f) -> std::string {
    try {
      f();
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "nothing thrown";
  };
  Matrix<double> wrong(5, 3), wide = Matrix<double>::Zero(4, 9), out(3, 9);
  Grads grads = s.net.grads(), other = network({4, 4, 3}, {}, Kind::Dense).grads();
  CHECK_THAT(message([&] { s.net.forward(batch(std::as_const(wrong)), s.cache, batch(s.Y)); }),
             ContainsSubstring("got 5x3, expected 4x3"));
  CHECK_THAT(message([&] { s.net.forward(batch(std::as_const(wide)), s.cache, batch(out)); }),
             ContainsSubstring("1 to 3"));
  CHECK_THAT(message([&] {
               s.net.mixed_vjp(s.cache, batch(std::as_const(s.V)), batch(std::as_const(s.G)), grads,
                               no_batch<double>());
             }),
             ContainsSubstring("vjp(cache, V, Q) just before"));
  CHECK_THAT(message([&] { s.net.param_vjp(s.cache, batch(std::as_const(s.V)), other); }),
             ContainsSubstring("grads() makes"));
  CHECK_THAT(message([&] {
               auto c = s.net.cache(2);
               s.net.vjp(c, batch(std::as_const(s.V)), batch(s.Q));
             }),
             ContainsSubstring("forward"));
  CHECK_THAT(message([&] {
               Mlp<double>(std::vector<Layer<double>>{{Matrix<double>::Zero(3, 4)}, {Matrix<double>::Zero(2, 4)}}, {});
             }),
             ContainsSubstring("layer 1 with 4 inputs"));
  CHECK_THAT(message([&] { Mlp<double>(std::vector<Index>{5}, {}); }), ContainsSubstring("no layers"));
  CHECK_THAT(message([&] {
               Mlp<double>(std::vector<Index>{5, 2}, {Nonlinearity::LeakyRelu, 2});
             }),
             ContainsSubstring("between 0 and 1"));
  Eigen::Matrix<double, -1, -1, Eigen::RowMajor> rows(4, 3);
  CHECK_THAT(message([&] { batch(rows); }), ContainsSubstring("column-major"));
}
