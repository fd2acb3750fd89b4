// A program built with -ffast-math (tests/CMakeLists.txt), where the compiler may assume that nothing is ever NaN or
// infinite: what is not finite is still recognised, skipped or refused, and nothing is poisoned.
#include <bit>
#include <cstdint>
#include <limits>

#include <support/catch.hpp>
#include <support/folder.hpp>
#include <support/placed.hpp>

#include <lowrank/lift/residual.hpp>
#include <lowrank/optimizer.hpp>
#include <lowrank/projector/identity.hpp>
#include <lowrank/projector/subspace.hpp>
#include <lowrank/rule/adamw.hpp>

#if !defined(__FAST_MATH__)
#error "this test is about -ffast-math"
#endif

using namespace support;
using namespace lowrank;

namespace {

constexpr Index rows = 70, cols = 45;

/// Bits the compiler cannot see through.
float from_bits(std::uint32_t bits) {
  volatile std::uint32_t hidden = bits;
  return std::bit_cast<float>(hidden);
}
const float nan_value = from_bits(0x7fc00000u), infinity = from_bits(0x7f800000u), huge = from_bits(0x7e800000u);

bool finite(const Eigen::MatrixXf& m) {
  for (Index i = 0; i < m.size(); ++i)
    if ((std::bit_cast<std::uint32_t>(m.data()[i]) & 0x7f800000u) == 0x7f800000u) return false;
  return true;
}
bool same(const Eigen::MatrixXf& a, const Eigen::MatrixXf& b) {
  return std::memcmp(a.data(), b.data(), std::size_t(a.size()) * sizeof(float)) == 0;
}

template <class P, class L>
void check(const char* name, P projector, L lift) {
  for (int before = 0; before < 3; ++before) {
    INFO(name << " after " << before << " steps");
    Eigen::MatrixXf W = random_matrix(rows, cols, 3).cast<float>();
    Optimizer optimizer(W, projector, AdamW{.weight_decay = 0.1}, lift);
    optimizer.allocate();
    const auto good = [&](int t) { return optimizer.step(W, Eigen::MatrixXf(training_gradient(rows, cols, t).cast<float>()), {.lr = 0.01}); };
    for (int t = 0; t < before; ++t) CHECK_FALSE(good(t).skipped);
    const Eigen::MatrixXf weight = W;
    const auto state = optimizer;
    for (const float value : {nan_value, infinity, -infinity, huge})
      for (const Index at : {Index(0), Index(1234), rows * cols - 1}) {
        Eigen::MatrixXf G = training_gradient(rows, cols, 1).cast<float>();
        G.data()[at] = value;
        CHECK(optimizer.step(W, G, {.lr = 0.01}).skipped);
        if (optimizer.projected) CHECK(optimizer.step(W, G, {.lr = 0.01, .grad_norm = 1}).skipped);
      }
    const Eigen::MatrixXf fine = training_gradient(rows, cols, 1).cast<float>();
    for (const float norm : {nan_value, infinity}) CHECK(optimizer.step(W, fine, {.lr = 0.01, .grad_norm = double(norm)}).skipped);
    for (const float lr : {nan_value, infinity, -1.0f}) CHECK_THROWS_AS(optimizer.step(W, fine, {.lr = double(lr)}), std::invalid_argument);
    CHECK_THROWS_AS(optimizer.step(W, fine, {.lr = 0.01, .grad_scale = double(nan_value)}), std::invalid_argument);
    for (double* option : {&optimizer.rule().beta1, &optimizer.rule().beta2, &optimizer.rule().eps, &optimizer.rule().weight_decay,
                           &optimizer.lift().scale}) {
      const double old = *option;
      *option = double(nan_value);
      CHECK_THROWS_AS(optimizer.step(W, fine, {.lr = 0.01}), std::invalid_argument);
      *option = old;
    }
    CHECK(same(W, weight));
    CHECK(optimizer == state);
    for (int t = before; t < before + 3; ++t) CHECK_FALSE(good(t).skipped);
    const Eigen::MatrixXf zero = Eigen::MatrixXf::Zero(rows, cols), tiny = 1e-30f * fine;
    CHECK_FALSE(optimizer.step(W, zero, {.lr = 0.01}).skipped);
    CHECK_FALSE(optimizer.step(W, tiny, {.lr = 0.01}).skipped);
    CHECK(finite(W));
  }
}

}  // namespace

TEST_CASE("Built with -ffast-math: what is not finite changes nothing", "[optimizer]") {
  check("adamw", Identity{}, BackProject{.scale = 0.5});
  check("galore", Subspace{.rank = 5, .refresh_every = 2}, BackProject{.scale = 0.5});
  check("fira", Subspace{.rank = 5, .refresh_every = 2}, Residual{});
}

TEST_CASE("Built with -ffast-math: an infinite gamma is no limit, a NaN one an error", "[optimizer]") {
  detail::GrowthLimit<float> growth;
  const Limiter off{.gamma = double(infinity)};
  for (const double x : {1.0, 1e6, 1e-6, 1e12}) CHECK(growth(off, x) == 1);
  CHECK_THROWS_AS(detail::check_limiter("test", {.gamma = double(nan_value)}), std::invalid_argument);
  CHECK_THROWS_AS(detail::check_limiter("test", {.floor = double(infinity)}), std::invalid_argument);
  CHECK_NOTHROW(detail::check_limiter("test", off));
}

TEST_CASE("Built with -ffast-math: a state file with NaN in it is refused", "[optimizer]") {
  const Folder folder("fast_math");
  Eigen::MatrixXf W = random_matrix(rows, cols, 3).cast<float>();
  Optimizer optimizer(W, Subspace{.rank = 5, .refresh_every = 2}, AdamW{.weight_decay = 0.1}, BackProject{.scale = 0.5});
  optimizer.step(W, Eigen::MatrixXf(training_gradient(rows, cols, 0).cast<float>()), {.lr = 0.01});
  optimizer.save(folder / "s");
  auto copy = optimizer;
  copy.load(folder / "s");
  CHECK(copy == optimizer);
  copy.visit([](const char*, auto& field) {
    if constexpr (requires { field.column(0); })
      if constexpr (std::is_floating_point_v<std::remove_cvref_t<decltype(field[0])>>) field[0] = nan_value;
  });
  copy.save(folder / "s");
  CHECK_THROWS_AS(optimizer.load(folder / "s"), std::runtime_error);
}

TEST_CASE("Built with -ffast-math the code carries the mark of it", "[optimizer]") {
  // in the inline namespace: no function of this program can be taken for one compiled otherwise
  CHECK(std::string(typeid(Limiter).name()).find("fastmath") != std::string::npos);
}
