// Accumulation of projected gradients: the step of the sum of the gradients, from r x k numbers instead of m x n; refused
// where that would be another step.
#include <cmath>

#include <lift/by_hand.hpp>
#include <support/catch.hpp>
#include <support/folder.hpp>
#include <support/malloc_counter.hpp>
#include <support/placed.hpp>

#include <lowrank/recipes.hpp>
#include <lowrank/rule/lion.hpp>
#include <lowrank/rule/sgd.hpp>

using namespace support;
using namespace lowrank;
using Catch::Matchers::ContainsSubstring;

namespace {

constexpr int period = 3, batches = 4;

MatrixXd micro_batch(Index m, Index n, int t, int b) { return training_gradient(m, n, t) / batches + 0.3 * random_matrix(m, n, unsigned(100 * t + b)); }

/// Trains twice: with sums of gradients, and with sums of projected ones wherever the basis is not due.
template <class P, class R>
void compare(const P& projector, const R& rule, Index m, Index n) {
  const MatrixXd start = random_matrix(m, n, 1);
  Placed<double> dense(start, Order::Columns), gathered(start, Order::Columns);
  Optimizer a(dense.view(), projector, rule, BackProject{.scale = 0.5}), b(gathered.view(), projector, rule, BackProject{.scale = 0.5});
  static_assert(decltype(a)::accumulates);
  int from_sums = 0;
  for (int t = 0; t < 3 * period; ++t) {
    MatrixXd sum = MatrixXd::Zero(m, n);
    for (int i = 0; i < batches; ++i) sum += 0.25 * micro_batch(m, n, t, i);
    const Placed<double> G(sum, t % 2 == 0 ? Order::Rows : Order::Columns);
    const Step step{.lr = 0.01, .grad_scale = 0.7};
    const Report expected = a.step(dense.view(), G.view(), step);
    REQUIRE(b.due() == expected.refreshed);
    if (b.due()) {
      b.step(gathered.view(), G.view(), step);
    } else {
      for (int i = 0; i < batches; ++i) b.accumulate(Placed<double>(micro_batch(m, n, t, i), i % 2 == 0 ? Order::Rows : Order::Columns).view(), 0.25);
      CHECK(b.accumulated() == batches);
      const Report report = b.step(gathered.view(), step);
      CHECK_FALSE(report.skipped);
      CHECK(report.captured > 0);
      if (!std::is_same_v<P, Gaussian>) CHECK(report.captured <= 1.05);  // whose columns are not of unit length
      CHECK(b.accumulated() == 0);
      ++from_sums;
    }
    CHECK(a.steps() == b.steps());
    INFO("step " << t);
    CHECK(distance(gathered.values(), dense.values()) < 1e-11);
  }
  CHECK(from_sums >= 5);
  CHECK(b.accumulated_bytes() == sizeof(double) * std::size_t(b.rank() * std::max(m, n)));
}

}  // namespace

TEST_CASE("A step with accumulated gradients is the step with their sum", "[optimizer]") {
  for (const auto& [m, n] : {std::pair<Index, Index>{40, 150}, {150, 40}}) {
    INFO(m << " x " << n);
    compare(Subspace{.rank = 6, .refresh_every = period}, AdamW{.weight_decay = 0.1}, m, n);
    compare(Dct{.rank = 6, .refresh_every = period}, Lion{}, m, n);
    compare(Dct{.rank = 30, .refresh_every = period, .route = DctRoute::Fast}, AdamW{}, m, n);
    compare(Coordinates{.rank = 6, .refresh_every = period}, Adafactor{}, m, n);
    compare(Gaussian{.rank = 6, .refresh_every = period}, Sgd{.momentum = 0.9}, m, n);
    compare(LazySubspace{.rank = 6, .refresh_every = period}, Orthogonal{}, m, n);
  }
}

