// Moments at a refresh: kept, reset, gathered or rotated, against the formulas, for every rule that has moments.
#include <cmath>
#include <limits>

#include <support/catch.hpp>

#include <lowrank/rule/adamw.hpp>
#include <lowrank/rule/lion.hpp>
#include <lowrank/rule/sgd.hpp>
#include <rule/driven.hpp>

using namespace support;
using namespace lowrank;
using Eigen::ArrayXXd;
using Eigen::MatrixXd;

namespace {

constexpr Index k = 150;  // two tiles and a part of one

template <class S>
using Change = linalg::BasisChange<S>;

template <class S, class O>
Driven<S, O> after_steps(const O& o, Index r, int steps) {
  Driven<S, O> rule(o, r, k);
  for (int t = 0; t < steps; ++t) rule.step(random_matrix(r, k, 50 + unsigned(t)) + MatrixXd::Constant(r, k, 0.5));
  return rule;
}

/// C = P'^T P of two bases that share most of their directions: near the identity, and shrinking a little.
MatrixXd rotation(Index r) {
  return 0.8 * MatrixXd::Identity(r, r) + 0.2 / std::sqrt(double(r)) * random_matrix(r, r, 1);
}

}  // namespace

TEMPLATE_TEST_CASE("Rotated moments of AdamW: C M, and V with the variance correction", "[rule]", float, double) {
  const double eps = double(std::numeric_limits<TestType>::epsilon());
  for (const Index r : {1, 7, 70})
    for (const int steps : {1, 2, 9}) {
      INFO("rank " << r << " after " << steps << " steps");
      const AdamW o{.beta1 = 0.9, .beta2 = 0.99};
      auto adam = after_steps<TestType>(o, r, steps);
      const ArrayXXd M = adam.moment("exp_avg"), V = adam.moment("exp_avg_sq");
      const Placed<TestType> C(rotation(r), Order::Columns);
      adam.transport({Change<TestType>::Kind::Rotate, nullptr, C.view().data});
      // spec of LDAdam, s steps behind us: c1 = 1 - b1^s, c2 = 1 - b2^s
      const double c1 = 1 - std::pow(o.beta1, steps), c2 = 1 - std::pow(o.beta2, steps);
      const MatrixXd c = C.values(), squares = c.cwiseProduct(c);
      const MatrixXd moved = c * M.matrix();
      const MatrixXd variance = V / c2 - M * M / (c1 * c1);
      const ArrayXXd expected = (c2 * ((squares * variance).array() + moved.array().square() / (c1 * c1))).abs();
      CHECK(distance(adam.moment("exp_avg"), moved) < 10 * eps * std::sqrt(double(r)));
      // V / c2 - M M / c1^2 cancels: at the first step to nothing
      CHECK(distance(adam.moment("exp_avg_sq"), expected) < 30 * eps * double(1 + r) / c2);
      CHECK(adam.moment("exp_avg_sq").minCoeff() >= 0);
    }
}

TEMPLATE_TEST_CASE("A rotation by the identity changes nothing but rounding", "[rule]", float, double) {
  const double eps = double(std::numeric_limits<TestType>::epsilon());
  const Index r = 7;
  auto adam = after_steps<TestType>(AdamW{}, r, 5);
  const MatrixXd M = adam.moment("exp_avg"), V = adam.moment("exp_avg_sq");
  const Placed<TestType> C(MatrixXd::Identity(r, r), Order::Columns);
  adam.transport({Change<TestType>::Kind::Rotate, nullptr, C.view().data});
  CHECK(adam.moment("exp_avg") == M);
  CHECK(distance(adam.moment("exp_avg_sq"), V) < 10 * eps);
}

TEST_CASE("One moment is rotated as it is", "[rule]") {
  const Index r = 7;
  const Placed<double> C(rotation(r), Order::Columns);
  const Change<double> change{Change<double>::Kind::Rotate, nullptr, C.view().data};
  auto sgd = after_steps<double>(Sgd{.momentum = 0.9}, r, 4);
  auto lion = after_steps<double>(Lion{}, r, 4);
  const MatrixXd a = C.values() * sgd.moment("momentum"), b = C.values() * lion.moment("momentum");
  sgd.transport(change);
  lion.transport(change);
  CHECK(distance(sgd.moment("momentum"), a) < 1e-14);
  CHECK(distance(lion.moment("momentum"), b) < 1e-14);
  Driven<double, Sgd> plain(Sgd{}, r, k);  // without a moment there is nothing to do
  plain.step(random_matrix(r, k, 1));
  plain.transport(change);
}

TEMPLATE_TEST_CASE("A gather is the rotation by a partial permutation", "[rule]", float, double) {
  using S = TestType;
  const Index r = 7;
  const std::vector<std::int32_t> from{2, -1, 0, 6, -1, 4, 5};
  MatrixXd C = MatrixXd::Zero(r, r);
  for (Index i = 0; i < r; ++i)
    if (from[std::size_t(i)] >= 0) C(i, from[std::size_t(i)]) = 1;
  const Placed<S> rotation(C, Order::Columns);
  const auto check = [&](auto options, const std::vector<const char*>& moments) {
    INFO(options.name);
    auto gathered = after_steps<S>(options, r, 4), rotated = after_steps<S>(options, r, 4);
    std::vector<MatrixXd> before;
    for (const char* name : moments) before.push_back(gathered.moment(name));
    gathered.transport({Change<S>::Kind::Gather, from.data(), nullptr});
    rotated.transport({Change<S>::Kind::Rotate, nullptr, rotation.view().data});
    for (std::size_t i = 0; i < moments.size(); ++i) {
      CHECK(gathered.moment(moments[i]) == C * before[i]);  // survivors bit for bit, new slots zero
      CHECK(distance(gathered.moment(moments[i]), rotated.moment(moments[i])) < 10 * double(std::numeric_limits<S>::epsilon()));
    }
  };
  check(AdamW{}, {"exp_avg", "exp_avg_sq"});
  check(Sgd{.momentum = 0.9}, {"momentum"});
  check(Lion{}, {"momentum"});
}

TEST_CASE("Reset makes a rule new, bias correction included; keeping leaves every bit", "[rule]") {
  const Index r = 7;
  const auto check = [&](auto options, const char* moment) {
    INFO(options.name);
    auto reset = after_steps<double>(options, r, 9), kept = after_steps<double>(options, r, 9),
         untouched = after_steps<double>(options, r, 9);
    Driven<double, decltype(options)> fresh(options, r, k);
    reset.transport({Change<double>::Kind::Reset, nullptr, nullptr});
    kept.transport({Change<double>::Kind::Stay, nullptr, nullptr});
    CHECK(reset.moment(moment).isZero(0));
    for (int t = 0; t < 3; ++t) {
      const MatrixXd R = random_matrix(r, k, 70 + unsigned(t));
      CHECK(reset.step(R) == fresh.step(R));
      CHECK(kept.step(R) == untouched.step(R));
    }
  };
  check(AdamW{}, "exp_avg_sq");
  check(Sgd{.momentum = 0.9, .dampening = 0.5}, "momentum");  // dampening does not touch a first step
  check(Lion{}, "momentum");
}
