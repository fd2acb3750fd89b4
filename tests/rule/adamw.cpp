// AdamW against its two published forms, transcribed.
#include <cmath>
#include <limits>

#include <support/catch.hpp>

#include <lowrank/rule/adamw.hpp>
#include <rule/driven.hpp>

using namespace support;
using namespace lowrank;
using Catch::Matchers::ContainsSubstring;
using Eigen::ArrayXXd;
using Eigen::MatrixXd;

namespace {

constexpr Index r = 5, k = 37;

/// Textbook Adam; eps inside or outside of the correction.
struct Textbook {
  ArrayXXd M = ArrayXXd::Zero(r, k), V = ArrayXXd::Zero(r, k);
  int t = 0;

  MatrixXd step(const AdamW& o, const ArrayXXd& R) {
    ++t;
    M = o.beta1 * M + (1 - o.beta1) * R;
    V = o.beta2 * V + (1 - o.beta2) * R * R;
    const bool on = o.bias_correction == BiasCorrection::On;
    const double bc1 = on ? 1 - std::pow(o.beta1, t) : 1, bc2 = on ? 1 - std::pow(o.beta2, t) : 1;
    if (o.epsilon == Epsilon::AfterCorrection) return (M / bc1) / ((V / bc2).sqrt() + o.eps);  // torch.optim.AdamW
    return std::sqrt(bc2) / bc1 * (M / (V.sqrt() + o.eps));                                    // galore_torch's AdamW
  }
};

}  // namespace

TEMPLATE_TEST_CASE("AdamW's direction is the textbook's in every form, for many steps", "[rule]", float, double) {
  const double eps = double(std::numeric_limits<TestType>::epsilon());
  for (const Epsilon epsilon : {Epsilon::AfterCorrection, Epsilon::BeforeCorrection})
    for (const BiasCorrection correction : {BiasCorrection::On, BiasCorrection::Off})
      for (const double size : {1e-8, 1e-2}) {  // an eps that can be told apart, and the usual one
        AdamW o{.beta1 = 0.8, .beta2 = 0.97, .eps = size, .epsilon = epsilon, .bias_correction = correction};
        Driven<TestType, AdamW> adam(o, r, k);
        Textbook textbook;
        for (int t = 0; t < 40; ++t) {
          if (t == 20) {  // options may change between steps
            o.beta1 = 0.9, o.beta2 = 0.999, o.eps *= 3;
            adam.options() = o;
          }
          const Placed<TestType> R(std::pow(0.9, t) * random_matrix(r, k, 100 + unsigned(t)), Order::Columns);
          INFO("form " << int(epsilon) << ", correction " << int(correction) << ", eps " << size << ", step " << t);
          // every step rounds each moment by a relative eps, and they decay
          CHECK(distance(adam.step(R.values()), textbook.step(o, R.values())) < 50 * eps);
          CHECK(distance(adam.moment("exp_avg"), textbook.M) < 20 * eps);
          CHECK(distance(adam.moment("exp_avg_sq"), textbook.V) < 20 * eps);
        }
      }
}

TEST_CASE("The forms differ where the papers say they do", "[rule]") {
  // at the first step eps counts 1 / sqrt(1 - beta2) times as much when it is added to the raw moment
  const AdamW after{.eps = 0.1}, before{.eps = 0.1, .epsilon = Epsilon::BeforeCorrection};
  Driven<double, AdamW> a(after, 1, 1), b(before, 1, 1);
  const MatrixXd one = MatrixXd::Ones(1, 1);
  CHECK(a.step(one)(0) == Catch::Approx(1 / 1.1).epsilon(1e-14));
  CHECK(b.step(one)(0) == Catch::Approx(1 / (1 + 0.1 / std::sqrt(0.001))).epsilon(1e-12));
  const AdamW first{.weight_decay = 0.5}, last{.weight_decay = 0.5, .decay_order = DecayOrder::AfterUpdate};
  const Decay x = RuleState<AdamW, double, kernel::Best>(first, 1, 1).decay(0.1);
  const Decay y = RuleState<AdamW, double, kernel::Best>(last, 1, 1).decay(0.1);
  CHECK((x.before == 0.95 && x.after == 1));
  CHECK((y.before == 1 && y.after == 0.95));
}

TEST_CASE("Senseless options of AdamW throw, at construction and when changed", "[rule]") {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  const auto refused = [](AdamW o, const char* name) {
    using State = RuleState<AdamW, float, kernel::Best>;
    INFO(name);
    CHECK_THROWS_WITH(State(o, r, k), ContainsSubstring("lowrank::AdamW: got") && ContainsSubstring(name));
    State state(AdamW{}, r, k);
    state.options() = o;
    CHECK_THROWS_AS(state.check(), std::invalid_argument);
  };
  for (const double bad : {-0.1, 1.0, 1.5, nan, inf}) {
    refused({.beta1 = bad}, "beta1");
    refused({.beta2 = bad}, "beta2");
  }
  for (const double bad : {-1e-8, nan, inf}) {
    refused({.eps = bad}, "eps");
    refused({.weight_decay = bad}, "weight_decay");
  }
  // 0 / 0 for an element that never had a gradient; in float 1e-60 is 0 as well
  refused({.eps = 0}, "eps");
  refused({.eps = 1e-60}, "eps");
}
