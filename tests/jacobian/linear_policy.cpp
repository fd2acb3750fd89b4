// The Linear Policy Net: its gain is its Jacobian, the cheap penalty is the general one where the generator does not
// see the state, and the derivatives of the full form are right where it does. m != k throughout, so that a transposed
// gain cannot pass.
#include "jacobian/networks.hpp"

#include <support/malloc_counter.hpp>

#include <lowrank/jacobian/linear_policy.hpp>
#include <lowrank/jacobian/measure.hpp>
#include <lowrank/jacobian/penalty.hpp>

using namespace lowrank_test;
using Catch::Approx;

namespace {

constexpr Index p = 3, k = 4, m = 2, B = 5;

LinearPolicyNet<double> policy(Index rank, Index sees) {
  const LinearPolicy layer{m, k, rank};
  return {network({sees, 7, layer.outputs()}, {Nonlinearity::Tanh}, Kind::Dense), layer, p};
}

/// Looks at the state alone, not at the context.
Vector<double> state_only() {
  Vector<double> scale = Vector<double>::Ones(p + k);
  scale.head(p).setZero();
  return scale;
}

}  // namespace

TEST_CASE("the gain is the Jacobian when the generator does not see the state") {
  for (const Index rank : {0, 1, 3}) {
    CAPTURE(rank);
    const auto net = policy(rank, p);
    const Matrix<double> Z = random_matrix(p + k, B, 2);
    Matrix<double> A(m, B);
    auto cache = net.cache(B);
    net.forward(batch(Z), cache, batch(A));
    const Matrix<double> J = jacobians(net, cache, B);
    for (Index b = 0; b < B; ++b) {
      const Matrix<double> K = net.gain(cache, b);
      CHECK((J.block(p, b * m, k, m).transpose() - K).cwiseAbs().maxCoeff() < 1e-13);
    }
    // both forms of the penalty, value and gradient; dA in the same step
    const Matrix<double> dA = random_matrix(m, B, 3);
    Grads gain_only = net.grads(), full = net.grads();
    const double cheap = net.add_gradient(cache, batch(dA), 0.3, gain_only);
    Penalty penalty(Projection{Law::Exact}, ActionJacobian{state_only()});
    const double general = penalty.add_gradient(net, cache, Z, full, {.weight = 0.3, .loss = view(dA)});
    CHECK(cheap == Approx(general).epsilon(1e-12));
    CHECK(difference(gain_only, full) < 1e-12);
    double square = 0;
    for (Index b = 0; b < B; ++b) square += net.gain(cache, b).squaredNorm() / B;
    CHECK(cheap == Approx(square).epsilon(1e-13));
  }
}

TEST_CASE("the full form's derivatives, the generator seeing the state or not") {
  for (const Index rank : {0, 2})
    for (const Index sees : {p, p + k}) {
      CAPTURE(rank, sees);
      auto net = policy(rank, sees);
      Matrix<double> Z = random_matrix(p + k, B, 2), A(m, B), Q(p + k, B);
      const Matrix<double> V = random_matrix(m, B, 3), G = random_matrix(p + k, B, 4);
      auto cache = net.cache(B);
      const auto bilinear = [&] {
        net.forward(batch(std::as_const(Z)), cache, batch(A));
        net.jvp(cache, batch(G), batch(A));
        return V.cwiseProduct(A).sum();
      };
      const double value = bilinear();
      net.vjp(cache, batch(V), batch(Q));
      CHECK(Q.cwiseProduct(G).sum() == Approx(value).epsilon(1e-12));
      const Matrix<double> Z0 = Z;
      CHECK(value == Approx(slope(
                                [&](double h) {
                                  Z = Z0 + h * G;
                                  net.forward(batch(std::as_const(Z)), cache, batch(A));
                                  return V.cwiseProduct(A).sum();
                                },
                                1e-5))
                         .epsilon(1e-8));
      Z = Z0;
      bilinear();
      net.vjp(cache, batch(V), batch(Q));
      Grads g = net.grads();
      Matrix<double> dZ = Matrix<double>::Zero(p + k, B);
      net.mixed_vjp(cache, batch(V), batch(G), g, batch(dZ));
      const Grads direction = random_direction(net.generator(), 6);
      const double along = slope(
          [&](double h) {
            move(net.generator(), h, direction);
            const double v = bilinear();
            move(net.generator(), -h, direction);
            return v;
          },
          1e-5);
      CHECK(inner(g, direction) == Approx(along).epsilon(1e-7));
      const Matrix<double> D = random_matrix(p + k, B, 9);
      const double moved = slope(
          [&](double h) {
            Z = Z0 + h * D;
            return bilinear();
          },
          1e-5);
      CHECK(dZ.cwiseProduct(D).sum() == Approx(moved).epsilon(1e-7));
    }
}

TEST_CASE("steps of either form allocate nothing after the first") {
  for (const Index rank : {0, 2}) {
    const auto net = policy(rank, p + k);
    const Matrix<double> Z = random_matrix(p + k, B, 2), dA = random_matrix(m, B, 3);
    Matrix<double> A(m, B);
    auto cache = net.cache(B);
    Grads g = net.grads();
    Penalty penalty(Projection{}, ActionJacobian{state_only()});
    const auto step = [&] {
      net.forward(batch(Z), cache, batch(A));
      net.add_gradient(cache, batch(dA), 0.3, g);
      penalty.add_gradient(net, cache, Z, g, {.weight = 0.3, .draw = {1, 2}, .loss = view(dA)});
    };
    step();
    const support::AllocationCount count;
    step();
    if (support::AllocationCount::counted) CHECK(count.since() == 0);
  }
}

TEST_CASE("a generator of the wrong size is refused") {
  const LinearPolicy layer{m, k, 0};
  CHECK(layer.outputs() == m * k + m);
  CHECK(LinearPolicy{m, k, 3}.outputs() == (m + k) * 3 + m);
  CHECK_THROWS_AS((LinearPolicyNet<double>(network({p, layer.outputs() + 1}, {}, Kind::Dense), layer, p)),
                  std::invalid_argument);
  CHECK_THROWS_AS((LinearPolicyNet<double>(network({p + 1, layer.outputs()}, {}, Kind::Dense), layer, p)),
                  std::invalid_argument);
}
