// Penalties: their gradients against central differences of their values, the two routes against each other, the laws
// of the estimators, and what a step must not do.
#include "jacobian/networks.hpp"

#include <support/malloc_counter.hpp>

#include <lowrank/jacobian/penalty.hpp>
#include <lowrank/jacobian/spectral.hpp>

using namespace lowrank_test;
using Catch::Approx;

namespace {

const std::vector<Index> dims = {5, 7, 6, 4};

struct Setup {
  Mlp<double> net;
  Matrix<double> X, Y, dY;
  Mlp<double>::Cache cache;

  Setup(Activation a, Kind kind, Index B = 3)
      : net(network(dims, a, kind)),
        X(random_matrix(dims.front(), B, 91)),
        Y(dims.back(), B),
        dY(random_matrix(dims.back(), B, 94)),
        cache(net.cache(B)) {
    forward();
  }
  void forward() { net.forward(batch(std::as_const(X)), cache, batch(Y)); }
  /// J^T dY with the cache as it is.
  Matrix<double> pulled_back() {
    Matrix<double> Q(X.rows(), X.cols());
    net.vjp(cache, batch(std::as_const(dY)), batch(Q));
    return Q;
  }
  Matrix<double> jacobian(Index b) {
    const Index C = Y.rows(), B = X.cols();
    Matrix<double> J(C, X.rows()), V(C, B), Q(X.rows(), B);
    forward();
    for (Index c = 0; c < C; ++c) {
      V.setZero();
      V.row(c).setOnes();
      net.vjp(cache, batch(std::as_const(V)), batch(Q));
      J.row(c) = Q.col(b).transpose();
    }
    return J;
  }
};

/// weight dR + dl in parameters and inputs, against differences of weight R + <dY, f>.
template <class P>
void check_gradient(Setup& s, P& penalty, PenaltyStep<double> step) {
  const auto total = [&] {
    s.forward();
    const double loss = s.dY.cwiseProduct(s.Y).sum();
    const double R = step.projections.data != nullptr ? penalty.value_of(s.net, s.cache, s.X, step.projections)
                                                      : penalty.value(s.net, s.cache, s.X, step.draw);
    return loss + step.weight * R;
  };
  Grads grads = s.net.grads();
  Matrix<double> dX = Matrix<double>::Zero(s.X.rows(), s.X.cols());
  step.loss = view(std::as_const(s.dY));
  step.input_gradient = view(dX);
  s.forward();
  const double R = penalty.add_gradient(s.net, s.cache, s.X, grads, step);
  CHECK(std::abs(s.dY.cwiseProduct(s.Y).sum() + step.weight * R - total()) < 1e-12);

  const Grads direction = random_direction(s.net, 8);
  const double in_parameters = slope(
      [&](double h) {
        move(s.net, h, direction);
        const double value = total();
        move(s.net, -h, direction);
        return value;
      },
      2e-6);
  CHECK(std::abs(inner(grads, direction) - in_parameters) <= 1e-6 * (1 + std::abs(in_parameters)));
  const Matrix<double> X = s.X, D = random_matrix(X.rows(), X.cols(), 55);
  const double in_inputs = slope(
      [&](double h) {
        s.X = X + h * D;
        return total();
      },
      2e-6);
  s.X = X;
  s.forward();
  CHECK(std::abs(dX.cwiseProduct(D).sum() - in_inputs) <= 1e-6 * (1 + std::abs(in_inputs)));
}

const Projection laws[] = {{Law::Sphere, 1},     {Law::Sphere, 3},      {Law::Gaussian, 2}, {Law::Rademacher, 2},
                           {Law::Coordinate, 2}, {Law::Orthonormal, 3}, {Law::Exact}};

template <class F>
void for_all(const F& f) {
  for (const Activation& a :
       {Activation{Nonlinearity::Relu}, Activation{Nonlinearity::Tanh}, Activation{Nonlinearity::Gelu}})
    for (const Kind kind : {Kind::Dense, Kind::Mixed}) {
      CAPTURE(int(a.kind), int(kind));
      Setup s(a, kind);
      f(s);
    }
}

}  // namespace

TEST_CASE("penalty gradients are the derivatives of their values, with the loss in the same sweep") {
  for_all([](Setup& s) {
    const Matrix<double> T = random_matrix(4, 5, 3), ones = Matrix<double>::Ones(4, 3);
    const Vector<double> inputs = (Vector<double>(5) << 0, 1, 2, 0.5, 0).finished();
    for (const Projection& p : laws) {
      CAPTURE(int(p.law), p.n);
      const auto check = [&](auto term) {
        Penalty penalty(p, term);
        check_gradient(s, penalty, {.weight = 0.7, .draw = {3, 4}});
      };
      check(SquaredFrobenius{});
      check(FrobeniusNorm{});
      check(HoldAt{.level = 0.1});
      check(HoldAt{.level = 50});
      check(TargetMatrix{T});
      check(ActionJacobian{inputs});
    }
    Penalty cosine(Projection{}, CentroidCosine{});
    check_gradient(s, cosine, {.weight = 0.7, .projections = view(ones)});
  });
}

