// Promises 1 to 3 and 6 over every optimizer: steps allocate nothing, memory is known beforehand, a copy is a checkpoint,
// degenerate shapes and gradients have defined results, and the loss falls.
#include <cmath>

#include <support/catch.hpp>
#include <support/malloc_counter.hpp>
#include <support/placed.hpp>
#include <support/stepper.hpp>

using namespace support;

namespace {


constexpr Choice choice{.rank = 5, .refresh_every = 3};

}  // namespace

TEMPLATE_TEST_CASE("After the first step nothing is allocated, refreshes and fall-backs included", "[optimizer]", LOWRANK_TEST_SCALARS) {
  if (!AllocationCount::counted) SKIP("allocations are not counted in this build");
  for (const auto& policy : policies<TestType>()) {
    INFO(policy.name);
    Placed<TestType> w(random_matrix(90, 130, 3), Order::Rows);
    const auto optimizer = policy.make(w.view(), choice);
    std::vector<std::unique_ptr<Placed<TestType>>> gradients;
    for (int t = 0; t < 4; ++t)
      gradients.push_back(std::make_unique<Placed<TestType>>(training_gradient(90, 130, t), Order::Rows));
    // a product of two vectors: bases of any higher rank have to be completed
    gradients.push_back(std::make_unique<Placed<TestType>>(
        Eigen::MatrixXd(random_matrix(90, 1, 5) * random_matrix(1, 130, 6)), Order::Columns));
    gradients.push_back(std::make_unique<Placed<TestType>>(Eigen::MatrixXd::Zero(90, 130), Order::Columns));
    gradients.push_back(std::make_unique<Placed<TestType>>(Eigen::MatrixXd::Constant(90, 130, NAN), Order::Columns));
    optimizer->step(w.view(), std::as_const(*gradients[0]).view(), {.lr = 0.01});
    int refreshed = 0;
    const AllocationCount count;
    for (int round = 0; round < 3; ++round)
      for (const auto& g : gradients) refreshed += optimizer->step(w.view(), std::as_const(*g).view(), {.lr = 0.01}).refreshed;
    CHECK(count.since() == 0);
    if (policy.projected) CHECK(refreshed > 2);
  }
}

TEMPLATE_TEST_CASE("State bytes are the formulas' and known before anything is allocated", "[optimizer]", LOWRANK_TEST_SCALARS) {
  for (const auto& policy : policies<TestType>())
    for (const auto& [rows, cols] : {std::pair<Index, Index>{40, 64}, {64, 40}, {48, 48}}) {
      INFO(policy.name << ", " << rows << " x " << cols);
      Placed<TestType> w(random_matrix(rows, cols, 3), Order::Columns);
      const auto optimizer = policy.make(w.view(), choice);
      const auto d = std::size_t(std::min(rows, cols)), k = std::size_t(std::max(rows, cols));
      const std::size_t expected = policy.bytes(5, d, k, sizeof(TestType));
      CHECK(optimizer->state_bytes() == expected);
      std::size_t held = 0;
      for (const auto& [name, bytes] : optimizer->fields())
        if (bytes.size() > 8) held += bytes.size();
      CHECK(held == 0);
      optimizer->step(w.view(), Placed<TestType>(training_gradient(rows, cols, 0), Order::Rows).view(), {.lr = 0.01});
      CHECK(optimizer->state_bytes() == expected);
      for (const auto& [name, bytes] : optimizer->fields())
        if (bytes.size() > 8) held += bytes.size();
      // what is left of the formula are numbers and index lists of at most 8 bytes
      CHECK(held <= expected);
      CHECK(expected <= held + 3 * 8);
    }
}

