// Limits in which a projected optimizer must be another one: bases that differ by signs and order, and bases that span
// everything.
#include <lift/by_hand.hpp>
#include <support/catch.hpp>
#include <support/injected.hpp>
#include <support/placed.hpp>
#include <support/stepper.hpp>

#include <lowrank/optimizer.hpp>
#include <lowrank/rule/adamw.hpp>
#include <lowrank/rule/sgd.hpp>

using namespace support;
using namespace lowrank;

namespace {

constexpr Index d = 24, k = 40;
constexpr int period = 3;

/// The weight after every step.
template <class R>
std::vector<MatrixXd> train(const std::vector<MatrixXd>& bases, Transport transport, R rule, BackProject lift = {}) {
  MatrixXd W = random_matrix(d, k, 1);
  Optimizer optimizer(W, Injected{.rank = bases[0].cols(), .side = Side::Left, .refresh_every = period, .bases = &bases, .transport = transport}, rule, lift);
  std::vector<MatrixXd> weights;
  for (int t = 0; t < period * int(bases.size()); ++t) {
    optimizer.step(W, training_gradient(d, k, t), {.lr = 0.01});
    weights.push_back(W);
  }
  return weights;
}

}  // namespace

TEST_CASE("Signs and order of basis vectors: invisible until moments are kept in place across a refresh", "[optimizer]") {
  std::vector<MatrixXd> plain, turned;
  for (int i = 0; i < 4; ++i) {
    plain.push_back(orthonormal(d, 5, i));
    MatrixXd P = plain.back();
    for (Index j = 0; j < 5; ++j) P.col(j) = (j + i) % 2 == 0 ? plain.back().col((j + i + 1) % 5) : MatrixXd(-plain.back().col((j + i + 1) % 5));
    turned.push_back(P);
  }
  for (const Epsilon epsilon : {Epsilon::AfterCorrection, Epsilon::BeforeCorrection}) {
    const AdamW rule{.epsilon = epsilon};
    const auto rotated = train(plain, Transport::Rotate, rule), rotated_turned = train(turned, Transport::Rotate, rule);
    const auto reset = train(plain, Transport::Reset, rule), reset_turned = train(turned, Transport::Reset, rule);
    const auto kept = train(plain, Transport::Keep, rule), kept_turned = train(turned, Transport::Keep, rule);
    for (std::size_t t = 0; t < kept.size(); ++t) {
      INFO("step " << t);
      CHECK(distance(rotated[t], rotated_turned[t]) < 1e-12);
      CHECK(distance(reset[t], reset_turned[t]) < 1e-12);
      if (t < period) CHECK(distance(kept[t], kept_turned[t]) < 1e-13);
      else CHECK(distance(kept[t], kept_turned[t]) > 1e-4);
    }
  }
}

TEST_CASE("At full rank SGD in any orthonormal basis is SGD, its momentum carried from basis to basis", "[optimizer]") {
  std::vector<MatrixXd> bases;
  for (int i = 0; i < 4; ++i) bases.push_back(orthonormal(d, d, i));
  for (const Sgd& rule : {Sgd{}, Sgd{.weight_decay = 0.1}, Sgd{.momentum = 0.9, .weight_decay = 0.1},
                          Sgd{.momentum = 0.9, .weight_decay = 0.1, .form = Momentum::Nesterov}}) {
    INFO("momentum " << rule.momentum << ", form " << int(rule.form));
    const auto projected = train(bases, Transport::Rotate, rule);
    MatrixXd W = random_matrix(d, k, 1), M;
    for (std::size_t t = 0; t < projected.size(); ++t) {
      const MatrixXd G = training_gradient(d, k, int(t));
      M = t == 0 ? G : MatrixXd(rule.momentum * M + G);
      W *= 1 - 0.01 * rule.weight_decay;
      W -= 0.01 * (rule.form == Momentum::Nesterov ? MatrixXd(G + rule.momentum * M) : M);
      CHECK(distance(projected[t], W) < 1e-13);
    }
  }
}

TEST_CASE("At full rank in the unit basis AdamW is AdamW, bit for bit, in both forms and decay orders", "[optimizer]") {
  // the public bug: decay after the projected update was 4.9e-3 away from AdamW in five steps
  const std::vector<MatrixXd> bases(4, MatrixXd::Identity(d, d));
  const auto dense = [&](const char* name) {
    Placed<double> w(random_matrix(d, k, 1), Order::Columns);
    const auto optimizer = named_policy<double>(name).make(w.view(), {});
    for (int t = 0; t < period * 4; ++t)
      optimizer->step(w.view(), Placed<double>(training_gradient(d, k, t), Order::Columns).view(), {.lr = 0.01});
    return w.values();
  };
  const AdamW torch{.weight_decay = 0.1};
  const AdamW galore{.eps = 1e-6, .weight_decay = 0.1, .epsilon = Epsilon::BeforeCorrection, .decay_order = DecayOrder::AfterUpdate};
  CHECK(train(bases, Transport::Keep, torch).back() == dense("adamw"));
  CHECK(train(bases, Transport::Keep, galore, {.scale = 0.5}).back() == dense("adamw, GaLore's form"));
  // and the orders do differ, by what decay takes from each update
  AdamW last = torch;
  last.decay_order = DecayOrder::AfterUpdate;
  CHECK(distance(train(bases, Transport::Keep, last).back(), dense("adamw")) > 1e-6);
}
