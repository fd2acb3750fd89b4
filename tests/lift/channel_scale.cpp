// APOLLO: the fused step is the scaled gradient of the paper, per channel or for the whole tensor, limited before or after.
#include <limits>

#include <lift/by_hand.hpp>
#include <support/catch.hpp>
#include <support/injected.hpp>
#include <support/placed.hpp>

#include <lowrank/lift/channel_scale.hpp>
#include <lowrank/optimizer.hpp>
#include <lowrank/rule/adamw.hpp>

using namespace support;
using namespace lowrank;

namespace {

const AdamW rule{.beta2 = 0.99, .eps = 1e-6, .weight_decay = 0.1, .epsilon = Epsilon::BeforeCorrection,
                 .decay_order = DecayOrder::AfterUpdate};
constexpr double lr = 0.01;

MatrixXd unfused(const MatrixXd& P, const MatrixXd& A, const ChannelScale& o, AdamByHand& adam, LimiterByHand& limiter) {
  const MatrixXd R = P.transpose() * A, N = adam.direction(rule, R);
  const bool tensor = o.granularity == Granularity::Tensor;
  const double whole = N.norm() / (R.norm() + 1e-8);
  MatrixXd S = tensor ? MatrixXd(whole * A) : MatrixXd(A * ratios(N, R).asDiagonal());
  if (o.scale_order == ScaleOrder::BeforeLimiter) S *= std::sqrt(o.scale);
  S /= limiter.factor(o.limiter, S.norm());
  if (o.scale_order == ScaleOrder::AfterLimiter) S *= std::sqrt(o.scale);
  return adam.gain * S;
}

}  // namespace

TEST_CASE("APOLLO fused is APOLLO unfused", "[lift]") {
  const double inf = std::numeric_limits<double>::infinity();
  for (const auto& [d, k, r] : {std::tuple<Index, Index, Index>{30, 80, 6}, {70, 40, 1}, {300, 140, 64}, {12, 12, 12}})
    for (const Granularity granularity : {Granularity::Channel, Granularity::Tensor})
      for (const ScaleOrder order : {ScaleOrder::AfterLimiter, ScaleOrder::BeforeLimiter})
        for (const Limiter& limiter : {Limiter{}, Limiter{.gamma = inf}, Limiter{.gamma = 1.2, .floor = 5}}) {
          INFO(d << " x " << k << ", rank " << r << ", granularity " << int(granularity) << ", order " << int(order)
                 << ", gamma " << limiter.gamma);
          const ChannelScale o{.scale = 7, .granularity = granularity, .scale_order = order, .limiter = limiter};
          std::vector<MatrixXd> bases;  // not orthonormal: as random as APOLLO's
          for (unsigned i = 0; i < 3; ++i) bases.push_back(random_matrix(d, r, i) / std::sqrt(double(r)));
          MatrixXd W = random_matrix(d, k, 1);
          Placed<double> w(W, Order::Columns);
          Optimizer optimizer(w.view(), Injected{.rank = r, .side = Side::Left, .refresh_every = 3, .bases = &bases}, rule, o);
          AdamByHand adam;
          LimiterByHand by_hand;
          for (int t = 0; t < 9; ++t) {
            const Placed<double> g((t % 4 == 1 ? 3.0 : 1.0) * training_gradient(d, k, t), Order::Rows);
            optimizer.step(w.view(), g.view(), {.lr = lr});
            W -= lr * unfused(bases[std::size_t(t / 3)], g.values(), o, adam, by_hand);
            W *= 1 - lr * rule.weight_decay;
            INFO("step " << t);
            CHECK(distance(w.values(), W) < 1e-12);
          }
          if (limiter.gamma == 1.01) CHECK(by_hand.limited > 0);
        }
}

TEST_CASE("Where the limiter is off the order of the scale does not matter, where it acts it does", "[lift]") {
  const Index d = 20, k = 30;
  const std::vector<MatrixXd> bases{orthonormal(d, 4, 0)};
  const auto train = [&](ScaleOrder order, Limiter limiter) {
    Placed<double> w(random_matrix(d, k, 1), Order::Columns);
    Optimizer optimizer(w.view(), Injected{.rank = 4, .side = Side::Left, .refresh_every = 0, .bases = &bases}, rule,
                        ChannelScale{.scale = 9, .scale_order = order, .limiter = limiter});
    for (int t = 0; t < 5; ++t) optimizer.step(w.view(), Placed<double>((1 + t) * training_gradient(d, k, t), Order::Columns).view(), {.lr = lr});
    return w.values();
  };
  const Limiter off{.gamma = std::numeric_limits<double>::infinity()}, floor{.floor = 25};
  CHECK(distance(train(ScaleOrder::BeforeLimiter, off), train(ScaleOrder::AfterLimiter, off)) < 1e-14);
  // without a floor both orders limit the same sequence up to a factor
  CHECK(distance(train(ScaleOrder::BeforeLimiter, {}), train(ScaleOrder::AfterLimiter, {})) < 1e-7);
  CHECK(distance(train(ScaleOrder::BeforeLimiter, floor), train(ScaleOrder::AfterLimiter, floor)) > 1e-4);
}
