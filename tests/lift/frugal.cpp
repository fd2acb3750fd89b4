// FRUGAL against a transcription of its algorithm, on the rows it selects itself: selection, reset, Adam inside, sign or SGD
// outside. The bases of other projectors enter only through P, which the laws cover.
#include <support/naive.hpp>

#include <lowrank/recipes.hpp>

using namespace lowrank;
using naive::MatrixXd;

namespace {

auto frugal_equations(const FrugalOptions& o, double lr) {
  return [=](Index rows, Index cols) {
    return [=, M = MatrixXd(), V = MatrixXd(), chosen = std::vector<Index>(), s = 0](MatrixXd& W, const MatrixXd& G, int t) mutable {
      const MatrixXd A = naive::smaller_first(G, rows, cols);
      if (t % o.refresh_every == 0) {
        std::vector<Index> order;
        for (Index i = 0; i < A.rows(); ++i) order.push_back(i);
        std::sort(order.begin(), order.end(), [&](Index a, Index b) { return A.row(a).norm() > A.row(b).norm(); });
        chosen.assign(order.begin(), order.begin() + o.rank);
        std::sort(chosen.begin(), chosen.end());
        M = V = MatrixXd::Zero(o.rank, A.cols());
        s = 0;
      }
      ++s;
      const MatrixXd R = A(chosen, Eigen::all);
      M = o.beta1 * M + (1 - o.beta1) * R;
      V = o.beta2 * V.array() + (1 - o.beta2) * R.array().square();
      MatrixXd U = A;
      U(chosen, Eigen::all).setZero();
      if (o.remainder == Remainder::Sign) U = U.array().sign().matrix().eval();
      U *= o.scale;
      U(chosen, Eigen::all) = (M / (1 - std::pow(o.beta1, s))).array() / ((V / (1 - std::pow(o.beta2, s))).array().sqrt() + o.eps);
      W *= 1 - lr * o.weight_decay;
      W -= lr * (rows >= cols ? MatrixXd(U.transpose()) : U);
    };
  };
}

}  // namespace

TEST_CASE("FRUGAL's algorithm", "[lift]") {
  for (const Remainder remainder : {Remainder::Sign, Remainder::Sgd}) {
    const FrugalOptions o{.rank = 5, .refresh_every = 3, .scale = 0.5, .remainder = remainder, .weight_decay = 0.1};
    naive::follow<double>([&](auto w) { return frugal<Coordinates>(w, o); }, frugal_equations(o, 0.02), 8, 0.02, 1e-12);
    naive::follow<float>([&](auto w) { return frugal<Coordinates>(w, o); }, frugal_equations(o, 0.02), 8, 0.02, 1e-5);
  }
}

TEST_CASE("Without remainder FRUGAL is GaLore, at full rank AdamW", "[lift]") {
  using support::random_matrix;
  MatrixXd a = random_matrix(20, 30, 1), b = a, c = a, d = a;
  const FrugalOptions none{.rank = 6, .refresh_every = 3, .scale = 0};
  auto frugal_step = frugal(a, none);
  Optimizer galore_step(b, Subspace{.rank = 6, .refresh_every = 3, .transport = Transport::Reset}, AdamW{.weight_decay = 0.01});
  Optimizer full(c, Coordinates{.rank = 20, .refresh_every = 0}, AdamW{.weight_decay = 0.01}, Frugal{});
  auto adam = adamw(d, AdamW{.weight_decay = 0.01});
  for (int t = 0; t < 7; ++t) {
    const MatrixXd g = support::training_gradient(20, 30, t);
    frugal_step.step(a, g, {.lr = 0.01});
    galore_step.step(b, g, {.lr = 0.01});
    full.step(c, g, {.lr = 0.01});
    adam.step(d, g, {.lr = 0.01});
  }
  CHECK((a - b).norm() < 1e-13 * b.norm());
  CHECK((c - d).norm() < 1e-13 * d.norm());
}
