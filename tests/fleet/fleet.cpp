// Fleet: groups, plan, steps that are those of the single optimizers, skips, and what it refuses before anything moves.
#include <cmath>
#include <sstream>
#include <thread>

#include <support/catch.hpp>
#include <support/malloc_counter.hpp>

#include "model.hpp"

#if defined(_OPENMP)
#include <omp.h>
#endif

using namespace support;
using namespace lowrank;
using Catch::Matchers::ContainsSubstring;

namespace {

void set_threads(int n) {
#if defined(_OPENMP)
  omp_set_num_threads(n);
#else
  (void)n;
#endif
}

}  // namespace

TEST_CASE("Globs", "[fleet]") {
  const auto matches = [](const char* pattern, const char* name) { return lowrank::detail::glob_matches(pattern, name); };
  CHECK(matches("*", ""));
  CHECK(matches("*", "a.b"));
  CHECK(matches("*.attn.*", "layers.10.attn.q.weight"));
  CHECK(matches("layers.?.q", "layers.3.q"));
  CHECK(matches("*a*b", "xaxbxab"));
  CHECK(matches("**b", "ab"));
  CHECK_FALSE(matches("layers.?.q", "layers.10.q"));
  CHECK_FALSE(matches("attn", "attn.q"));
  CHECK_FALSE(matches("*.attn", "x.attn.q"));
  CHECK_FALSE(matches("a?", "a"));
  CHECK_FALSE(matches("", "a"));
}

TEST_CASE("The first group that matches takes a matrix, and every pattern and matrix has a partner", "[fleet]") {
  SmallModel model;
  const auto params = model.parameters();
  Fleet fleet(params, Group{named("layers.1.attn.*", "*.up"), galore({.rank = 4})}, Group{named("*.attn.q"), apollo({.rank = 4})},
              Group{anything(), adamw()});
  std::vector<std::string> recipes;
  fleet.each([&](const std::string&, const auto& o) { recipes.push_back(o.description()); });
  CHECK(recipes == std::vector<std::string>{"gaussian, adamw, channel_scale", "identity, adamw, back_project",
                                            "subspace, adamw, back_project", "subspace, adamw, back_project",
                                            "identity, adamw, back_project"});
  CHECK_THROWS_WITH(Fleet(params, Group{named("*.attn.*"), adamw()}), ContainsSubstring("'layers.0.norm', which no group takes"));
  CHECK_THROWS_WITH(Fleet(params, Group{named("*.attn.*", "*.router.*"), adamw()}, Group{anything(), adamw()}),
                    ContainsSubstring("'*.router.*' of group 0, which takes no parameter"));
  CHECK_THROWS_WITH(Fleet(params, Group{named("*"), adamw()}, Group{named("embed"), adamw()}), ContainsSubstring("'embed' of group 1"));
  CHECK_NOTHROW(Fleet(params, Group{named("*"), adamw()}, Group{anything(), adamw()}));
  model.names[3] = "embed";
  CHECK_THROWS_WITH(Fleet(model.parameters(), Group{anything(), adamw()}), ContainsSubstring("two parameters 'embed'"));
  model.names[3] = "";
  CHECK_THROWS_WITH(Fleet(model.parameters(), Group{anything(), adamw()}), ContainsSubstring("without a name"));
  CHECK_THROWS_WITH(Fleet(params, Group{anything(), galore({.rank = 0})}), ContainsSubstring("'layers.0.attn.q'") && ContainsSubstring("rank = 0"));
}

TEST_CASE("The plan is what is kept, known before anything is allocated", "[fleet]") {
  SmallModel model;
  const auto params = model.parameters();
  auto fleet = small_fleet(params);
  const Plan plan = fleet.plan(1);
  const auto held = [&] {
    std::size_t bytes = 0;
    fleet.each([&](const std::string&, const auto& o) {
      o.visit([&](const char*, const auto& field) {
        if constexpr (requires { field.bytes(); }) bytes += field.data() == nullptr ? 0 : field.bytes();
      });
    });
    return bytes;
  };
  CHECK(held() == 0);
  REQUIRE(plan.rows.size() == 5);
  CHECK(plan.rows[0].state_bytes == (40 * 6 + 2 * 70 * 6) * 4);   // basis d r, two moments k r
  CHECK(plan.rows[1].state_bytes == 2 * 70 * 4);
  CHECK(plan.rows[3].state_bytes == 2 * 50 * 5 * 4 + 5 * 4);      // moments and int32 indices
  CHECK(plan.rows[4].dense_bytes == 2 * 30 * 20 * 4);
  for (const auto& row : plan.rows) CHECK(row.note.empty());
  CHECK(plan.state_bytes() == fleet.state_bytes());
  CHECK(plan.workspace_bytes == fleet.workspace_bytes(1));
  fleet.step(params, {.lr = 1e-3});
  CHECK(held() == plan.state_bytes());
  CHECK(fleet.plan(1).state_bytes() == plan.state_bytes());

  std::ostringstream text;
  text << plan;
  CHECK_THAT(text.str(), ContainsSubstring("layers.0.attn.q        40x70     6     4.2 KiB    21.9 KiB  subspace, adamw, back_project\n"));
  Fleet wide(params, Group{anything(), galore({.rank = 64})});
  CHECK(wide.plan().rows[1].note == "a vector is not projected");
  CHECK(wide.plan().rows[1].recipe == "identity, adamw, back_project");
  CHECK(wide.plan().rows[4].note == "rank 64 does not fit");
  CHECK(wide.plan().rows[4].rank == 20);
  text.str("");
  text << wide.plan();
  CHECK_THAT(text.str(), ContainsSubstring("560 B  identity, adamw, back_project  (a vector is not projected)\n"));
}