TEMPLATE_TEST_CASE("A copy is a checkpoint at every step of two refresh periods", "[optimizer]", LOWRANK_TEST_SCALARS) {
  const Index rows = 37, cols = 26;
  const int period = int(choice.refresh_every), steps = 2 * period + 3;
  for (const auto& policy : policies<TestType>())
    for (const Order order : {Order::Columns, Order::Rows}) {
      INFO(policy.name);
      std::vector<std::unique_ptr<Placed<TestType>>> gradients;
      for (int t = 0; t < steps; ++t)
        gradients.push_back(std::make_unique<Placed<TestType>>(training_gradient(rows, cols, t), order));
      Placed<TestType> w(random_matrix(rows, cols, 3), order);
      const auto whole = policy.make(w.view(), choice);
      std::vector<std::unique_ptr<Stepper<TestType>>> copies;
      std::vector<Eigen::MatrixXd> weights;
      for (int t = 0; t < steps; ++t) {
        copies.push_back(whole->clone());
        weights.push_back(w.values());
        whole->step(w.view(), std::as_const(*gradients[std::size_t(t)]).view(), {.lr = 0.01});
      }
      for (int from = 0; from < steps; ++from) {
        INFO("from step " << from);
        Placed<TestType> again(weights[std::size_t(from)], order);
        auto& copy = *copies[std::size_t(from)];
        for (int t = from; t < steps; ++t)
          copy.step(again.view(), std::as_const(*gradients[std::size_t(t)]).view(), {.lr = 0.01});
        CHECK(same_bits(again.elements(), w.elements()));
        CHECK(copy.equals(*whole));
      }
      CHECK_FALSE(policy.make(w.view(), choice)->equals(*whole));
    }
}

TEMPLATE_TEST_CASE("Vectors, single elements and ranks beyond the dimension", "[optimizer]", LOWRANK_TEST_SCALARS) {
  for (const auto& policy : policies<TestType>())
    for (const auto& [rows, cols] : {std::pair<Index, Index>{1, 1}, {1, 9}, {9, 1}, {2, 3}, {1, 130}, {130, 1}})
      for (const Side side : {Side::Smaller, Side::Larger, Side::Left, Side::Right}) {
        INFO(policy.name << ", " << rows << " x " << cols << ", side " << int(side));
        Placed<TestType> w(random_matrix(rows, cols, 3), Order::Columns);
        const auto before = w.values();
        const auto optimizer = policy.make(w.view(), {.rank = 1000, .side = side, .refresh_every = 2});
        if (policy.projected) CHECK(optimizer->rank() <= std::max(rows, cols));
        for (int t = 0; t < 5; ++t) {
          const Placed<TestType> g(random_matrix(rows, cols, 20 + unsigned(t)), Order::Rows);
          CHECK_FALSE(optimizer->step(w.view(), g.view(), {.lr = 0.01}).skipped);
        }
        CHECK(w.values().allFinite());
        CHECK(w.values() != before);
      }
}

TEMPLATE_TEST_CASE("Zero, subnormal and rank-one gradients are gradients", "[optimizer]", LOWRANK_TEST_SCALARS) {
  const Index rows = 40, cols = 23;
  const Eigen::MatrixXd zero = Eigen::MatrixXd::Zero(rows, cols);
  const Eigen::MatrixXd tiny = random_matrix(rows, cols, 1) * double(std::numeric_limits<TestType>::denorm_min()) * 64;
  const Eigen::MatrixXd one = random_matrix(rows, 1, 1) * random_matrix(1, cols, 2);
  for (const auto& policy : policies<TestType>())
    for (const auto* first : {&zero, &tiny, &one}) {
      INFO(policy.name << ", gradient of norm " << first->norm());
      Placed<TestType> w(random_matrix(rows, cols, 3), Order::Columns);
      const auto optimizer = policy.make(w.view(), choice);
      for (const auto* g : {first, first, &one, &zero, &tiny, &one}) {
        const Report report = optimizer->step(w.view(), Placed<TestType>(*g, Order::Rows).view(), {.lr = 0.01});
        CHECK_FALSE(report.skipped);
        CHECK(report.captured >= 0);
        CHECK(report.captured <= 1 + policy.rounding);
        REQUIRE(w.values().allFinite());
      }
      // the basis was made for what came, not for the zeros before it: ordinary gradients move the weight as ever
      const auto before = w.values();
      optimizer->step(w.view(), Placed<TestType>(training_gradient(rows, cols, 1), Order::Rows).view(), {.lr = 0.01});
      CHECK((w.values() - before).norm() > 1e-4);
    }
}

