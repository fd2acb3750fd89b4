// The norm-growth limiter against its definition, and the deadlock that its floor is there for.
#include <cmath>
#include <limits>

#include <support/catch.hpp>

#include <lowrank/lift/channel_scale.hpp>
#include <lowrank/lift/residual.hpp>

using namespace lowrank;
using Catch::Matchers::ContainsSubstring;

namespace {

using Growth = detail::GrowthLimit<double>;

/// Steps until a norm that wants to be 1 is let through, after a first norm of `first`.
int steps_to_recover(double first, const Limiter& o) {
  Growth growth;
  growth(o, first);
  for (int t = 1; t < 10000; ++t)
    if (growth(o, 1) == 1) return t - 1;
  return 10000;
}

}  // namespace

TEST_CASE("The limiter follows Fira's code", "[lift]") {
  const Limiter o{.gamma = 1.1};
  Growth growth;
  double L = 0;
  bool limited = false;
  for (const double x : {2.0, 1.5, 4.0, 4.0, 1e-3, 1.0, 0.5, 1e6, 0.7}) {
    const double c = L == 0 ? 1 : std::max(x / (L + 1e-8), o.gamma) / o.gamma;
    CHECK(growth(o, x) == Catch::Approx(c).epsilon(1e-14));
    L = x / c;
    limited = limited || c > 1;
  }
  CHECK(limited);
}

TEST_CASE("gamma = infinity is no limit, and what is not larger passes", "[lift]") {
  Growth off, on;
  const Limiter none{.gamma = std::numeric_limits<double>::infinity()};
  for (const double x : {1.0, 1e12, 1e-12, 1e30}) CHECK(off(none, x) == 1);
  for (const double x : {5.0, 5.04, 3.0, 3.02, 0.1}) CHECK(on({}, x) == 1);
  // switched on later, it limits by the norm it saw last
  CHECK(off({}, 1e31) == Catch::Approx(10 / 1.01));
}

TEST_CASE("A tiny early gradient locks the limiter for a thousand steps; the floor opens it", "[lift]") {
  // growth by 1 % a step: 695 steps for a factor of 1000
  CHECK(steps_to_recover(1e-3, {}) == 694);
  CHECK(steps_to_recover(1e-8, {}) > 1300);
  CHECK(steps_to_recover(1e-8, {.floor = 1}) == 0);
  CHECK(steps_to_recover(1e-8, {.floor = 1e-2}) == 462);
  CHECK(steps_to_recover(1, {}) == 0);
  // a gradient of exactly zero says nothing about the next one's norm
  CHECK(steps_to_recover(0, {}) == 0);
  Growth growth;
  growth({}, 2);
  growth({}, 0);
  CHECK(growth({}, 4) == Catch::Approx(2 / 1.01));
  // the floor bounds what is remembered, not what is let through
  Growth low;
  CHECK(low({.floor = 1}, 1e-5) == 1);
  CHECK(low({.floor = 1}, 1.005) == 1);
  CHECK(low({.floor = 1}, 3) == Catch::Approx(3 / 1.005 / 1.01));
}

TEST_CASE("Senseless options of the lifts throw", "[lift]") {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  const auto refused = [](auto o, const char* name) {
    using State = LiftState<decltype(o), float, kernel::Best>;
    INFO(o.name << "." << name);
    CHECK_THROWS_WITH(State(o, 4, 5), ContainsSubstring("got " + std::string(name)));
    State state(decltype(o){}, 4, 5);
    state.options() = o;
    CHECK_THROWS_AS(state.check(), std::invalid_argument);
  };
  for (const double bad : {-1.0, nan, inf}) {
    refused(Residual{.scale = bad}, "scale");
    refused(ChannelScale{.scale = bad}, "scale");
  }
  for (const double bad : {0.0, -1.0, nan}) {
    refused(Residual{.limiter = {.gamma = bad}}, "limiter.gamma");
    refused(ChannelScale{.limiter = {.gamma = bad}}, "limiter.gamma");
  }
  for (const double bad : {-1.0, nan, inf}) {
    refused(Residual{.limiter = {.floor = bad}}, "limiter.floor");
    refused(ChannelScale{.limiter = {.floor = bad}}, "limiter.floor");
  }
}
