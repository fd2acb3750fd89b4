// Public bugs of other implementations of these methods, each as a test here. What is a property of one room has its test
// there: decay order (optimizer/limits), limiter deadlock (lift/limiter), any size and basis (projector/dct), NaN and
// infinity (optimizer/bad_input), Philox (core/rng), half bytes out of order (linalg/compact_matrix), error feedback that
// works only from the second step on (PowerSGD; lift/error_feedback starts at the first), parameters that per-layer steps
// forget (Q-GaLore 12; fleet/fleet, "One matrix at a time").
#include <limits>

#include <support/catch.hpp>
#include <support/folder.hpp>
#include <support/placed.hpp>
#include <support/tilewise.hpp>

#include <lowrank/optimizer.hpp>
#include <lowrank/projector/dct.hpp>
#include <lowrank/projector/subspace.hpp>
#include <lowrank/rule/adamw.hpp>
#include <lowrank/rule/sgd.hpp>

using namespace support;
using Catch::Matchers::ContainsSubstring;
using Eigen::MatrixXd;

namespace {

constexpr Index rows = 40, cols = 23;

template <class S>
Report step(Stepper<S>& optimizer, Placed<S>& w, const MatrixXd& G, const Step& s = {.lr = 0.01}) {
  return optimizer.step(w.view(), Placed<S>(G, Order::Rows).view(), s);
}

}  // namespace

TEST_CASE("GaLore reverse_std guesses its side from the projected shape (ms-swift 10146): ours is fixed by the weight's", "[regression]") {
  // rank at and beyond the smaller dimension, where the guess was wrong
  for (const auto& policy : policies<double>()) {
    if (!policy.projected) continue;
    for (const auto& [m, n] : {std::pair<Index, Index>{6, 17}, {17, 6}, {6, 6}})
      for (const Index rank : {5, 6, 7, 17, 100}) {
        INFO(policy.name << ", " << m << " x " << n << ", rank " << rank);
        Placed<double> a(random_matrix(m, n, 3), Order::Columns), b(random_matrix(m, n, 3), Order::Rows);
        const auto larger = policy.make(a.view(), {.rank = rank, .side = Side::Larger, .refresh_every = 2});
        const auto forced = policy.make(b.view(), {.rank = rank, .side = m < n ? Side::Right : Side::Left, .refresh_every = 2});
        for (int t = 0; t < 5; ++t) {
          CHECK_FALSE(step(*larger, a, training_gradient(m, n, t)).skipped);
          step(*forced, b, training_gradient(m, n, t));
        }
        CHECK(a.values().allFinite());
        CHECK(same_bits(a.elements(), b.elements()));
      }
  }
}

TEST_CASE("Layer shapes written into the optimizer (DCT-AdamW): any shapes may share a model", "[regression]") {
  const auto& policy = named_policy<float>("dct, fast");
  std::vector<std::pair<Index, Index>> shapes{{1, 7}, {97, 89}, {512, 3584}, {64, 64}, {3, 1009}};
  for (const auto& [m, n] : shapes) {
    INFO(m << " x " << n);
    Placed<float> w(random_matrix(m, n, 3), Order::Rows);
    const auto before = w.values();
    const auto optimizer = policy.make(w.view(), {.rank = 8, .refresh_every = 2});
    for (int t = 0; t < 2; ++t) CHECK_FALSE(step(*optimizer, w, random_matrix(m, n, 9 + unsigned(t))).skipped);
    // the smaller side, whatever the shape is called in somebody's model
    CHECK(optimizer->fields().at("exp_avg").size() == std::size_t(std::min<Index>(8, std::min(m, n)) * std::max(m, n)) * 4);
    CHECK((w.values() - before).norm() > 0);
  }
}

TEST_CASE("The fast transform ignores the norm that ranks coefficients (DCT-AdamW's Makhoul path): ours does not", "[regression]") {
  // one coefficient has a large entry, all others many small ones: L2 prefers the first, L1 the others
  const Index d = 12, k = 30;
  MatrixXd S = MatrixXd::Zero(d, k);
  S(5, 0) = 4;
  for (const Index i : {2, 9}) S.row(i).setConstant(0.5);
  MatrixXd G(d, k);
  for (Index j = 0; j < d; ++j)
    for (Index i = 0; i < k; ++i) {
      G(j, i) = 0;
      for (const Index q : {2, 5, 9}) G(j, i) += S(q, i) * std::sqrt(2.0 / double(d)) * std::cos(M_PI * double(q * (2 * j + 1)) / double(2 * d));
    }
  using namespace lowrank;
  for (const DctRoute route : {DctRoute::Fast, DctRoute::Selected})
    for (const Score score : {Score::L1, Score::L2}) {
      MatrixXd W = MatrixXd::Zero(d, k);
      Optimizer optimizer(W, Dct{.rank = 2, .side = Side::Left, .score = score, .route = route}, Sgd{}, BackProject{});
      optimizer.step(W, G, {.lr = 1});
      const auto& indices = optimizer.projection().indices();
      const bool peak = indices[0] == 5 || indices[1] == 5;
      CHECK(peak == (score == Score::L2));
    }
}

