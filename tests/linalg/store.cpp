// Narrow weights: read exactly, written to the nearest neighbour or to a random one of the two, without bias.
#include <cmath>
#include <limits>

#include <support/catch.hpp>
#include <support/placed.hpp>

#include <lowrank/linalg/store.hpp>

using namespace support;
using namespace lowrank;

namespace {

using K = kernel::Best;

/// A rows x cols block of one value, stored with this key; element numbers are those of a row-major matrix.
template <class T>
std::vector<T> stored(float x, Index rows, Index cols, linalg::RoundingKey key, Order order = Order::Columns, Index i0 = 0) {
  Placed<T> to(Eigen::MatrixXd::Zero(rows, cols), order);
  const auto v = to.view();
  linalg::Memory<void> memory{v.data - i0 * v.row_stride, detail::DtypeOf<T>::value, v.row_stride, v.col_stride};
  const std::vector<float> block(std::size_t(rows * cols), x);
  key.row_weight = cols;
  key.col_weight = 1;
  linalg::store_block<K>(block.data(), rows, memory, i0, rows, 0, cols, key);
  REQUIRE(to.guards_intact());
  return to.elements();
}

}  // namespace

TEMPLATE_TEST_CASE("Nearest rounding is the scalar's own", "[store]", Eigen::bfloat16, Eigen::half) {
  for (const float x : {0.f, -0.f, 1.f, 1.001f, -3.14159f, 1e-3f, 65504.f, 1e-7f})
    for (const TestType y : stored<TestType>(x, 3, 5, {})) CHECK(std::memcmp(&y, std::vector<TestType>{TestType(x)}.data(), 2) == 0);
}

TEMPLATE_TEST_CASE("Stochastic rounding takes one of the two neighbours and is right on average", "[store]", Eigen::bfloat16, Eigen::half) {
  constexpr bool brain = std::is_same_v<TestType, Eigen::bfloat16>;
  const int mantissa = brain ? 7 : 10, smallest = brain ? -126 : -14;
  const Index n = 20000;
  for (const float x : {1.0f + 0x1p-12f, 1.3331f, -1.3331f, 0.7123456f, -1000.77f, 1.99999f, 3.1e-5f /* below half's normals */}) {
    INFO("x = " << x);
    const double ulp = std::ldexp(1.0, std::max(std::ilogb(x), smallest) - mantissa), low = std::floor(double(x) / ulp) * ulp;
    const double p = (double(x) - low) / ulp;
    double sum = 0;
    Index up = 0;
    for (const TestType y : stored<TestType>(x, 100, n / 100, {.stochastic = true, .seed = 3, .step = 7})) {
      CHECK((double(y) == low || double(y) == low + ulp));
      up += double(y) > low;
      sum += double(y);
    }
    // five standard deviations of a binomial
    CHECK(std::abs(double(up) - p * double(n)) <= 5 * std::sqrt(double(n) * std::max(p * (1 - p), 1e-4)));
    CHECK(std::abs(sum / double(n) - double(x)) <= 5 * ulp / std::sqrt(double(n)));
  }
  // what is representable stays, zeros with their sign, and what is not finite is handed through
  for (const float x : {0.f, -0.f, 1.f, -1.5f, 0.25f})
    for (const TestType y : stored<TestType>(x, 3, 5, {.stochastic = true})) CHECK(std::memcmp(&y, std::vector<TestType>{TestType(x)}.data(), 2) == 0);
  CHECK(std::isinf(float(stored<TestType>(std::numeric_limits<float>::infinity(), 1, 1, {.stochastic = true})[0])));
}

TEST_CASE("The random number is the element's: orders and blocks do not matter, steps and seeds do", "[store]") {
  using T = Eigen::bfloat16;
  const float x = 1.3331f;
  const linalg::RoundingKey key{.stochastic = true, .seed = 5, .step = 9};
  const auto whole = stored<T>(x, 64, 7, key);
  CHECK(same_bits(whole, stored<T>(x, 64, 7, key, Order::Rows)));
  const auto lower = stored<T>(x, 24, 7, key, Order::Columns, 40);  // rows 40 .. 63 of the same matrix
  for (Index j = 0; j < 7; ++j)
    for (Index i = 0; i < 24; ++i) CHECK(float(lower[std::size_t(i + j * 24)]) == float(whole[std::size_t(40 + i + j * 64)]));
  CHECK_FALSE(same_bits(whole, stored<T>(x, 64, 7, {.stochastic = true, .seed = 6, .step = 9})));
  CHECK_FALSE(same_bits(whole, stored<T>(x, 64, 7, {.stochastic = true, .seed = 5, .step = 10})));
}

TEST_CASE("A bf16 weight follows updates far below its resolution", "[store]") {
  // each update is 1/16 of a unit in the last place: nearest rounding never moves, stochastic rounding does on average
  using T = Eigen::bfloat16;
  const Index n = 400;
  std::vector<T> nearest(std::size_t(n), T(1)), random(std::size_t(n), T(1));
  std::vector<float> block(std::size_t(n), 0);
  const float update = 0x1p-11f;
  for (std::uint64_t t = 0; t < 160; ++t)
    for (auto* w : {&nearest, &random}) {
      const linalg::Memory<void> memory{w->data(), Dtype::BF16, 1, n};
      linalg::load_block<K>(memory, 0, n, 0, 1, block.data(), n);
      for (float& x : block) x += update;
      linalg::store_block<K>(block.data(), n, memory, 0, n, 0, 1, {.stochastic = w == &random, .seed = 1, .step = t});
    }
  double mean = 0;
  for (Index i = 0; i < n; ++i) {
    CHECK(float(nearest[std::size_t(i)]) == 1);
    mean += double(random[std::size_t(i)]) / double(n);
  }
  CHECK(mean == Catch::Approx(1 + 160 * double(update)).epsilon(2e-3));
}