TEST_CASE("A step is the step of every optimizer on its own", "[fleet]") {
  SmallModel together, apart;
  together.lr_scales = apart.lr_scales = {1, 0.5, 2, 0, 1};
  auto fleet = small_fleet(together.parameters());
  auto q0 = galore(apart.weights[0].view(), {.rank = 6, .refresh_every = 3, .transport = Transport::Rotate, .seed = 0});
  auto norm = adamw(apart.weights[1].view(), {.weight_decay = 0.1});
  auto q1 = galore(apart.weights[2].view(), {.rank = 6, .refresh_every = 3, .transport = Transport::Rotate, .seed = 2});
  auto embed = adamw(apart.weights[4].view(), {.weight_decay = 0.1});
  for (int t = 0; t < 7; ++t) {
    together.at_step(t), apart.at_step(t);
    const auto g = [&](std::size_t i) { return std::as_const(apart.gradients[i]).view(); };
    const FleetReport all = fleet.step(together.parameters(), {.lr = 0.01, .grad_scale = 0.5});
    const Report first = q0.step(apart.weights[0].view(), g(0), {.lr = 0.01, .grad_scale = 0.5});
    norm.step(apart.weights[1].view(), g(1), {.lr = 0.005, .grad_scale = 0.5});
    const Report third = q1.step(apart.weights[2].view(), g(2), {.lr = 0.02, .grad_scale = 0.5});
    embed.step(apart.weights[4].view(), g(4), {.lr = 0.01, .grad_scale = 0.5});
    CHECK(all.refreshed == (t % 3 == 0 ? 2 : 0));
    CHECK(fleet.reports()[0].captured == first.captured);
    CHECK(fleet.reports()[2].drift == third.drift);
    const double a = first.grad_norm * first.grad_norm, b = third.grad_norm * third.grad_norm;
    CHECK(all.captured == Catch::Approx((first.captured * a + third.captured * b) / (a + b)).epsilon(1e-12));
    CHECK(all.skipped == 0);
    REQUIRE(together.elements() == apart.elements());  // the frozen one, layers.1.mlp.up, among them
  }
}

TEST_CASE("One matrix at a time is all at once", "[fleet]") {
  SmallModel whole, layers;
  auto a = small_fleet(whole.parameters()), b = small_fleet(layers.parameters());
  for (int t = 0; t < 5; ++t) {
    whole.at_step(t), layers.at_step(t);
    a.step(whole.parameters(), {.lr = 0.01});
    const auto params = layers.parameters();
    for (std::size_t i = params.size(); i-- > 0;) b.step(i, params[i], {.lr = 0.01});
  }
  CHECK(whole.elements() == layers.elements());
  CHECK(a == b);
  const auto params = layers.parameters();
  CHECK_THROWS_WITH(b.step(9, params[0], {.lr = 0.01}), ContainsSubstring("parameter 9"));
  CHECK_THROWS_WITH(b.step(1, params[0], {.lr = 0.01}), ContainsSubstring("layers.0.attn.q"));
}

