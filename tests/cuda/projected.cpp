// Projected steps on the device against the CPU library's, over refreshes, in both scalars, orders and with every transport.
#include <cuda/both.hpp>
#include <lowrank/rule/lion.hpp>

using namespace support;
using lowrank::Transport;

namespace {

/// Sides, orders, one dimension of 1, nothing a multiple of a block.
const std::vector<Case> cases = {
    {.rows = 20, .cols = 33},
    {.rows = 45, .cols = 21, .weight_by_rows = true, .padding = 3},
    {.rows = 24, .cols = 24, .gradient_by_rows = true},
    {.rows = 7, .cols = 70, .weight_by_rows = true, .gradient_by_rows = true, .padding = 1},
};

/// float: what rounding in R makes of entries near zero after Adam's division; double: the same, 1e9 times less.
template <class T>
constexpr double tolerance = std::is_same_v<T, double> ? 1e-8 : 5e-3;

template <class T, class U, class P, class R, class L>
void check_close(const P& projector, const R& rule, const L& lift, double most, const lowrank::Step& step = {.lr = 0.01}) {
  for (Case c : cases) {
    c.step = step;
    INFO(c.rows << " x " << c.cols << ", rows " << c.weight_by_rows << c.gradient_by_rows);
    CHECK(difference<T, U>(c, projector, rule, lift) < most);
  }
}

const lowrank::AdamW galore_adam{.eps = 1e-6, .weight_decay = 0.1, .epsilon = lowrank::Epsilon::BeforeCorrection, .decay_order = lowrank::DecayOrder::AfterUpdate};

template <class T>
void check_recipes() {
  for (const Transport transport : {Transport::Keep, Transport::Reset, Transport::Rotate}) {
    check_close<T, T>(lowrank::Subspace{.rank = 3, .refresh_every = 3, .transport = transport}, galore_adam, lowrank::BackProject{.scale = 0.25}, tolerance<T>);
    check_close<T, T>(lowrank::Gaussian{.rank = 4, .refresh_every = 3, .transport = transport, .seed = 9}, galore_adam, lowrank::ChannelScale{}, tolerance<T>);
  }
  const lowrank::Subspace subspace{.rank = 3, .refresh_every = 3, .sweeps = 2, .seed = 4};
  for (const lowrank::Side side : {lowrank::Side::Left, lowrank::Side::Right, lowrank::Side::Larger}) {
    lowrank::Subspace sided = subspace;
    sided.side = side;
    check_close<T, T>(sided, galore_adam, lowrank::Residual{.scale = 0.25}, tolerance<T>, {.lr = 0.01, .grad_scale = 0.3});
  }
  check_close<T, T>(subspace, lowrank::AdamW{.bias_correction = lowrank::BiasCorrection::Off}, lowrank::Residual{.form = lowrank::FiraForm::Paper}, tolerance<T>);
  check_close<T, T>(subspace, lowrank::Lion{.weight_decay = 0.1}, lowrank::BackProject{}, std::is_same_v<T, double> ? 1e-8 : 2.1);  // a sign may differ
  check_close<T, T>(lowrank::Gaussian{.rank = 1, .refresh_every = 4}, galore_adam,
                    lowrank::ChannelScale{.scale = 128, .granularity = lowrank::Granularity::Tensor}, tolerance<T>);
  check_close<T, T>(lowrank::Gaussian{.rank = 2, .refresh_every = 4}, galore_adam,
                    lowrank::ChannelScale{.scale = 2, .scale_order = lowrank::ScaleOrder::BeforeLimiter, .limiter = {.gamma = 1.001, .floor = 0.1}}, tolerance<T>);
}

}  // namespace

TEST_CASE("galore, fira and apollo in double: the CPU's steps", "[cuda]") { check_recipes<double>(); }
TEST_CASE("galore, fira and apollo in float: the CPU's steps", "[cuda]") { check_recipes<float>(); }

TEST_CASE("Projected steps of weights and gradients in 16 bits", "[cuda]") {
  using bf16 = Eigen::bfloat16;
  const lowrank::Step stochastic{.lr = 0.05, .rounding = lowrank::Rounding::Stochastic, .seed = 5};
  // where the sums differ in their last bits a weight may round to the neighbour: one ulp, 2^-7 of it
  check_close<bf16, bf16>(lowrank::Subspace{.rank = 3, .refresh_every = 3}, galore_adam, lowrank::BackProject{}, 0.1, stochastic);
  check_close<bf16, float>(lowrank::Subspace{.rank = 3, .refresh_every = 3}, galore_adam, lowrank::Residual{}, 0.1, stochastic);
  check_close<float, bf16>(lowrank::Gaussian{.rank = 3, .refresh_every = 3}, galore_adam, lowrank::ChannelScale{}, tolerance<float>);
  check_close<float, Eigen::half>(lowrank::Subspace{.rank = 3, .refresh_every = 3}, galore_adam, lowrank::Residual{}, tolerance<float>);
}

