// Promises 4 and 5: the same bits whatever the thread count, storage orders, block offsets and gaps, for shapes that are
// multiples of nothing; and nothing around a block is touched.
#include <support/catch.hpp>
#include <support/placed.hpp>
#include <support/stepper.hpp>

#if defined(_OPENMP)
#include <omp.h>
#endif

using namespace support;

namespace {

void set_threads(int n) {
#if defined(_OPENMP)
  omp_set_num_threads(n);
#else
  (void)n;
#endif
}

/// How a run is laid out.
struct Layout {
  int threads;
  Order w, g;
  Index offset_w, offset_g, gap;
};

template <class S>
struct Result {
  std::vector<S> weight;
  std::map<std::string, Bytes> state;
  double norm, captured;
};

template <class S>
Result<S> train(const Policy<S>& policy, const Choice& choice, Index rows, Index cols, const Layout& l, int steps) {
  set_threads(l.threads);
  Placed<S> w(random_matrix(rows, cols, 99), l.w, l.offset_w, l.gap);
  const auto optimizer = policy.make(w.view(), choice);
  Report report;
  for (int t = 0; t < steps; ++t) {
    const Placed<S> g(training_gradient(rows, cols, t), l.g, l.offset_g, l.gap);
    report = optimizer->step(w.view(), g.view(), {.lr = 0.01, .grad_scale = 0.5});
    REQUIRE_FALSE(report.skipped);
    REQUIRE(g.guards_intact());
  }
  set_threads(1);
  REQUIRE(w.guards_intact());
  return {w.elements(), optimizer->fields(), report.grad_norm, report.captured};
}

/// Identity stores its moments along the weight's contiguous direction, so there only the weight can be compared.
template <class S>
void check_layouts(const Policy<S>& policy, const Choice& choice, Index rows, Index cols,
                   const std::vector<Layout>& layouts, int steps) {
  const auto reference = train<S>(policy, choice, rows, cols, {1, Order::Columns, Order::Columns, 0, 0, 0}, steps);
  for (const Layout& l : layouts) {
    INFO("threads " << l.threads << ", weight by " << (l.w == Order::Rows ? "rows" : "columns") << " at " << l.offset_w
                    << ", gradient by " << (l.g == Order::Rows ? "rows" : "columns") << " at " << l.offset_g << ", gap "
                    << l.gap);
    const auto other = train<S>(policy, choice, rows, cols, l, steps);
    CHECK(same_bits(reference.weight, other.weight));
    if (policy.projected) {
      for (const auto& [name, bytes] : reference.state) {
        INFO(name);
        CHECK(same_bits(bytes, other.state.at(name)));
      }
      CHECK(reference.norm == other.norm);
      CHECK(reference.captured == other.captured);
    }
  }
}

const std::vector<Layout> few{
    {2, Order::Rows, Order::Columns, 1, 2, 0}, {3, Order::Columns, Order::Rows, 3, 1, 5}, {2, Order::Rows, Order::Rows, 2, 3, 1}};

}  // namespace

TEMPLATE_TEST_CASE("Threads, storage orders and offsets do not change a bit", "[optimizer]", float, double) {
  for (const auto& policy : policies<TestType>())
    for (const auto& [rows, cols] : {std::pair<Index, Index>{33, 71}, {70, 29}}) {
      INFO(policy.name << ", " << rows << " x " << cols);
      check_layouts(policy, {.rank = 5, .refresh_every = 2}, rows, cols, few, 4);
    }
}

TEST_CASE("Every combination of threads 1 to 3, orders and offsets 0 to 3", "[optimizer]") {
  std::vector<Layout> all;
  for (int threads = 1; threads <= 3; ++threads)
    for (const Order w : {Order::Columns, Order::Rows})
      for (const Order g : {Order::Columns, Order::Rows})
        for (Index offset = 0; offset < 4; ++offset) all.push_back({threads, w, g, offset, (offset * 3 + 1) % 4, offset % 2});
  for (const auto& policy : policies<float>())
    if (policy.name == "adamw" || policy.name == "fira" || policy.name == "apollo" || policy.name == "dct, error feedback") {
      INFO(policy.name);
      check_layouts(policy, {.rank = 9, .refresh_every = 2}, 67, 139, all, 3);
    }
}

TEST_CASE("Shapes beyond every tile and panel", "[optimizer]") {
  for (const auto& policy : policies<float>()) {
    INFO(policy.name);
    check_layouts(policy, {.rank = 64, .refresh_every = 2}, 300, 517, {few[0], few[1]}, 2);
  }
}

TEMPLATE_TEST_CASE("Sides", "[optimizer]", float, double) {
  for (const auto& policy : policies<TestType>()) {
    if (!policy.projected) continue;
    for (const Side side : {Side::Larger, Side::Left, Side::Right}) {
      INFO(policy.name << ", side " << int(side));
      check_layouts(policy, {.rank = 5, .side = side, .refresh_every = 2}, 41, 67, {few[1]}, 3);
    }
  }
}

TEST_CASE("Weights stored in bf16, rounded at random: the same bits in either order, on any number of threads", "[optimizer]") {
  const Index rows = 67, cols = 139;
  for (const auto& policy : policies<float>()) {
    INFO(policy.name);
    const auto train_stored = [&](int threads, Order w_order, Order g_order, Step step) {
      set_threads(threads);
      Placed<Eigen::bfloat16> w(random_matrix(rows, cols, 99), w_order, 1, 3);
      const Placed<float> like(w.values(), w_order);
      const auto optimizer = policy.make(like.view(), {.rank = 5, .refresh_every = 2});
      for (int t = 0; t < 3; ++t) {
        const Placed<Eigen::bfloat16> g(training_gradient(rows, cols, t), g_order, 2, 1);
        optimizer->step(w.view(), g.view(), step);
      }
      set_threads(1);
      REQUIRE(w.guards_intact());
      return w.elements();
    };
    const Step random{.lr = 1e-3, .rounding = lowrank::Rounding::Stochastic, .seed = 4};
    const auto reference = train_stored(1, Order::Columns, Order::Columns, random);
    CHECK(same_bits(reference, train_stored(2, Order::Rows, Order::Columns, random)));
    CHECK(same_bits(reference, train_stored(3, Order::Columns, Order::Rows, random)));
    CHECK_FALSE(same_bits(reference, train_stored(1, Order::Columns, Order::Columns, {.lr = 1e-3})));
    CHECK_FALSE(same_bits(reference, train_stored(1, Order::Columns, Order::Columns,
                                                  {.lr = 1e-3, .rounding = lowrank::Rounding::Stochastic, .seed = 5})));
  }
}