TEST_CASE("What is not finite is skipped, matrix by matrix or all together", "[fleet]") {
  SmallModel model;
  auto fleet = small_fleet(model.parameters());
  model.at_step(0);
  fleet.step(model.parameters(), {.lr = 0.01});
  const auto before = model.elements();
  const auto state = fleet;
  model.at_step(1);
  model.gradients[2].at(3, 4) = NAN;
  const double norm = grad_norm(model.parameters());
  CHECK_FALSE(std::isfinite(norm));
  FleetReport report = fleet.step(model.parameters(), {.lr = 0.01, .grad_scale = clip(norm, 1.0), .grad_norm = norm});
  CHECK(report.skipped == 5);
  CHECK(report.first_skipped == "layers.0.attn.q");
  CHECK(model.elements() == before);
  CHECK(fleet == state);
  report = fleet.step(model.parameters(), {.lr = 0.01});
  CHECK(report.skipped == 1);
  CHECK(report.first_skipped == "layers.1.attn.q");
  CHECK(model.elements()[2] == before[2]);
  CHECK(model.elements()[0] != before[0]);
}

TEST_CASE("Another model, shared memory and senseless numbers throw before anything moves", "[fleet]") {
  SmallModel model;
  auto fleet = small_fleet(model.parameters());
  fleet.step(model.parameters(), {.lr = 0.01});
  const auto before = model.elements();
  const auto state = fleet;
  const auto refuses = [&](auto params, const Step& step, const char* why) {
    INFO(why);
    CHECK_THROWS_WITH(fleet.step(params, step), ContainsSubstring(why));
    CHECK(model.elements() == before);
    CHECK(fleet == state);
  };
  auto params = model.parameters();
  params.pop_back();
  refuses(params, {.lr = 0.01}, "got 4 parameters, expected 5");
  params = model.parameters();
  std::swap(params[0], params[4]);
  refuses(params, {.lr = 0.01}, "'embed' as parameter 0, expected 'layers.0.attn.q'");
  params = model.parameters();
  params[4].gradient = params[3].gradient;  // the last one: the others would have moved
  refuses(params, {.lr = 0.01}, "parameter 'embed': lowrank::Optimizer::step: got 50x50, expected 30x20");
  params = model.parameters();
  params[4].lr_scale = -1;
  refuses(params, {.lr = 0.01}, "lr_scale = -1.000000 of 'embed'");
  refuses(model.parameters(), {.lr = NAN}, "lr = nan");

  SmallModel<float> tied;
  auto shared = tied.parameters();
  shared.push_back({"again", tied.weights[4].view(), std::as_const(tied.gradients[4]).view()});
  Fleet two(shared, Group{anything(), adamw()});
  CHECK_THROWS_WITH(two.step(shared, {.lr = 0.01}), ContainsSubstring("'embed' and 'again' in the same memory"));
  shared[5] = {"again", tied.weights[4].view(), std::as_const(tied.weights[0]).view()};
  shared[5].weight.rows = shared[5].gradient.rows = 3, shared[5].weight.cols = shared[5].gradient.cols = 3;
  Fleet three(shared, Group{anything(), adamw()});
  CHECK_THROWS_AS(three.step(shared, {.lr = 0.01}), std::invalid_argument);

  // columns of one row-major array, side by side, are apart; so are rows of it
  std::vector<float> w(12 * 30, 0.5f), g(12 * 30, 0.25f);
  std::vector<Parameter<float>> blocks;
  for (Index q = 0; q < 3; ++q)
    blocks.push_back({"qkv." + std::to_string(q), view(w.data() + 10 * q, 12, 10, 30, 1), view<const float>(g.data() + 10 * q, 12, 10, 30, 1)});
  Fleet fused(blocks, Group{anything(), galore({.rank = 2})});
  CHECK(fused.step(blocks, {.lr = 0.01}).skipped == 0);
}

TEST_CASE("Threads, storage orders and the caller's own threads do not change a bit of a fleet", "[fleet]") {
  const auto train = [](int threads, Order order) {
    set_threads(threads);
    SmallModel model(order);
    model.add("layers.2.mlp.wide", 530, 515, order);  // large: threaded inside
    auto fleet = small_fleet(model.parameters());
    double norms = 0;
    for (int t = 0; t < 4; ++t) {
      model.at_step(t);
      const double norm = grad_norm(model.parameters());
      norms += norm;
      fleet.step(model.parameters(), {.lr = 0.01, .grad_scale = clip(norm, 1.0), .grad_norm = norm});
    }
    set_threads(1);
    return std::pair(model.elements(), norms);
  };
  const auto reference = train(1, Order::Columns);
  for (int threads = 1; threads <= 3; ++threads)
    for (const Order order : {Order::Columns, Order::Rows}) {
      INFO(threads << " threads");
      CHECK(train(threads, order) == reference);
    }
  std::vector<decltype(train(1, Order::Rows))> results(2);
  std::thread other([&] { results[0] = train(1, Order::Rows); });
  results[1] = train(1, Order::Rows);
  other.join();
  CHECK(results[0] == reference);
  CHECK(results[1] == reference);
  bool equal = true;
#if defined(_OPENMP)
#pragma omp parallel for num_threads(2) reduction(&& : equal)
#endif
  for (int i = 0; i < 2; ++i) {
    SmallModel model;
    auto fleet = small_fleet(model.parameters());
    fleet.step(model.parameters(), {.lr = 0.01});
    SmallModel again;
    auto second = small_fleet(again.parameters());
    second.step(again.parameters(), {.lr = 0.01});
    equal = equal && fleet == second && model.elements() == again.elements();
  }
  CHECK(equal);
}

