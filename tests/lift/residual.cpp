// Fira: two products and a norm from parts give what the paper's three products and whole matrices give.
#include <limits>

#include <lift/by_hand.hpp>
#include <support/catch.hpp>
#include <support/injected.hpp>
#include <support/placed.hpp>

#include <lowrank/lift/residual.hpp>
#include <lowrank/optimizer.hpp>
#include <lowrank/rule/adamw.hpp>

using namespace support;
using namespace lowrank;

namespace {

const AdamW rule{.beta2 = 0.99, .eps = 1e-6, .weight_decay = 0.1, .epsilon = Epsilon::BeforeCorrection,
                 .decay_order = DecayOrder::AfterUpdate};
constexpr double lr = 0.01;

/// The update of one step, unfused; its second equation is the paper's (6)-(9) or the published code.
MatrixXd unfused(const MatrixXd& P, const MatrixXd& A, const Residual& o, AdamByHand& adam, LimiterByHand& limiter) {
  const MatrixXd R = P.transpose() * A, N = adam.direction(rule, R);
  const Eigen::RowVectorXd phi = ratios(N, R);
  if (o.form == FiraForm::Code) {
    MatrixXd S = (A - o.scale * (P * R)) * phi.asDiagonal();
    S /= limiter.factor(o.limiter, S.norm());
    return adam.gain * (o.scale * (P * N) + S);
  }
  const MatrixXd corrected = adam.gain * N;
  MatrixXd S = (A - P * R) * (adam.gain * phi).asDiagonal();
  S /= limiter.factor(o.limiter, S.norm());
  return o.scale * (P * corrected + S);
}

}  // namespace

TEST_CASE("Fira fused is Fira unfused, in the form of its code and of its paper", "[lift]") {
  const double inf = std::numeric_limits<double>::infinity();
  int limited = 0;
  for (const auto& [d, k, r] : {std::tuple<Index, Index, Index>{30, 80, 6}, {70, 40, 9}, {300, 140, 64}, {12, 12, 12}})
    for (const FiraForm form : {FiraForm::Code, FiraForm::Paper})
      for (const double scale : {0.25, 1.0, 2.5})
        for (const Limiter& limiter : {Limiter{}, Limiter{.gamma = inf}, Limiter{.gamma = 1.2, .floor = 5}}) {
          INFO(d << " x " << k << ", rank " << r << ", form " << int(form) << ", scale " << scale << ", gamma " << limiter.gamma);
          const Residual o{.scale = scale, .form = form, .limiter = limiter};
          std::vector<MatrixXd> bases;
          for (int i = 0; i < 3; ++i) bases.push_back(orthonormal(d, r, i));
          MatrixXd W = random_matrix(d, k, 1);
          Placed<double> w(W, Order::Columns);
          Optimizer optimizer(w.view(), Injected{.rank = r, .side = Side::Left, .refresh_every = 3, .bases = &bases}, rule, o);
          AdamByHand adam;
          LimiterByHand by_hand;
          for (int t = 0; t < 9; ++t) {
            // sizes that jump: the limiter acts at some steps and not at others
            const Placed<double> g((t % 4 == 1 ? 3.0 : 1.0) * training_gradient(d, k, t), Order::Rows);
            optimizer.step(w.view(), g.view(), {.lr = lr});
            W -= lr * unfused(bases[std::size_t(t / 3)], g.values(), o, adam, by_hand);
            W *= 1 - lr * rule.weight_decay;
            INFO("step " << t);
            CHECK(distance(w.values(), W) < 1e-12);
          }
          if (r < d) limited += by_hand.limited;
        }
  CHECK(limited > 20);  // or the limiter was not part of this
}

TEST_CASE("At full rank the paper's residual vanishes and Fira is GaLore", "[lift]") {
  const Index d = 12, k = 20;
  const std::vector<MatrixXd> bases{orthonormal(d, d, 0)};
  const Injected whole{.rank = d, .side = Side::Left, .refresh_every = 0, .bases = &bases};
  for (const FiraForm form : {FiraForm::Paper, FiraForm::Code}) {
    MatrixXd W = random_matrix(d, k, 1);
    Placed<double> w(W, Order::Columns);
    Optimizer optimizer(w.view(), whole, rule, Residual{.form = form});
    AdamByHand adam;
    for (int t = 0; t < 6; ++t) {
      const Placed<double> g(training_gradient(d, k, t), Order::Columns);
      optimizer.step(w.view(), g.view(), {.lr = lr});
      W -= lr * adam.gain * bases[0] * adam.direction(rule, bases[0].transpose() * g.values());
      W *= 1 - lr * rule.weight_decay;
    }
    // ||S||^2 is a difference that cancels: what is left of it is sqrt(eps) of the parts
    CHECK(distance(w.values(), W) < 1e-8);
  }
}