TEST_CASE("The gradient comes back in the projected shape (unsloth 10878): ours is const, to the last bit", "[regression]") {
  for (const auto& policy : policies<float>())
    for (const Order order : {Order::Columns, Order::Rows}) {
      INFO(policy.name);
      Placed<float> w(random_matrix(rows, cols, 3), Order::Columns);
      const auto optimizer = policy.make(w.view(), {.rank = 5, .refresh_every = 2});
      for (int t = 0; t < 5; ++t) {
        const Placed<float> g(t == 3 ? MatrixXd(MatrixXd::Constant(rows, cols, NAN)) : training_gradient(rows, cols, t), order, 1, 2);
        const auto before = g.elements();
        CHECK(optimizer->step(w.view(), g.view(), {.lr = 0.01, .grad_scale = 0.5}).skipped == (t == 3));
        CHECK(same_bits(before, g.elements()));
        CHECK(g.guards_intact());
      }
    }
}

TEST_CASE("The first step after a resume makes a new basis (ms-swift 10161), or forgets the step count (DCT-AdamW)", "[regression]") {
  const Folder folder("regression");
  for (const auto& policy : tilewise_policies<double>()) {
    if (!policy.projected) continue;
    INFO(policy.name);
    Placed<double> w(random_matrix(rows, cols, 3), Order::Columns);
    const Choice choice{.rank = 5, .refresh_every = 10};
    const auto saved = policy.make(w.view(), choice);
    for (int t = 0; t < 3; ++t) step(*saved, w, training_gradient(rows, cols, 0));
    saved->save(folder / "s");
    const auto resumed = policy.make(w.view(), choice);
    resumed->load(folder / "s");
    const auto before = resumed->fields();
    CHECK(before.at("steps") == saved->fields().at("steps"));
    CHECK(before.at("rule_steps") == saved->fields().at("rule_steps"));
    CHECK_FALSE(step(*resumed, w, training_gradient(rows, cols, 0)).refreshed);
    for (const char* kept : {"basis", "basis_right", "indices", "refreshes"})
      if (before.contains(kept)) CHECK(resumed->fields().at(kept) == before.at(kept));
    CHECK(resumed->steps() == 4);
  }
}

TEST_CASE("A random basis fills the checkpoint (peft 3227): ours saves its seed and a count", "[regression]") {
  const Folder folder("seed");
  Placed<float> w(random_matrix(300, 200, 3), Order::Columns);
  const auto optimizer = named_policy<float>("apollo").make(w.view(), {.rank = 16, .refresh_every = 2});
  step(*optimizer, w, training_gradient(300, 200, 0));
  optimizer->save(folder / "s");
  const std::size_t moments = 2 * 16 * 300 * 4;
  CHECK(std::filesystem::file_size(folder / "s") < moments + 3000);  // the basis would be 12800 bytes more
}

TEST_CASE("NaN where a norm was promised (GaLore 26, 58): skipped as well, nothing poisoned", "[regression]") {
  // a finite grad_norm replaces the test of the gradient; a wrong one must not let NaN into basis and moments
  for (const auto& policy : tilewise_policies<float>()) {
    if (!policy.projected) continue;  // without a projection the caller's word is all there is
    for (int before = 0; before < 3; ++before) {
      INFO(policy.name << " after " << before << " steps");
      Placed<float> w(random_matrix(rows, cols, 3), Order::Columns);
      const auto optimizer = policy.make(w.view(), {.rank = 5, .refresh_every = 2});
      for (int t = 0; t < before; ++t) step(*optimizer, w, training_gradient(rows, cols, t));
      optimizer->allocate();
      const auto weight = w.elements();
      const auto state = optimizer->fields();
      for (const double value : {double(NAN), double(INFINITY), 1e38}) {
        MatrixXd G = training_gradient(rows, cols, 1);
        G(7, 5) = value;
        CHECK(step(*optimizer, w, G, {.lr = 0.01, .grad_norm = 1}).skipped);
        CHECK(same_bits(weight, w.elements()));
        CHECK(state == optimizer->fields());
      }
    }
  }
}