TEST_CASE("After the first step a fleet allocates nothing", "[fleet]") {
  if (!AllocationCount::counted) SKIP("allocations are not counted in this build");
  set_threads(2);
  SmallModel model;
  model.add("layers.2.mlp.wide", 530, 515, Order::Rows);
  const auto params = model.parameters();
  auto fleet = small_fleet(params);
  fleet.step(params, {.lr = 0.01});
  const AllocationCount count;
  for (int t = 0; t < 7; ++t) {
    const double norm = grad_norm(params);
    fleet.step(params, {.lr = 0.01, .grad_scale = clip(norm, 1.0), .grad_norm = norm});
  }
  CHECK(count.since() == 0);
  set_threads(1);
}

TEST_CASE("Staggered groups renew one basis after the other", "[fleet]") {
  SmallModel model;
  const auto params = model.parameters();
  Fleet fleet(params, Group{named("*.attn.*", "*.mlp.*", "embed"), galore({.rank = 4, .refresh_every = 8}), Stagger::On}, Group{anything(), adamw()});
  std::vector<Index> refreshed;
  for (int t = 0; t < 17; ++t) {
    model.at_step(t);
    refreshed.push_back(fleet.step(params, {.lr = 0.01}).refreshed);
  }
  CHECK(refreshed == std::vector<Index>{4, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1});
}

TEST_CASE("The norm of all gradients", "[fleet]") {
  SmallModel<double> model;
  double expected = 0;
  for (const auto& g : model.gradients) expected += g.values().squaredNorm();
  CHECK(grad_norm(model.parameters()) == Catch::Approx(std::sqrt(expected)).epsilon(1e-14));
  model.lr_scales[0] = 0;  // frozen: not part of what moves
  CHECK(grad_norm(model.parameters()) == Catch::Approx(std::sqrt(expected - model.gradients[0].values().squaredNorm())).epsilon(1e-14));
  CHECK(grad_norm(std::vector<Parameter<float>>{}) == 0);
  SmallModel<float> huge;
  huge.gradients[1].at(0, 0) = 1e30f;
  CHECK_FALSE(std::isfinite(grad_norm(huge.parameters())));
}

TEST_CASE("bf16 weights and gradients step with float state, stochastic rounding differs between matrices", "[fleet]") {
  SmallModel<Eigen::bfloat16> model;
  auto fleet = small_fleet(model.parameters());
  static_assert(std::is_same_v<decltype(fleet)::Scalar, float>);
  const auto before = model.elements();
  CHECK(fleet.step(model.parameters(), {.lr = 0.1}).skipped == 0);
  CHECK(model.elements() != before);
  // two equal matrices whose updates are far below their spacing: stochastic rounding must not move them together
  SmallModel<Eigen::bfloat16, float> twins;
  std::vector<Parameter<Eigen::bfloat16, float>> pair;
  for (const std::size_t i : {0u, 2u}) {
    for (auto c = Index(0); c < 35; ++c)
      for (auto r = Index(0); r < 40; ++r) twins.weights[i].at(r, c) = Eigen::bfloat16(1.0f), twins.gradients[i].at(r, c) = 1.0f;
    pair.push_back({std::to_string(i), twins.weights[i].view(), std::as_const(twins.gradients[i]).view()});
    pair.back().weight.rows = pair.back().gradient.rows = 40;
    pair.back().weight.cols = pair.back().gradient.cols = 35;
  }
  Fleet two(pair, Group{anything(), adamw()});
  two.step(pair, {.lr = 1e-3, .rounding = Rounding::Stochastic, .seed = 3});
  int moved = 0, different = 0;
  for (auto c = Index(0); c < 35; ++c)
    for (auto r = Index(0); r < 40; ++r) {
      moved += twins.weights[0].at(r, c) != Eigen::bfloat16(1.0f);
      different += twins.weights[0].at(r, c) != twins.weights[2].at(r, c);
    }
  // an update of 1e-3 against a spacing of 2^-8 below 1: about a quarter of 1400 move
  CHECK(moved > 270);
  CHECK(moved < 450);
  CHECK(different > 400);
}
