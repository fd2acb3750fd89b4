// The fused step of small rank against the composition of products that it stands for.
#include <cuda/both.hpp>
#include <lowrank/rule/lion.hpp>

using namespace support;

namespace {

/// The largest difference of the weights after some steps in both forms, over the largest change; a step with a NaN changes no bit of either.
template <class T, class U, class P, class R>
double forms_differ(lr::Index m, lr::Index n, bool by_rows, bool gradient_by_rows, const P& projector, const R& rule, const lr::Step& step, Schedule order) {
  HostDevice machine(order);
  Padded<T> w(m, n, by_rows, 3), v = w;
  Padded<U> g(m, n, gradient_by_rows, 1);
  w.set(noise(m, n, 1)), v.set(noise(m, n, 1));
  const Eigen::MatrixXd before = w.values();
  const lr::BackProject lift{.scale = 0.25};
  lc::Optimizer composed(machine, w.device(), projector, rule, lift), fused(machine, v.device(), projector, rule, lift);
  composed.form(lc::Form::Composed), fused.form(lc::Form::Fused);
  for (std::uint64_t t = 0; t < 7; ++t) {
    g.set(gradient(m, n, t));
    if (t == 4) g(1, 0) = U(std::nanf(""));
    const auto kept = v.memory;
    const auto a = composed.step(w.device(), g.device(), step);
    const auto b = fused.step(v.device(), g.device(), step);
    CHECK(a.grad_norm == b.grad_norm);  // the sums have one order
    CHECK(a.refreshed == b.refreshed);
    CHECK(a.skipped == b.skipped);
    CHECK(a.captured == Catch::Approx(b.captured).epsilon(1e-5));
    CHECK(b.skipped == (t == 4));
    CHECK((std::memcmp(kept.data(), v.memory.data(), kept.size() * sizeof(T)) == 0) == (t == 4));
  }
  for (std::size_t i = 0; i < v.memory.size(); ++i)
    if (lr::Index(i) % v.ld >= (by_rows ? n : m)) CHECK(v.memory[i] == T(7.0f));
  return (w.values() - v.values()).cwiseAbs().maxCoeff() / (w.values() - before).cwiseAbs().maxCoeff();
}

template <class T, class U, class P, class R>
void check(const P& projector, const R& rule, double most, const lr::Step& step = {.lr = 0.01, .grad_scale = 0.5}) {
  for (const auto& [m, n] : {std::pair<lr::Index, lr::Index>{37, 70}, {150, 40}, {33, 33}, {9, 1500}})
    for (const bool by_rows : {false, true})
      for (const bool gradient_by_rows : {false, true}) {
        INFO(m << " x " << n << ", rows " << by_rows << gradient_by_rows);
        CHECK(forms_differ<T, U>(m, n, by_rows, gradient_by_rows, projector, rule, step, by_rows ? Schedule::Scattered : Schedule::Backward) < most);
      }
}

const lr::AdamW adam{.eps = 1e-6, .weight_decay = 0.1, .decay_order = lr::DecayOrder::AfterUpdate};

}  // namespace

TEST_CASE("A fused step is the composition's", "[cuda]") {
  for (const std::int64_t r : {1, 3, 8, 9, 17, 32}) {
    check<double, double>(lr::Subspace{.rank = r, .refresh_every = 3}, adam, 1e-8);
    check<float, float>(lr::Gaussian{.rank = r, .refresh_every = 3}, adam, 2e-3);
  }
  check<double, double>(lr::Dct{.rank = 5, .refresh_every = 3}, adam, 1e-8);
  check<double, double>(lr::Subspace{.rank = 4, .refresh_every = 3}, lr::Lion{.weight_decay = 0.1}, 1e-8);
  check<float, Eigen::bfloat16>(lr::Subspace{.rank = 4, .refresh_every = 3}, adam, 2e-3);
  // a weight that is close to the middle of two numbers of 16 bits may go to either
  check<Eigen::bfloat16, Eigen::bfloat16>(lr::Gaussian{.rank = 4, .refresh_every = 3}, adam, 0.1, {.lr = 0.05, .rounding = lr::Rounding::Stochastic, .seed = 5});
  check<Eigen::half, float>(lr::Gaussian{.rank = 4, .refresh_every = 3}, adam, 0.1, {.lr = 0.05});
}

TEST_CASE("Rows beyond a chunk of sums", "[cuda]") {
  const lr::Gaussian long_side{.rank = 3, .side = lr::Side::Larger, .refresh_every = 3};
  CHECK(forms_differ<double, double>(2500, 35, false, true, long_side, adam, {.lr = 0.01}, Schedule::Scattered) < 1e-8);
  CHECK(forms_differ<double, double>(35, 2500, false, false, long_side, adam, {.lr = 0.01}, Schedule::Forward) < 1e-8);
}

TEST_CASE("The form is chosen by what it moves and computes", "[cuda]") {
  CHECK(lc::fused_pays(4096, 4096, 8, 4, 4, 4));
  CHECK_FALSE(lc::fused_pays(4096, 4096, 32, 4, 4, 4));  // products bound it
  CHECK(lc::fused_pays(4096, 4096, 16, 4, 2, 2));        // and widened panels the other
  CHECK_FALSE(lc::fused_pays(4096, 4096, 33, 4, 2, 2));
  HostDevice machine;
  Padded<float> w(40, 60, true), g(40, 60, true);
  g.set(gradient(40, 60, 1));
  const auto products = [&](std::int64_t rank, lc::Form form) {
    lc::Optimizer opt(machine, w.device(), lr::Subspace{.rank = rank, .refresh_every = 0}, adam, lr::BackProject{});
    opt.form(form);
    opt.step(w.device(), g.device(), {.lr = 0.01});
    machine.calls();
    opt.step(w.device(), g.device(), {.lr = 0.01});
    const auto calls = machine.calls();
    return std::count_if(calls.begin(), calls.end(), [](const std::string& call) { return call.rfind("gemm", 0) == 0; });
  };
  CHECK(products(8, lc::Form::Auto) == 0);
  CHECK(products(8, lc::Form::Composed) == 2);
  CHECK(products(30, lc::Form::Auto) == 2);
  CHECK(products(30, lc::Form::Fused) == 0);
  CHECK(products(33, lc::Form::Fused) == 2);
}
