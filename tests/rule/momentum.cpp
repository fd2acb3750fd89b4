// SGD with momentum, Nesterov's form and Lion against their definitions, transcribed.
#include <cmath>
#include <limits>

#include <support/catch.hpp>

#include <lowrank/rule/lion.hpp>
#include <lowrank/rule/sgd.hpp>
#include <rule/driven.hpp>

using namespace support;
using namespace lowrank;
using Catch::Matchers::ContainsSubstring;
using Eigen::ArrayXXd;
using Eigen::MatrixXd;

namespace {

constexpr Index r = 5, k = 37;

}  // namespace

TEMPLATE_TEST_CASE("SGD: plain, momentum, dampening, Nesterov", "[rule]", float, double) {
  const double eps = double(std::numeric_limits<TestType>::epsilon());
  for (const Momentum form : {Momentum::Heavy, Momentum::Nesterov})
    for (const double mu : {0.0, 0.9})
      for (const double dampening : {0.0, 0.3}) {
        Sgd o{.momentum = mu, .dampening = dampening, .form = form};
        Driven<TestType, Sgd> sgd(o, r, k);
        ArrayXXd M = ArrayXXd::Zero(r, k);
        for (int t = 0; t < 20; ++t) {
          if (t == 10 && mu != 0) sgd.options().momentum = o.momentum = 0.5;
          const Placed<TestType> R(random_matrix(r, k, 100 + unsigned(t)), Order::Columns);
          const ArrayXXd x = R.values();
          ArrayXXd expected = x;
          if (mu != 0) {  // torch.optim.SGD: the first momentum is the gradient, undamped
            if (t == 0) M = x;
            else M = o.momentum * M + (1 - dampening) * x;
            expected = form == Momentum::Nesterov ? ArrayXXd(x + o.momentum * M) : M;
          }
          INFO("form " << int(form) << ", momentum " << mu << ", dampening " << dampening << ", step " << t);
          CHECK(distance(sgd.step(x), expected) < 20 * eps);
          if (mu != 0) CHECK(distance(sgd.moment("momentum"), M) < 20 * eps);
          else CHECK(sgd.moment("momentum").size() == 0);
        }
      }
}

TEMPLATE_TEST_CASE("Lion: the sign of one average, the state of another", "[rule]", float, double) {
  const double eps = double(std::numeric_limits<TestType>::epsilon());
  const Lion o{.beta1 = 0.8, .beta2 = 0.95};
  Driven<TestType, Lion> lion(o, r, k);
  ArrayXXd M = ArrayXXd::Zero(r, k);
  for (int t = 0; t < 20; ++t) {
    MatrixXd g = random_matrix(r, k, 100 + unsigned(t));
    g.col(3).setZero();  // never a gradient: no direction, sign(0) = 0
    const Placed<TestType> R(g, Order::Columns);
    const ArrayXXd x = R.values(), mixed = o.beta1 * M + (1 - o.beta1) * x;
    const MatrixXd N = lion.step(x);
    for (Index i = 0; i < g.size(); ++i)
      if (mixed(i) == 0 || std::abs(mixed(i)) > 1e-5)  // a sum that cancels has the sign of its rounding
        CHECK(N(i) == (mixed(i) > 0 ? 1 : mixed(i) < 0 ? -1 : 0));
    M = o.beta2 * M + (1 - o.beta2) * x;
    CHECK(distance(lion.moment("momentum"), M) < 20 * eps);
  }
}

TEST_CASE("Decay comes before the update, gain is one", "[rule]") {
  const RuleState<Sgd, double, kernel::Best> sgd(Sgd{.weight_decay = 0.5}, r, k);
  const RuleState<Lion, double, kernel::Best> lion(Lion{.weight_decay = 0.5}, r, k);
  CHECK((sgd.decay(0.1).before == 0.95 && sgd.decay(0.1).after == 1 && sgd.gain() == 1));
  CHECK((lion.decay(0.1).before == 0.95 && lion.decay(0.1).after == 1 && lion.gain() == 1));
}

TEST_CASE("Senseless options of SGD and Lion throw", "[rule]") {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  const auto refused = [](auto o, const char* name) {
    using State = RuleState<decltype(o), float, kernel::Best>;
    INFO(o.name << "." << name);
    CHECK_THROWS_WITH(State(o, r, k), ContainsSubstring("got " + std::string(name)));
    State state(decltype(o){}, r, k);
    state.options() = o;
    CHECK_THROWS_AS(state.check(), std::invalid_argument);
  };
  for (const double bad : {-0.1, 1.0, nan, inf}) {
    refused(Sgd{.momentum = bad}, "momentum");
    refused(Lion{.beta1 = bad}, "beta1");
    refused(Lion{.beta2 = bad}, "beta2");
  }
  for (const double bad : {-0.1, 1.1, nan}) refused(Sgd{.dampening = bad}, "dampening");
  for (const double bad : {-0.1, nan, inf}) {
    refused(Sgd{.weight_decay = bad}, "weight_decay");
    refused(Lion{.weight_decay = bad}, "weight_decay");
  }
  // no buffer was made for it: neither before the first step nor later may momentum be switched on
  Driven<float, Sgd> plain(Sgd{}, r, k);
  plain.options().momentum = 0.9;
  CHECK_THROWS_WITH(plain.step(random_matrix(r, k, 1)), ContainsSubstring("no momentum buffer"));
  plain.options().momentum = 0;
  plain.step(random_matrix(r, k, 1));
  plain.options().momentum = 0.9;
  CHECK_THROWS_WITH(plain.step(random_matrix(r, k, 1)), ContainsSubstring("no momentum buffer"));
  // switched off, the buffer idles; the direction is the gradient
  Driven<double, Sgd> heavy(Sgd{.momentum = 0.9}, r, k);
  heavy.step(random_matrix(r, k, 1));
  heavy.options().momentum = 0;
  CHECK(distance(heavy.step(random_matrix(r, k, 2)), random_matrix(r, k, 2)) == 0);
}