TEST_CASE("Accumulation allocates nothing after its first sum, and a float weight in bf16 takes it too", "[optimizer]") {
  Placed<Eigen::bfloat16> w(random_matrix(40, 150, 1), Order::Rows);
  Optimizer optimizer(w.view(), Subspace{.rank = 6, .refresh_every = 5}, AdamW{}, BackProject{});
  const Placed<float> g(training_gradient(40, 150, 0), Order::Rows);
  optimizer.step(w.view(), g.view(), {.lr = 0.01});
  const auto round = [&] {
    for (int i = 0; i < 3; ++i) optimizer.accumulate(g.view());
    return optimizer.step(w.view(), {.lr = 0.01});
  };
  round();
  const auto before = w.elements();
  if (AllocationCount::counted) {
    const AllocationCount count;
    round();
    CHECK(count.since() == 0);
  } else {
    round();
  }
  CHECK(std::memcmp(w.elements().data(), before.data(), before.size() * 2) != 0);
}

TEST_CASE("What cannot be accumulated is refused and changes nothing", "[optimizer]") {
  MatrixXd W = random_matrix(20, 30, 1);
  const MatrixXd G = training_gradient(20, 30, 0);
  Optimizer optimizer(W, Subspace{.rank = 4, .refresh_every = 3}, AdamW{}, BackProject{});
  CHECK_THROWS_WITH(optimizer.accumulate(G), ContainsSubstring("renews the basis") && ContainsSubstring("step(W, G, step)"));
  CHECK_THROWS_WITH(optimizer.step(W, {.lr = 0.1}), ContainsSubstring("no gradient"));
  optimizer.step(W, G, {.lr = 0.1});
  const MatrixXd small = G.topRows(19);
  CHECK_THROWS_WITH(optimizer.accumulate(small), ContainsSubstring("19x30"));
  CHECK_THROWS_WITH(optimizer.accumulate(G, NAN), ContainsSubstring("weight"));
  CHECK(optimizer.accumulated() == 0);
  optimizer.accumulate(G);
  const MatrixXd before = W;
  CHECK_THROWS_WITH(optimizer.step(W, G, {.lr = 0.1}), ContainsSubstring("step(W, step)"));
  const Folder folder("accumulate");
  CHECK_THROWS_WITH(optimizer.save(folder.path() / "state.safetensors"), ContainsSubstring("accumulated"));
  optimizer.projector().refresh_every = 1;
  CHECK_THROWS_WITH(optimizer.step(W, {.lr = 0.1}), ContainsSubstring("due"));
  optimizer.projector().refresh_every = 3;
  CHECK(before == W);
  optimizer.step(W, {.lr = 0.1});
  optimizer.save(folder.path() / "state.safetensors");
  CHECK(before != W);
}

TEST_CASE("A micro-batch that is not finite makes a skipped step, and the next one starts anew", "[optimizer]") {
  MatrixXd W = random_matrix(20, 30, 1);
  const MatrixXd G = training_gradient(20, 30, 0);
  MatrixXd bad = G;
  bad(3, 7) = NAN;
  Optimizer optimizer(W, Subspace{.rank = 4, .refresh_every = 10}, AdamW{}, BackProject{});
  optimizer.step(W, G, {.lr = 0.1});
  auto untroubled = optimizer;
  MatrixXd V = W;
  for (const double value : {double(NAN), double(INFINITY)}) {
    bad(3, 7) = value;
    optimizer.accumulate(G);
    optimizer.accumulate(bad);
    optimizer.accumulate(G);
    CHECK(optimizer.step(W, {.lr = 0.1}).skipped);
    CHECK((W == V && optimizer == untroubled));
  }
  optimizer.accumulate(MatrixXd::Zero(20, 30).eval());
  optimizer.accumulate(G);
  CHECK_FALSE(optimizer.step(W, {.lr = 0.1}).skipped);
  untroubled.accumulate(G);
  untroubled.step(V, {.lr = 0.1});
  CHECK((W == V && optimizer == untroubled));
}
