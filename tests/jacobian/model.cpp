// Models of the user's own, the fused and the separate route, and what a penalty step must not do: allocate, divide by
// zero, or take bad input.
#include "jacobian/networks.hpp"

#include <support/malloc_counter.hpp>

#include <lowrank/jacobian/penalty.hpp>
#include <lowrank/jacobian/spectral.hpp>

using namespace lowrank_test;
using Catch::Matchers::ContainsSubstring;

namespace {

/// f(x) = W2 tanh(W1 x), as a user would write it.
struct Weights {
  Matrix<double> W1, W2;
};
struct Tape {
  Matrix<double> X, H;
};

auto users_model(const Weights& w) {
  return make_model<double, Tape, Weights>(
      w.W1.cols(), w.W2.rows(), Forward{[&w](ConstBatch<double> X, Tape& t, Batch<double> Y) {
        t.X = X;
        t.H = (w.W1 * X).array().tanh();
        Y = w.W2 * t.H;
      }},
      Vjp{[&w](Tape& t, ConstBatch<double> V, Batch<double> Q) {
        Q = w.W1.transpose() * ((w.W2.transpose() * V).array() * (1 - t.H.array().square())).matrix();
      }},
      ParamVjp{[&w](Tape& t, ConstBatch<double> V, Weights& g) {
        g.W2 += V * t.H.transpose();
        g.W1 += ((w.W2.transpose() * V).array() * (1 - t.H.array().square())).matrix() * t.X.transpose();
      }});
}

Mlp<double> as_mlp(const Weights& w) { return {std::vector<Layer<double>>{{w.W1}, {w.W2}}, {Nonlinearity::Tanh}}; }

}  // namespace

TEST_CASE("a model of callables with a first derivative only takes the finite-difference route") {
  const Weights w{random_matrix(6, 4, 1), random_matrix(3, 6, 2)};
  const auto model = users_model(w);
  using Model = std::remove_const_t<decltype(model)>;
  STATIC_REQUIRE(ParamModel<Model>);
  STATIC_REQUIRE_FALSE(MixedModel<Model>);
  STATIC_REQUIRE_FALSE(JvpModel<Model>);
  const Mlp<double> net = as_mlp(w);
  const Matrix<double> X = random_matrix(4, 5, 3), dY = random_matrix(3, 5, 4);
  Matrix<double> Y(3, 5), Y_mlp(3, 5);
  Tape tape;
  auto cache = net.cache(5);
  model.forward(batch(X), tape, batch(Y));
  net.forward(batch(X), cache, batch(Y_mlp));
  CHECK((Y - Y_mlp).cwiseAbs().maxCoeff() < 1e-13);
  Weights grads{Matrix<double>::Zero(6, 4), Matrix<double>::Zero(3, 6)};
  Grads exact = net.grads();
  const PenaltyStep<double> step{.weight = 0.4, .draw = {1, 2}, .loss = view(dY)};
  const double a =
      Penalty(Projection{.n = 2}, SquaredFrobenius{}, FiniteDifference{}).add_gradient(model, tape, X, grads, step);
  const double b = Penalty(Projection{.n = 2}, SquaredFrobenius{}).add_gradient(net, cache, X, exact, step);
  CHECK(std::abs(a - b) < 1e-12 * b);
  CHECK((grads.W1 - exact[0].weight).cwiseAbs().maxCoeff() < 1e-8);
  CHECK((grads.W2 - exact[1].weight).cwiseAbs().maxCoeff() < 1e-8);
}