TEST_CASE("The order in which threads and blocks run changes no bit", "[cuda]") {
  const auto run = [](Schedule order, const auto& projector, const auto& lift) {
    HostDevice machine(order);
    Padded<float> w(20, 70, true), g(20, 70, false);
    w.set(noise(20, 70, 3));
    lc::Optimizer opt(machine, w.device(), projector, galore_adam, lift);
    for (std::uint64_t t = 0; t < 5; ++t) {
      g.set(gradient(20, 70, t));
      opt.step(w.device(), g.device(), {.lr = 0.01});
    }
    return w.memory;
  };
  const auto same = [&](const auto& projector, const auto& lift) {
    const auto forward = run(Schedule::Forward, projector, lift);
    CHECK(forward == run(Schedule::Backward, projector, lift));
    CHECK(forward == run(Schedule::Scattered, projector, lift));
    CHECK(forward == run(Schedule::Forward, projector, lift));
  };
  same(lowrank::Subspace{.rank = 3, .refresh_every = 2}, lowrank::Residual{});
  same(lowrank::Subspace{.rank = 20, .refresh_every = 2}, lowrank::BackProject{});
  same(lowrank::Gaussian{.rank = 3, .refresh_every = 2}, lowrank::ChannelScale{});
  same(lowrank::Dct{.rank = 3, .refresh_every = 2}, lowrank::ErrorFeedback{});
}

TEST_CASE("Gradients of zeros and of low rank: as on the CPU", "[cuda]") {
  HostDevice machine;
  Padded<double> w(12, 30, false), v = w, g(12, 30, false);
  w.set(noise(12, 30, 1)), v.set(noise(12, 30, 1));
  const lowrank::Subspace subspace{.rank = 4, .refresh_every = 2};
  lowrank::Optimizer cpu(w.cpu(), subspace, lowrank::AdamW{}, lowrank::BackProject{});
  lc::Optimizer device(machine, v.device(), subspace, lowrank::AdamW{}, lowrank::BackProject{});
  const Eigen::MatrixXd rank_one = noise(12, 1, 5) * noise(1, 30, 6);
  const std::vector<Eigen::MatrixXd> gradients = {0 * rank_one, 0 * rank_one, rank_one, rank_one, 0 * rank_one, rank_one, 2 * rank_one, rank_one};
  for (const auto& x : gradients) {  // of one direction: which others the basis holds is nobody's choice
    g.set(x);
    CHECK(cpu.due() == device.due());
    const auto a = cpu.step(w.cpu(), g.cpu(), {.lr = 0.01});
    const auto b = device.step(v.device(), g.device(), {.lr = 0.01});
    // between a basis that holds everything and a candidate that does the last bit decides
    if (!(a.captured > 1 - 1e-12)) CHECK(a.refreshed == b.refreshed);
    CHECK(a.captured == Catch::Approx(b.captured).margin(1e-9));
    CHECK(v.values().allFinite());
  }
  std::vector<double> P;
  device.visit([&](const char* name, const auto& x) {
    if (name == std::string("basis")) P.assign(x.data(), x.data() + x.size());
  });
  const Eigen::Map<const Eigen::MatrixXd> basis(P.data(), 12, 4);
  CHECK((basis.transpose() * basis - Eigen::MatrixXd::Identity(4, 4)).cwiseAbs().maxCoeff() < 1e-12);
}

TEST_CASE("Orthonormal bases of ill-conditioned and dependent columns", "[cuda]") {
  const lc::Index d = 50, n = 8;
  Eigen::MatrixXd Y = noise(d, n, 1);
  const auto orth = [&] {
    HostDevice machine;
    lc::Arena count;
    (void)lc::Orth(count, d, n);
    lc::Arena arena(machine.workspace(count.used()));
    lc::Orth made(arena, d, n);
    Eigen::MatrixXd Q(d, n);
    made(machine, Y.data(), n, static_cast<const double*>(nullptr), Q.data());
    CHECK((Q.transpose() * Q - Eigen::MatrixXd::Identity(n, n)).cwiseAbs().maxCoeff() < 1e-13);
    return Q;
  };
  const auto spans = [&](const Eigen::MatrixXd& Q, const Eigen::MatrixXd& x, double most) { CHECK((x - Q * (Q.transpose() * x)).norm() < most * x.norm()); };
  spans(orth(), Y, 1e-13);
  for (lc::Index j = 1; j < n; ++j) Y.col(j) = Y.col(0) + std::pow(10.0, -double(j)) * Y.col(j);  // condition 1e7
  spans(orth(), Y, 1e-13);
  Y.col(3) = Y.col(1), Y.col(5).setZero(), Y.col(6) *= 1e-30;
  spans(orth(), Y, 1e-12);
  Y.setZero();
  CHECK(orth().isApprox(Eigen::MatrixXd::Identity(d, n)));
}