TEST_CASE("Gradients at the edge of overflow add up in an error buffer: skipped or stepped, never poisoned", "[regression]") {
  for (const auto& policy : policies<float>()) {
    INFO(policy.name);
    Placed<float> w(random_matrix(rows, cols, 3), Order::Columns);
    const auto optimizer = policy.make(w.view(), {.rank = 2, .refresh_every = 2});
    const MatrixXd G = random_matrix(rows, cols, 1) * (0.9 * std::sqrt(double(std::numeric_limits<float>::max())) / random_matrix(rows, cols, 1).norm());
    for (int t = 0; t < 6; ++t) step(*optimizer, w, G, {.lr = 1e-25});
    for (int t = 0; t < 3; ++t) step(*optimizer, w, training_gradient(rows, cols, t), {.lr = 1e-25});
    CHECK(w.values().allFinite());
    for (const char* name : {"exp_avg", "exp_avg_sq", "momentum", "basis", "error"})
      if (optimizer->fields().contains(name))
        for (const float x : field<float>(*optimizer, name)) REQUIRE(std::isfinite(x));
  }
}

TEST_CASE("The scheduler steps twice (ms-swift 10143): the rate belongs to the step, a call is one step", "[regression]") {
  for (const auto& policy : policies<double>()) {
    INFO(policy.name);
    Placed<double> w(random_matrix(rows, cols, 3), Order::Columns);
    const auto optimizer = policy.make(w.view(), {.rank = 5, .refresh_every = 2});
    for (int t = 0; t < 3; ++t) step(*optimizer, w, training_gradient(rows, cols, t));
    CHECK(optimizer->steps() == 3);
    // from one state, rate 0 moves nothing and a rate of 2 x twice as far as x, decay included
    const MatrixXd start = w.values(), G = training_gradient(rows, cols, 3);
    std::vector<MatrixXd> moved;
    for (const double lr : {0.0, 1e-6, 2e-6}) {
      Placed<double> copy(start, Order::Columns);
      const auto one = optimizer->clone();
      step(*one, copy, G, {.lr = lr});
      CHECK(one->steps() == 4);
      moved.push_back(copy.values() - start);
    }
    CHECK(moved[0].isZero(0));
    CHECK((moved[2] - 2 * moved[1]).norm() < 1e-5 * moved[1].norm());
    CHECK(moved[1].norm() > 0);
    CHECK(step(*optimizer, w, MatrixXd::Constant(rows, cols, NAN)).skipped);
    CHECK(optimizer->steps() == 3);
  }
}

TEST_CASE("A first gradient of zeros makes NaN of the power iteration (ISTA 1.1.15): ours waits for one that is not", "[regression]") {
  const MatrixXd zero = MatrixXd::Zero(rows, cols);
  for (const auto& policy : tilewise_policies<double>()) {
    INFO(policy.name);
    Placed<double> w(random_matrix(rows, cols, 3), Order::Columns);
    const MatrixXd start = w.values();
    const auto optimizer = policy.make(w.view(), {.rank = 5, .refresh_every = 100});
    for (int t = 0; t < 2; ++t) {
      const Report report = step(*optimizer, w, zero, {.lr = 0.01});
      CHECK_FALSE(report.skipped);
    }
    CHECK(w.values().allFinite());
    // at most decay has touched the weight
    CHECK((w.values() - start).norm() <= 0.0021 * start.norm());
    const Report report = step(*optimizer, w, training_gradient(rows, cols, 0));
    const bool random = policy.name.starts_with("apollo") || policy.name.starts_with("gaussian");
    if (policy.projected && (!random || policy.name == "apollo on a subspace")) {
      CHECK(report.refreshed);        // for this gradient, far ahead of schedule
      CHECK(report.captured > 0.3);
    }
    CHECK(w.values().allFinite());
  }
}

