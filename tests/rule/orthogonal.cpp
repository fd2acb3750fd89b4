// Muon against a transcription of its equations: momentum in both forms, every shape factor, decoupled decay.
#include <support/naive.hpp>

#include <lowrank/recipes.hpp>

using namespace lowrank;
using naive::MatrixXd;

namespace {

auto muon_equations(const Orthogonal& o, double lr) {
  return [=](Index rows, Index cols) {
    return [=, M = MatrixXd(MatrixXd::Zero(rows, cols))](MatrixXd& W, const MatrixXd& G, int) mutable {
      M = o.momentum * M + G;
      const MatrixXd U = naive::newton_schulz(o.form == Momentum::Nesterov ? MatrixXd(G + o.momentum * M) : M, o.polynomial);
      const double m = double(rows), n = double(cols);
      double f = 1;
      if (o.shape_scale == ShapeScale::Tall) f = std::sqrt(std::max(1.0, m / n));
      if (o.shape_scale == ShapeScale::Rms) f = 0.2 * std::sqrt(std::max(m, n));
      if (o.shape_scale == ShapeScale::Spectral) f = std::sqrt(m / n);
      W *= 1 - lr * o.weight_decay;
      W -= lr * f * U;
    };
  };
}

}  // namespace

TEST_CASE("Muon's equations", "[rule]") {
  for (const Momentum form : {Momentum::Heavy, Momentum::Nesterov})
    for (const ShapeScale scale : {ShapeScale::None, ShapeScale::Tall, ShapeScale::Rms, ShapeScale::Spectral}) {
      const Polynomial polynomial = form == Momentum::Heavy ? Polynomial::PolarExpress : Polynomial::Quintic;
      const Orthogonal o{.momentum = 0.9, .weight_decay = 0.1, .form = form, .polynomial = polynomial, .shape_scale = scale};
      naive::follow<double>([&](auto w) { return muon(w, o); }, muon_equations(o, 0.05), 4, 0.05, 1e-11);
    }
  const Orthogonal o;
  naive::follow<float>([&](auto w) { return muon(w, o); }, muon_equations(o, 0.02), 4, 0.02, 1e-4);
}

TEST_CASE("At full rank a basis changes nothing: polar(P^T A) = P^T polar(A)", "[rule]") {
  // P is square and orthogonal; without momentum the subspace form takes the steps of Muon
  const Orthogonal o{.momentum = 0, .form = Momentum::Heavy, .polynomial = Polynomial::Tuned};
  const Subspace full{.rank = 1000};
  naive::follow<double>([&](auto w) { return muon(w, o, full); }, muon_equations(o, 0.05), 4, 0.05, 1e-10);
}

TEST_CASE("Options of the rule are checked", "[rule]") {
  MatrixXd W = MatrixXd::Zero(4, 6);
  CHECK_THROWS_WITH(muon(W, {.momentum = 1}), Catch::Matchers::ContainsSubstring("momentum"));
  CHECK_THROWS_WITH(muon(W, {.weight_decay = -1}), Catch::Matchers::ContainsSubstring("weight_decay"));
}