TEST_CASE("a model with a mixed_vjp that does not defer gives the same gradient") {
  const Mlp<double> net = network({4, 6, 3}, {Nonlinearity::Gelu}, Kind::Mixed);
  using Cache = Mlp<double>::Cache;
  const auto plain = make_model<double, Cache, Grads>(
      4, 3, Forward{[&](auto X, Cache& c, auto Y) { net.forward(X, c, Y); }},
      Vjp{[&](Cache& c, auto V, auto Q) { net.vjp(c, V, Q); }},
      ParamVjp{[&](Cache& c, auto V, Grads& g) { net.param_vjp(c, V, g); }},
      MixedVjp{[&](Cache& c, auto V, auto G, Grads& g, auto dX) { net.mixed_vjp(c, V, G, g, dX); }});
  STATIC_REQUIRE(MixedModel<std::remove_const_t<decltype(plain)>>);
  STATIC_REQUIRE_FALSE(DeferringModel<std::remove_const_t<decltype(plain)>>);
  const Matrix<double> X = random_matrix(4, 5, 3), dY = random_matrix(3, 5, 4);
  Matrix<double> Y(3, 5), dX = Matrix<double>::Zero(4, 5), dX_plain = dX;
  auto cache = net.cache(5);
  net.forward(batch(X), cache, batch(Y));
  Grads fused = net.grads(), apart = net.grads();
  Penalty penalty(Projection{.n = 3}, FrobeniusNorm{});
  penalty.add_gradient(net, cache, X, fused, {.draw = {1, 2}, .loss = view(dY), .input_gradient = view(dX)});
  penalty.add_gradient(plain, cache, X, apart, {.draw = {1, 2}, .loss = view(dY), .input_gradient = view(dX_plain)});
  CHECK(difference(fused, apart) < 1e-12);
  CHECK((dX - dX_plain).cwiseAbs().maxCoeff() < 1e-12);
}

TEST_CASE("one projection in float costs no accuracy") {
  const Mlp<double> net = network({20, 30, 10}, {Nonlinearity::Relu}, Kind::Dense);
  std::vector<Layer<float>> layers;
  for (const auto& k : net.layers()) layers.push_back({k.weight.cast<float>(), {}, k.bias.cast<float>()});
  const Mlp<float> narrow(layers, {Nonlinearity::Relu});
  const Matrix<double> X = random_matrix(20, 16, 3), V = random_matrix(10, 16, 4);
  const Matrix<float> Xf = X.cast<float>(), Vf = V.cast<float>();
  Matrix<double> Y(10, 16);
  Matrix<float> Yf(10, 16);
  auto cache = net.cache(16);
  auto cachef = narrow.cache(16);
  net.forward(batch(X), cache, batch(Y));
  narrow.forward(batch(Xf), cachef, batch(Yf));
  Grads g = net.grads();
  auto gf = narrow.grads();
  Penalty penalty(Projection{}, FrobeniusNorm{});
  const double a = penalty.add_gradient(net, cache, X, g, {.projections = view(V)});
  const double b = penalty.add_gradient(narrow, cachef, Xf, gf, {.projections = view(Vf)});
  CHECK(std::abs(a - b) < 1e-5 * a);
  CHECK((g[0].weight - gf[0].weight.cast<double>()).cwiseAbs().maxCoeff() < 1e-5 * g[0].weight.cwiseAbs().maxCoeff());
}

TEST_CASE("dead samples and zero centroids have gradient zero, not NaN") {
  Mlp<double> net = network({4, 5, 3}, {Nonlinearity::Relu}, Kind::Dense);
  net.layers()[0].bias.setConstant(-1e3);  // every unit is off: J = 0
  const Matrix<double> X = random_matrix(4, 2, 3), ones = Matrix<double>::Ones(3, 2);
  Matrix<double> Y(3, 2), dX = Matrix<double>::Zero(4, 2);
  auto cache = net.cache(2);
  Grads g = net.grads();
  const Grads zero = g;
  net.forward(batch(X), cache, batch(Y));
  const PenaltyStep<double> step{.draw = {1, 1}, .input_gradient = view(dX)};
  CHECK(Penalty(Projection{}, FrobeniusNorm{}).add_gradient(net, cache, X, g, step) ==
        Catch::Approx(1e-4).epsilon(1e-12));
  CHECK(Penalty(Projection{}, SquaredFrobenius{}).add_gradient(net, cache, X, g, step) == 0);
  CHECK(Penalty(Projection{}, CentroidCosine{})
            .add_gradient(net, cache, X, g, {.projections = view(ones), .input_gradient = view(dX)}) == 1);
  CHECK(SpectralPenalty(SpectralNorm{}).add_gradient(net, cache, 2, g, step) == 0);
  CHECK(difference(g, zero) == 0);
  CHECK(dX.cwiseAbs().maxCoeff() == 0);
}