TEST_CASE("A gradient that is not finite changes no bit, whether the basis is due or not", "[cuda]") {
  const auto check = [](const auto& projector, const auto& lift) {
    for (int bad_step = 0; bad_step < 3; ++bad_step) {
      HostDevice machine;
      Padded<float> w(9, 40, false, 2), g(9, 40, true);
      w.set(noise(9, 40, 1));
      w(2, 3) = -0.0f;
      lc::Optimizer opt(machine, w.device(), projector, lowrank::AdamW{.weight_decay = 1}, lift);
      const auto snapshot = [&] {
        std::vector<char> bytes(reinterpret_cast<const char*>(w.memory.data()), reinterpret_cast<const char*>(w.memory.data() + w.memory.size()));
        const auto add = [&](const void* p, std::size_t n) { bytes.insert(bytes.end(), static_cast<const char*>(p), static_cast<const char*>(p) + n); };
        opt.visit([&](const char*, const auto& x) { add(x.data(), x.bytes()); });
        opt.visit_numbers([&](const char*, const auto& x) { add(&x, sizeof x); });
        return bytes;
      };
      for (int t = 0; t < bad_step; ++t) g.set(gradient(9, 40, std::uint64_t(t))), opt.step(w.device(), g.device(), {.lr = 0.01});
      const auto before = snapshot();
      for (const double bad : {std::nan(""), HUGE_VAL, 1e25}) {
        g.set(gradient(9, 40, 9));
        g(4, 39) = float(bad);
        CHECK(opt.step(w.device(), g.device(), {.lr = 0.01}).skipped);
        CHECK(before == snapshot());
      }
    }
  };
  check(lowrank::Subspace{.rank = 2, .refresh_every = 2}, lowrank::BackProject{});
  check(lowrank::Subspace{.rank = 2, .refresh_every = 2, .transport = Transport::Reset}, lowrank::Residual{});
  check(lowrank::Gaussian{.rank = 2, .refresh_every = 2, .transport = Transport::Rotate}, lowrank::ChannelScale{});
  check(lowrank::Dct{.rank = 3, .refresh_every = 2}, lowrank::ErrorFeedback{});
}

TEST_CASE("Once a refresh and a plain step were taken, nothing is allocated and steps launch alike", "[cuda]") {
  HostDevice machine;
  Padded<float> w(30, 60, true), g(30, 60, true);
  g.set(gradient(30, 60, 1));
  {
    lc::Optimizer opt(machine, w.device(), lowrank::Subspace{.rank = 4, .refresh_every = 3}, lowrank::AdamW{}, lowrank::Residual{});
    CHECK(opt.state_bytes() == sizeof(float) * (30 * 4 + 2 * 4 * 60 + 1));
    std::vector<std::vector<std::string>> calls;
    int allocations = 0;
    for (int t = 0; t < 9; ++t) {
      if (t == 2) allocations = machine.allocations();
      machine.calls();
      opt.step(w.device(), g.device(), {.lr = 0.1 + t});
      calls.push_back(machine.calls());
    }
    CHECK(machine.allocations() == allocations);
    for (const std::size_t t : {2u, 4u, 5u, 7u, 8u}) CHECK(calls[t] == calls[1]);
    CHECK(calls[6] == calls[3]);

    // what a graph would hold: launches only, and the numbers from device memory
    Padded<float> other = w;
    machine.calls();
    opt.enqueue(w.device(), g.device(), lc::Refresh::No);
    for (const std::string& call : machine.calls()) CHECK((call.find("load") == std::string::npos));
  }
  CHECK(machine.live() == 0);
}

TEST_CASE("enqueue() with set() is step(), whatever lr it is replayed with", "[cuda]") {
  HostDevice machine;
  Padded<float> w(30, 60, true), v = w, g(30, 60, true);
  const lowrank::Subspace subspace{.rank = 4, .refresh_every = 3};
  lc::Optimizer a(machine, w.device(), subspace, lowrank::AdamW{}, lowrank::BackProject{}), b(machine, v.device(), subspace, lowrank::AdamW{}, lowrank::BackProject{});
  for (std::uint64_t t = 0; t < 8; ++t) {
    g.set(gradient(30, 60, t));
    const lowrank::Step step{.lr = 0.1 / double(1 + t)};
    a.step(w.device(), g.device(), step);
    b.set(step);
    b.enqueue(v.device(), g.device(), t % 3 == 0 ? lc::Refresh::Yes : lc::Refresh::No);
    if (t == 0) b.report();  // that there is a basis
  }
  CHECK(w.memory == v.memory);
  CHECK(b.report().captured == a.report().captured);
  CHECK(a.steps() == b.steps());
}