TEST_CASE("values with all projections are functions of the Jacobian") {
  for_all([](Setup& s) {
    const Matrix<double> T = random_matrix(4, 5, 3);
    const Vector<double> scale = (Vector<double>(5) << 0, 1, 2, 0.5, 0).finished();
    double squares = 0, norms = 0, target = 0, action = 0, spectral = 0;
    for (Index b = 0; b < 3; ++b) {
      const Matrix<double> J = s.jacobian(b);
      squares += J.squaredNorm() / 3;
      norms += J.norm() / 3;
      target += (J - T).squaredNorm() / 3;
      action += (J * scale.asDiagonal()).squaredNorm() / 3;
      Vector<double> w = Vector<double>::Ones(5);
      for (int k = 0; k < 2000; ++k) w = (J.transpose() * (J * w)).normalized();
      spectral += (J * w).norm() / 3;
    }
    s.forward();
    const auto value = [&](auto term) { return Penalty(Projection{Law::Exact}, term).value(s.net, s.cache, s.X, {}); };
    CHECK(value(SquaredFrobenius{}) == Approx(squares / 2).epsilon(1e-12));
    CHECK(value(FrobeniusNorm{}) == Approx(norms).epsilon(1e-12));
    CHECK(value(HoldAt{.level = 1.5}) == Approx(std::abs(norms - 1.5)).epsilon(1e-12));
    CHECK(value(TargetMatrix{T, 1}) == Approx(target).epsilon(1e-12));
    CHECK(value(ActionJacobian{scale}) == Approx(action).epsilon(1e-12));
    CHECK(SpectralPenalty(SpectralNorm{500}).value(s.net, s.cache, 3, {.draw = {1, 2}}) ==
          Approx(spectral).epsilon(1e-9));
    CHECK(SpectralPenalty(SpectralNorm{1}).value(s.net, s.cache, 3, {.draw = {1, 2}}) <= spectral * (1 + 1e-12));
    // as many orthonormal projections as outputs are exact, whatever they are
    const double orthonormal =
        Penalty(Projection{Law::Orthonormal, 4}, SquaredFrobenius{}).value(s.net, s.cache, s.X, {9, 9});
    CHECK(std::abs(orthonormal - squares / 2) <= 1e-12 * squares);
  });
}

TEST_CASE("the spectral penalty's gradient is the derivative of the largest singular value") {
  for_all([](Setup& s) {
    SpectralPenalty penalty(SpectralNorm{400});
    const auto total = [&] {
      s.forward();
      return s.dY.cwiseProduct(s.Y).sum() + 0.7 * penalty.value(s.net, s.cache, 3, {.draw = {1, 2}});
    };
    Grads grads = s.net.grads();
    Matrix<double> dX = Matrix<double>::Zero(5, 3);
    s.forward();
    penalty.add_gradient(
        s.net, s.cache, 3, grads,
        {.weight = 0.7, .draw = {1, 2}, .loss = view(std::as_const(s.dY)), .input_gradient = view(dX)});
    const Grads direction = random_direction(s.net, 8);
    const double expected = slope(
        [&](double h) {
          move(s.net, h, direction);
          const double v = total();
          move(s.net, -h, direction);
          return v;
        },
        2e-6);
    CHECK(std::abs(inner(grads, direction) - expected) <= 1e-6 * (1 + std::abs(expected)));
    const Matrix<double> X = s.X, D = random_matrix(5, 3, 55);
    const double along = slope(
        [&](double h) {
          s.X = X + h * D;
          return total();
        },
        2e-6);
    CHECK(std::abs(dX.cwiseProduct(D).sum() - along) <= 1e-6 * (1 + std::abs(along)));
  });
}

TEST_CASE("finite differences agree with the analytic route where no kink is crossed") {
  for_all([](Setup& s) {
    Grads exact = s.net.grads(), numeric = s.net.grads();
    Matrix<double> dX = Matrix<double>::Zero(5, 3), dX_numeric = dX;
    PenaltyStep<double> step{
        .weight = 0.3, .draw = {5, 6}, .loss = view(std::as_const(s.dY)), .input_gradient = view(dX)};
    const auto before = s.pulled_back();
    Penalty analytic(Projection{.n = 2}, FrobeniusNorm{});
    Penalty difference_route(Projection{.n = 2}, FrobeniusNorm{}, FiniteDifference{.h = 1e-6});
    const double a = analytic.add_gradient(s.net, s.cache, s.X, exact, step);
    step.input_gradient = view(dX_numeric);
    const double b = difference_route.add_gradient(s.net, s.cache, s.X, numeric, step);
    CHECK(a == b);
    CHECK(difference(exact, numeric) < 1e-7);
    CHECK((dX - dX_numeric).cwiseAbs().maxCoeff() < 1e-7);
    CHECK(s.pulled_back() == before);  // the cache is back at X
  });
}
