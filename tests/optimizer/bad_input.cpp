// Promise 2: bad input throws before anything changes, and a gradient that is not finite is skipped, leaving weight,
// moments, clock and counters bit for bit as they were, after which training goes on as if nothing had happened.
#include <cmath>
#include <limits>
#include <thread>

#include <support/catch.hpp>
#include <support/placed.hpp>
#include <support/stepper.hpp>

#if defined(_OPENMP)
#include <omp.h>
#endif

using namespace support;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr Choice choice{.rank = 5, .refresh_every = 3};
constexpr Index rows = 70, cols = 45;

/// A weight and its optimizer after `steps` ordinary steps.
template <class S>
struct Run {
  Placed<S> w{random_matrix(rows, cols, 3), Order::Columns};
  std::unique_ptr<Stepper<S>> optimizer;

  Run(const Policy<S>& policy, int steps) : optimizer(policy.make(w.view(), choice)) {
    for (int t = 0; t < steps; ++t) good(t);
  }
  Report good(int t) {
    const Placed<S> g(training_gradient(rows, cols, t), Order::Rows);
    return optimizer->step(w.view(), g.view(), {.lr = 0.01});
  }
};

/// Values a gradient must not have, and where.
template <class S>
std::vector<Eigen::MatrixXd> broken_gradients() {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  const double huge = double(std::numeric_limits<S>::max()) / 4;  // finite, its square is not
  std::vector<Eigen::MatrixXd> list;
  for (const double value : {nan, inf, -inf, huge})
    for (const auto& [i, j] : {std::pair<Index, Index>{0, 0}, {rows - 1, cols - 1}, {64, 3}}) {
      list.push_back(training_gradient(rows, cols, 1));
      list.back()(i, j) = value;
    }
  list.push_back(Eigen::MatrixXd::Constant(rows, cols, nan));
  list.push_back(Eigen::MatrixXd::Constant(rows, cols, huge));
  return list;
}

}  // namespace

TEMPLATE_TEST_CASE("A gradient that is not finite, or whose square is not, changes nothing", "[optimizer]", LOWRANK_TEST_SCALARS) {
  for (const auto& policy : policies<TestType>())
    for (int before = 0; before < 4; ++before) {  // also at the very first step and at a refresh
      INFO(policy.name << " after " << before << " steps");
      Run<TestType> run(policy, before);
      run.optimizer->allocate();
      const auto weight = run.w.elements();
      const auto state = run.optimizer->fields();
      for (const auto& g : broken_gradients<TestType>())
        for (const Order order : {Order::Columns, Order::Rows}) {
          const Placed<TestType> broken(g, order);
          const Report report = run.optimizer->step(run.w.view(), broken.view(), {.lr = 0.01});
          CHECK(report.skipped);
          CHECK_FALSE(report.refreshed);
        }
      const Placed<TestType> fine(training_gradient(rows, cols, 0), Order::Columns);
      CHECK(run.optimizer->step(run.w.view(), fine.view(), {.lr = 0.01, .grad_norm = NAN}).skipped);
      CHECK(run.optimizer->step(run.w.view(), fine.view(), {.lr = 0.01, .grad_norm = INFINITY}).skipped);
      const double huge = double(std::numeric_limits<TestType>::max()) / 4;
      CHECK(run.optimizer->step(run.w.view(), fine.view(), {.lr = 0.01, .grad_norm = huge}).skipped);
      CHECK(same_bits(weight, run.w.elements()));
      CHECK(state == run.optimizer->fields());
      Run<TestType> untroubled(policy, before);
      for (int t = before; t < before + 4; ++t) {
        run.good(t);
        untroubled.good(t);
      }
      CHECK(same_bits(untroubled.w.elements(), run.w.elements()));
      CHECK(untroubled.optimizer->equals(*run.optimizer));
    }
}