TEMPLATE_TEST_CASE("grad_scale is a factor of the gradient", "[optimizer]", LOWRANK_TEST_SCALARS) {
  for (const auto& policy : policies<TestType>()) {
    INFO(policy.name);
    Placed<TestType> a(random_matrix(40, 23, 3), Order::Columns), b(random_matrix(40, 23, 3), Order::Columns);
    const auto first = policy.make(a.view(), choice), second = policy.make(b.view(), choice);
    for (int t = 0; t < 5; ++t) {
      const Eigen::MatrixXd g = training_gradient(40, 23, t);
      first->step(a.view(), Placed<TestType>(g, Order::Columns).view(), {.lr = 0.01, .grad_scale = 0.25});
      second->step(b.view(), Placed<TestType>(0.25 * g, Order::Columns).view(), {.lr = 0.01});
    }
    CHECK(same_bits(a.elements(), b.elements()));
    CHECK(first->equals(*second));
  }
}

TEMPLATE_TEST_CASE("A known norm saves the test and changes nothing else", "[optimizer]", LOWRANK_TEST_SCALARS) {
  for (const auto& policy : policies<TestType>()) {
    INFO(policy.name);
    Placed<TestType> a(random_matrix(40, 23, 3), Order::Columns), b(random_matrix(40, 23, 3), Order::Columns);
    const auto first = policy.make(a.view(), choice), second = policy.make(b.view(), choice);
    for (int t = 0; t < 5; ++t) {
      const Placed<TestType> g(training_gradient(40, 23, t), Order::Columns);
      first->step(a.view(), g.view(), {.lr = 0.01});
      second->step(b.view(), g.view(), {.lr = 0.01, .grad_norm = g.values().norm()});
    }
    CHECK(same_bits(a.elements(), b.elements()));
    CHECK(first->equals(*second));
  }
}

TEMPLATE_TEST_CASE("The distance to a low-rank target falls", "[optimizer]", LOWRANK_TEST_SCALARS) {
  const Eigen::MatrixXd target = random_matrix(60, 4, 1) * random_matrix(4, 45, 2);
  for (const auto& policy : policies<TestType>()) {
    INFO(policy.name);
    Placed<TestType> w(Eigen::MatrixXd::Zero(60, 45), Order::Columns);
    const auto optimizer = policy.make(w.view(), {.rank = 8, .refresh_every = 5});
    for (int t = 0; t < 40; ++t)
      optimizer->step(w.view(), Placed<TestType>(w.values() - target, Order::Columns).view(), {.lr = 0.05});
    CHECK((w.values() - target).norm() < 0.97 * target.norm());
  }
}

TEST_CASE("Weights and gradients stored as bf16 step with float state", "[optimizer]") {
  const Index rows = 40, cols = 23;
  for (const auto& policy : policies<float>()) {
    INFO(policy.name);
    // values that bf16 holds exactly
    const auto rounded = [](Eigen::MatrixXd m) {
      for (auto& x : m.reshaped()) x = double(Eigen::bfloat16(x));
      return m;
    };
    Placed<Eigen::bfloat16> half(rounded(random_matrix(rows, cols, 3)), Order::Rows);
    Placed<float> full(half.values(), Order::Rows);
    const auto a = policy.make(full.view(), choice), b = policy.make(full.view(), choice);
    const Eigen::MatrixXd g = rounded(training_gradient(rows, cols, 0));
    const Placed<Eigen::bfloat16> stored(g, Order::Columns);
    a->step(full.view(), Placed<float>(g, Order::Rows).view(), {.lr = 0.01});
    b->step(half.view(), stored.view(), {.lr = 0.01});
    CHECK(a->equals(*b));
    CHECK(half.values() == rounded(full.values()));
  }
}