TEST_CASE("Hyper-parameters freeze (dion): ours are read at every step", "[regression]") {
  const MatrixXd start = random_matrix(rows, cols, 3);
  MatrixXd W = start;
  lowrank::Optimizer optimizer(W, lowrank::Subspace{.rank = 5, .refresh_every = 100}, lowrank::AdamW{.weight_decay = 0.1},
                               lowrank::BackProject{.scale = 0.5});
  for (int t = 0; t < 3; ++t) optimizer.step(W, training_gradient(rows, cols, t), {.lr = 0.01});
  const MatrixXd G = training_gradient(rows, cols, 3);
  Report report;
  const auto step_with = [&](const auto& change) {
    auto copy = optimizer;
    change(copy);
    MatrixXd moved = W;
    report = copy.step(moved, G, {.lr = 0.01});
    return moved;
  };
  const MatrixXd plain = step_with([](auto&) {});
  CHECK_FALSE(report.refreshed);
  // W' = (1 - lr wd) W - lr scale P N
  const MatrixXd update = (1 - 0.01 * 0.1) * W - plain;
  CHECK((step_with([](auto& o) { o.rule().weight_decay = 0; }) - (W - update)).norm() < 1e-13);
  CHECK((step_with([](auto& o) { o.lift().scale = 1; }) - ((1 - 0.01 * 0.1) * W - 2 * update)).norm() < 1e-13);
  CHECK((step_with([](auto& o) { o.rule().decay_order = lowrank::DecayOrder::AfterUpdate; }) - (1 - 0.01 * 0.1) * (W - update)).norm() < 1e-13);
  CHECK((step_with([](auto& o) { o.rule().beta1 = 0; }) - plain).norm() > 1e-4);
  CHECK((step_with([](auto& o) { o.rule().beta2 = 0.5; }) - plain).norm() > 1e-4);
  CHECK((step_with([](auto& o) { o.rule().eps = 1; }) - plain).norm() > 1e-4);
  step_with([](auto& o) { o.projector().refresh_every = 3; });
  CHECK(report.refreshed);
  step_with([](auto& o) { o.projector().phase = 97; });
  CHECK(report.refreshed);

  // and senseless ones, or those that fix the shape of the state, throw before anything is touched
  const auto refused = [&](const auto& change, const char* why) {
    auto copy = optimizer;
    change(copy);
    MatrixXd moved = W;
    CHECK_THROWS_WITH(copy.step(moved, G, {.lr = 0.01}), ContainsSubstring(why));
    CHECK(moved == W);
    CHECK(copy == optimizer);
  };
  refused([](auto& o) { o.projector().rank = 6; }, "rank = 6, expected 5, as at construction");
  refused([](auto& o) { o.projector().side = Side::Left; }, "the one of construction");
  refused([](auto& o) { o.projector().refresh_every = -1; }, "refresh_every = -1");
  refused([](auto& o) { o.projector().phase = -1; }, "phase = -1");
  refused([](auto& o) { o.projector().sweeps = 0; }, "sweeps = 0");
  for (const double bad : {-0.1, 1.0, double(NAN)}) refused([&](auto& o) { o.projector().refresh_on_drift = bad; }, "refresh_on_drift");
  refused([](auto& o) { o.rule().beta1 = 1; }, "beta1");
  refused([](auto& o) { o.rule().weight_decay = NAN; }, "weight_decay");
  refused([](auto& o) { o.lift().scale = -1; }, "scale");
}

TEST_CASE("Vectors strided through memory step like contiguous ones", "[regression]") {
  const Index n = 37, stride = 3;
  for (const auto& policy : policies<float>())
    for (const bool tall : {true, false}) {
      INFO(policy.name << (tall ? ", a column" : ", a row"));
      const Index m = tall ? n : 1, k = tall ? 1 : n;
      Placed<float> packed(random_matrix(m, k, 3), Order::Columns);
      std::vector<float> memory(std::size_t(n * stride), 7), gradient(std::size_t(n * stride), 9);
      for (Index i = 0; i < n; ++i) memory[std::size_t(i * stride)] = packed.elements()[std::size_t(i)];
      // the stride across the vector is nonsense on purpose
      const auto strided = [&](float* p) { return tall ? lowrank::view(p, n, 1, stride, 5) : lowrank::view(p, 1, n, 5, stride); };
      const Choice choice{.rank = 1, .refresh_every = 2};
      const auto a = policy.make(packed.view(), choice), b = policy.make(strided(memory.data()), choice);
      for (int t = 0; t < 4; ++t) {
        const MatrixXd G = random_matrix(m, k, 20 + unsigned(t));
        for (Index i = 0; i < n; ++i) gradient[std::size_t(i * stride)] = float(G.data()[i]);
        step(*a, packed, G);
        b->step(strided(memory.data()), strided(gradient.data()), {.lr = 0.01});
      }
      for (Index i = 0; i < n; ++i) {
        CHECK(memory[std::size_t(i * stride)] == packed.elements()[std::size_t(i)]);
        CHECK(memory[std::size_t(i * stride + 1)] == 7);
      }
    }
}