TEST_CASE("Wrong shapes, overlapping memory and senseless numbers throw and change nothing", "[optimizer]") {
  for (const auto& policy : policies<float>()) {
    INFO(policy.name);
    Run<float> run(policy, 2);
    const auto weight = run.w.elements();
    const auto state = run.optimizer->fields();
    const Placed<float> g(training_gradient(rows, cols, 0), Order::Columns);
    Placed<float> turned(training_gradient(cols, rows, 0), Order::Columns);
    auto& o = *run.optimizer;
    CHECK_THROWS_WITH(o.step(run.w.view(), std::as_const(turned).view(), {.lr = 0.01}),
                      ContainsSubstring("45x70") && ContainsSubstring("70x45"));
    CHECK_THROWS_AS(o.step(turned.view(), g.view(), {.lr = 0.01}), std::invalid_argument);
    CHECK_THROWS_WITH(o.step(run.w.view(), std::as_const(run.w).view(), {.lr = 0.01}), ContainsSubstring("overlap"));
    for (const double lr : {-1.0, double(NAN), double(INFINITY)})
      CHECK_THROWS_WITH(o.step(run.w.view(), g.view(), {.lr = lr}), ContainsSubstring("lr"));
    CHECK_THROWS_WITH(o.step(run.w.view(), g.view(), {.lr = 0.01, .grad_scale = NAN}), ContainsSubstring("grad_scale"));
    CHECK(same_bits(weight, run.w.elements()));
    CHECK(state == o.fields());
  }
}

TEST_CASE("Senseless constructions throw", "[optimizer]") {
  Placed<float> w(random_matrix(8, 6, 1), Order::Columns);
  for (const auto& policy : policies<float>()) {
    INFO(policy.name);
    CHECK_THROWS_WITH(policy.make(View<const float>{w.view().data, 0, 6, 1, 1}, choice), ContainsSubstring("empty"));
    CHECK_THROWS_AS(policy.make(View<const float>{nullptr, 8, 6, 1, 8}, choice), std::invalid_argument);
    if (!policy.projected) continue;
    CHECK_THROWS_WITH(policy.make(w.view(), {.rank = 0}), ContainsSubstring("rank"));
    CHECK_THROWS_WITH(policy.make(w.view(), {.rank = -3}), ContainsSubstring("rank"));
    if (policy.periodic) CHECK_THROWS_WITH(policy.make(w.view(), {.refresh_every = -1}), ContainsSubstring("refresh_every"));
  }
}

TEST_CASE("A step inside the caller's parallel region has the bits of one outside", "[optimizer]") {
#if defined(_OPENMP)
  omp_set_num_threads(2);
#endif
  for (const auto& policy : policies<float>()) {
    INFO(policy.name);
    Run<float> outside(policy, 5);
    Run<float> first(policy, 1), second(policy, 1);
    std::vector<Run<float>*> runs{&first, &second};
    bool skipped = false;
#if defined(_OPENMP)
#pragma omp parallel for num_threads(2) reduction(|| : skipped)
#endif
    for (int i = 0; i < 2; ++i)
      for (int t = 1; t < 5; ++t) skipped = runs[std::size_t(i)]->good(t).skipped || skipped;
    CHECK_FALSE(skipped);
    for (const auto* run : runs) {
      CHECK(same_bits(outside.w.elements(), run->w.elements()));
      CHECK(outside.optimizer->equals(*run->optimizer));
    }
  }
}

TEST_CASE("Two optimizers in two threads of the caller", "[optimizer]") {
  for (const auto& policy : policies<float>()) {
    INFO(policy.name);
    Run<float> alone(policy, 6), first(policy, 0), second(policy, 0);
    const auto work = [](Run<float>& run) {
      for (int t = 0; t < 6; ++t) run.good(t);
    };
    std::thread other(work, std::ref(first));
    work(second);
    other.join();
    CHECK(same_bits(alone.w.elements(), first.w.elements()));
    CHECK(same_bits(alone.w.elements(), second.w.elements()));
    CHECK(first.optimizer->equals(*second.optimizer));
  }
}
