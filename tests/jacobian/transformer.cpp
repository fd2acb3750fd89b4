// The transformer block's derivatives against central differences, and a penalty on it.
#include "jacobian/networks.hpp"

#include <support/malloc_counter.hpp>

#include <lowrank/jacobian/penalty.hpp>
#include <lowrank/jacobian/transformer.hpp>

using namespace lowrank_test;
using Catch::Approx;

namespace {

using Block = Transformer<double>;
constexpr TransformerShape shape{.tokens = 3, .width = 4, .heads = 2, .hidden = 5, .outputs = 3};
constexpr Index B = 2, inputs = 12;

struct Setup {
  Block net;
  Matrix<double> X = random_matrix(inputs, B, 91), V = random_matrix(3, B, 92), G = random_matrix(inputs, B, 93),
                 Y{3, B};
  Block::Cache cache;

  explicit Setup(Activation a) : net(shape, a), cache(net.cache(B)) {
    unsigned seed = 1;
    net.weights().visit([&](const char*, Matrix<double>& m) { m = 0.6 * random_matrix(m.rows(), m.cols(), seed++); });
    forward();
  }
  void forward() { net.forward(batch(std::as_const(X)), cache, batch(Y)); }
  double outputs() {
    forward();
    return V.cwiseProduct(Y).sum();
  }
  double bilinear() {
    forward();
    net.jvp(cache, batch(std::as_const(G)), batch(Y));
    return V.cwiseProduct(Y).sum();
  }
  Matrix<double> vjp() {
    Matrix<double> Q(inputs, B);
    net.vjp(cache, batch(std::as_const(V)), batch(Q));
    return Q;
  }
  /// The derivative of f along a direction in one parameter matrix.
  template <class F>
  double along(Matrix<double> Block::Grads::*m, const Matrix<double>& direction, const F& f) {
    Matrix<double>& w = net.weights().*m;
    const Matrix<double> before = w;
    const double value = slope(
        [&](double h) {
          w = before + h * direction;
          return f();
        },
        1e-5);
    w = before;
    return value;
  }
};

const std::pair<const char*, Matrix<double> Block::Grads::*> parameters[] = {
    {"position", &Block::Grads::position}, {"query", &Block::Grads::query},
    {"key", &Block::Grads::key},           {"value", &Block::Grads::value},
    {"out", &Block::Grads::out},           {"up", &Block::Grads::up},
    {"down", &Block::Grads::down},         {"unembed", &Block::Grads::unembed},
    {"gain1", &Block::Grads::gain1},       {"shift1", &Block::Grads::shift1},
    {"gain2", &Block::Grads::gain2},       {"shift2", &Block::Grads::shift2},
    {"up_bias", &Block::Grads::up_bias},   {"down_bias", &Block::Grads::down_bias}};

}  // namespace

TEST_CASE("first and mixed derivatives of the block, in every parameter and in the inputs") {
  for (const Nonlinearity kind : {Nonlinearity::Relu, Nonlinearity::Gelu}) {
    CAPTURE(int(kind));
    Setup s({kind});
    const double value = s.bilinear();
    CHECK(s.vjp().cwiseProduct(s.G).sum() == Approx(value).epsilon(1e-12));
    const Matrix<double> X = s.X, D = random_matrix(inputs, B, 77);
    const auto in_inputs = [&](const Matrix<double>& direction, const auto& f) {
      const double d = slope(
          [&](double h) {
            s.X = X + h * direction;
            return f();
          },
          1e-5);
      s.X = X;
      return d;
    };
    CHECK(in_inputs(s.G, [&] { return s.outputs(); }) == Approx(value).epsilon(1e-8));

    Block::Grads first = s.net.grads(), mixed = s.net.grads();
    Matrix<double> dX = Matrix<double>::Zero(inputs, B);
    s.forward();
    s.net.param_vjp(s.cache, batch(std::as_const(s.V)), first);
    s.net.mixed_vjp(s.cache, batch(std::as_const(s.V)), batch(std::as_const(s.G)), mixed, batch(dX));
    CHECK(dX.cwiseProduct(D).sum() == Approx(in_inputs(D, [&] { return s.bilinear(); })).epsilon(1e-7));
    for (const auto& [name, m] : parameters) {
      CAPTURE(name);
      const Matrix<double> direction = random_matrix((first.*m).rows(), (first.*m).cols(), 66);
      CHECK((first.*m).cwiseProduct(direction).sum() ==
            Approx(s.along(m, direction, [&] { return s.outputs(); })).epsilon(1e-7).margin(1e-9));
      CHECK((mixed.*m).cwiseProduct(direction).sum() ==
            Approx(s.along(m, direction, [&] { return s.bilinear(); })).epsilon(1e-7).margin(1e-9));
    }
  }
}

TEST_CASE("a penalty's gradient on the block, with the loss and the inputs") {
  Setup s({Nonlinearity::Tanh});
  Penalty penalty(Projection{.n = 2}, FrobeniusNorm{});
  const auto total = [&] {
    s.forward();
    const double loss = s.V.cwiseProduct(s.Y).sum();
    return loss + 0.3 * penalty.value(s.net, s.cache, s.X, {1, 2});
  };
  Block::Grads g = s.net.grads();
  Matrix<double> dX = Matrix<double>::Zero(inputs, B);
  s.forward();
  penalty.add_gradient(s.net, s.cache, s.X, g,
                       {.weight = 0.3, .draw = {1, 2}, .loss = view(std::as_const(s.V)), .input_gradient = view(dX)});
  for (const auto& [name, m] : parameters) {
    CAPTURE(name);
    const Matrix<double> direction = random_matrix((g.*m).rows(), (g.*m).cols(), 66);
    CHECK((g.*m).cwiseProduct(direction).sum() == Approx(s.along(m, direction, total)).epsilon(1e-7).margin(1e-9));
  }
  const Matrix<double> X = s.X, D = random_matrix(inputs, B, 77);
  const double moved = slope(
      [&](double h) {
        s.X = X + h * D;
        return total();
      },
      1e-5);
  CHECK(dX.cwiseProduct(D).sum() == Approx(moved).epsilon(1e-7));
}

TEST_CASE("a step of the block allocates nothing after the first") {
  Setup s({Nonlinearity::Gelu});
  Penalty penalty(Projection{.n = 2}, FrobeniusNorm{});
  Block::Grads g = s.net.grads();
  const auto step = [&] {
    s.forward();
    penalty.add_gradient(s.net, s.cache, s.X, g, {.weight = 0.3, .draw = {1, 2}, .loss = view(std::as_const(s.V))});
  };
  step();
  const support::AllocationCount count;
  step();
  if (support::AllocationCount::counted) CHECK(count.since() == 0);
}

TEST_CASE("a sample's numbers do not depend on its batch, and shapes are checked") {
  Setup s({Nonlinearity::Gelu});
  const Matrix<double> Q = s.vjp();
  Matrix<double> y(3, 1), q(inputs, 1);
  const Matrix<double> x = s.X.col(1), v = s.V.col(1);
  s.net.forward(batch(x), s.cache, batch(y));
  s.net.vjp(s.cache, batch(v), batch(q));
  CHECK(y == s.Y.col(1));
  CHECK(q == Q.col(1));
  CHECK_THROWS_AS(s.vjp(), std::invalid_argument);
  CHECK_THROWS_AS(Block({3, 5, 2, 4, 3}, {}), std::invalid_argument);
}