TEST_CASE("holding the norm at the level it has is no pull") {
  const Mlp<double> net = network({4, 5, 3}, {Nonlinearity::Tanh}, Kind::Dense);
  const Matrix<double> X = random_matrix(4, 2, 3);
  Matrix<double> Y(3, 2);
  auto cache = net.cache(2);
  net.forward(batch(X), cache, batch(Y));
  Penalty norm(Projection{}, FrobeniusNorm{});
  Penalty hold(Projection{}, HoldAt{.level = norm.value(net, cache, X, {1, 2})});
  Grads g = net.grads();
  CHECK(hold.add_gradient(net, cache, X, g, {.draw = {1, 2}}) == 0);
  CHECK(inner(g, g) == 0);
}

TEST_CASE("a step allocates nothing after the first, a smaller batch included") {
  for (const Activation a : {Activation{Nonlinearity::Relu}, Activation{Nonlinearity::Tanh}}) {
    const Mlp<double> net = network({20, 30, 25, 10}, a, Kind::Mixed);
    const Matrix<double> X = random_matrix(20, 64, 3), dY = random_matrix(10, 64, 4);
    Matrix<double> Y(10, 64), dX = Matrix<double>::Zero(20, 64);
    auto cache = net.cache(64);
    Grads g = net.grads();
    Penalty penalty(Projection{Law::Orthonormal, 3}, FrobeniusNorm{});
    Penalty separable(Projection{}, SquaredFrobenius{});
    Penalty by_difference(Projection{}, SquaredFrobenius{}, FiniteDifference{});
    SpectralPenalty spectral(SpectralNorm{});
    const auto step = [&](Index n, std::uint64_t t) {
      const auto x = X.leftCols(n);
      const auto dy = dY.leftCols(n);
      const PenaltyStep<double> s{
          .weight = 0.1, .draw = {1, t}, .loss = view(dy), .input_gradient = view(dX.leftCols(n))};
      net.forward(batch(x), cache, batch(Y.leftCols(n)));
      penalty.add_gradient(net, cache, x, g, s);
      separable.add_gradient(net, cache, x, g, s);
      spectral.add_gradient(net, cache, n, g, s);
      by_difference.add_gradient(net, cache, x, g, s);
    };
    step(64, 0);
    const support::AllocationCount count;
    step(64, 1);
    step(40, 2);
    step(64, 3);
    if (support::AllocationCount::counted) CHECK(count.since() == 0);
  }
}

TEST_CASE("bad options and shapes are refused before anything is written") {
  const Mlp<double> net = network({4, 5, 3}, {Nonlinearity::Tanh}, Kind::Dense);
  const Matrix<double> X = random_matrix(4, 2, 3), wrong = random_matrix(5, 2, 3);
  Matrix<double> Y(3, 2);
  auto cache = net.cache(2);
  net.forward(batch(X), cache, batch(Y));
  Grads g = net.grads();
  const Grads zero = g;
  const auto message = [&](Projection p, auto term, const Matrix<double>& x,
                           const PenaltyStep<double>& step) -> std::string {
    try {
      Penalty(p, term).add_gradient(net, cache, x, g, step);
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "nothing thrown";
  };
  CHECK_THAT(message({.n = 0}, SquaredFrobenius{}, X, {}),
             ContainsSubstring("got 0 projections, expected one or more"));
  CHECK_THAT(message({Law::Orthonormal, 4}, SquaredFrobenius{}, X, {}),
             ContainsSubstring("at most as many as outputs"));
  CHECK_THAT(message({}, SquaredFrobenius{}, wrong, {}), ContainsSubstring("got 5x2, expected 4x2"));
  CHECK_THAT(message({}, SquaredFrobenius{}, X, {.projections = view(wrong)}),
             ContainsSubstring("3 rows and a multiple of 2"));
  CHECK_THAT(message({}, SquaredFrobenius{}, X, {.loss = view(wrong)}), ContainsSubstring("got 5x2, expected 3x2"));
  CHECK_THAT(message({}, TargetMatrix{Matrix<double>::Zero(4, 3)}, X, {}), ContainsSubstring("got 4x3, expected 3x4"));
  CHECK_THAT(message({}, ActionJacobian{Vector<double>::Ones(3)}, X, {}), ContainsSubstring("ActionJacobian"));
  CHECK_THAT(message({.n = 2}, CentroidCosine{}, X, {}), ContainsSubstring("got 2 projections, expected one"));
  CHECK_THROWS_AS(SpectralPenalty(SpectralNorm{0}), std::invalid_argument);
  CHECK(difference(g, zero) == 0);
}
