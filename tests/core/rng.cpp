// The counter generator against its published known answers, the normals against libm and against their distribution.
#include <algorithm>
#include <cmath>
#include <vector>

#include <support/catch.hpp>

#include <lowrank/core/rng.hpp>

using namespace lowrank;

TEST_CASE("Philox4x32-10, known answers of its authors", "[rng]") {
  using Words = std::array<std::uint32_t, 4>;
  constexpr std::uint32_t ones = 0xffffffff;
  CHECK(philox({0, 0, 0, 0}, {0, 0}) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(philox({ones, ones, ones, ones}, {ones, ones}) == Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("Logarithm, sine and cosine are libm's to a few units in the last place", "[rng]") {
  double log_error = 0, turn_error = 0;
  const auto look = [&](std::uint32_t word) {
    const double u = (double(word) + 0.5) * 0x1p-32, angle = 2 * std::acos(-1.0) * double(word) * 0x1p-32;
    log_error = std::max(log_error, std::abs(detail::log_uniform(word) / std::log(u) - 1));
    const detail::CosSin t = detail::turn(word);
    turn_error = std::max({turn_error, std::abs(t.cos - std::cos(angle)), std::abs(t.sin - std::sin(angle))});
  };
  for (std::uint32_t i = 0; i < 300000; ++i) look(i * 2654435761u);
  for (std::uint32_t i = 0; i < 100; ++i) {
    for (std::uint32_t eighth = 0; eighth < 8; ++eighth) look((eighth << 29) - 50 + i);
    look(0xB504F333 - 50 + i);  // around sqrt(1/2), where the exponent changes
  }
  CHECK(log_error < 1e-14);
  CHECK(turn_error < 1e-14);
}

TEMPLATE_TEST_CASE("Any part of a stream has the values of the whole", "[rng]", float, double) {
  std::vector<TestType> whole(700);
  fill_normal(whole.data(), 700, 5, 9, 0);
  for (const Index first : {0, 1, 2, 3, 63, 64, 65, 399})
    for (const Index n : {0, 1, 2, 5, 64, 200}) {
      std::vector<TestType> part(std::size_t(n) + 1, TestType(77));
      fill_normal(part.data(), n, 5, 9, std::uint64_t(first));
      CHECK(std::equal(part.begin(), part.begin() + n, whole.begin() + first));
      CHECK(part.back() == TestType(77));
    }
}

TEST_CASE("Uniform words are the generator's, in order", "[rng]") {
  const auto block = philox({5, 0, 3, 1}, {7, 2});
  for (std::uint64_t i = 0; i < 4; ++i)
    CHECK(uniform_bits((std::uint64_t(2) << 32) + 7, (std::uint64_t(1) << 32) + 3, 20 + i) == block[i]);
}

TEST_CASE("Normals are normal, and streams and seeds independent", "[rng]") {
  const std::size_t n = 200000;
  std::vector<std::vector<double>> streams;
  for (const auto& [seed, stream] : {std::pair<std::uint64_t, std::uint64_t>{1, 0}, {1, 1}, {2, 0}, {1, std::uint64_t(1) << 40}}) {
    std::vector<double> x(n);
    fill_normal(x.data(), Index(n), seed, stream, 0);
    double mean = 0, square = 0, fourth = 0;
    for (const double v : x) mean += v, square += v * v, fourth += v * v * v * v;
    // five standard deviations of each estimate
    CHECK(std::abs(mean / double(n)) < 5 / std::sqrt(double(n)));
    CHECK(std::abs(square / double(n) - 1) < 5 * std::sqrt(2 / double(n)));
    CHECK(std::abs(fourth / double(n) - 3) < 5 * std::sqrt(96 / double(n)));
    auto sorted = x;
    std::sort(sorted.begin(), sorted.end());
    double distance = 0;  // Kolmogorov-Smirnov: exceeds 1.95 / sqrt(n) once in a thousand
    for (std::size_t i = 0; i < n; ++i) {
      const double cdf = 0.5 * std::erfc(-sorted[i] / std::sqrt(2.0));
      distance = std::max({distance, std::abs(cdf - double(i) / double(n)), std::abs(cdf - double(i + 1) / double(n))});
    }
    CHECK(distance < 1.95 / std::sqrt(double(n)));
    streams.push_back(std::move(x));
  }
  for (std::size_t a = 0; a < streams.size(); ++a)
    for (std::size_t b = 0; b < a; ++b)
      for (std::size_t lag = 0; lag < 3; ++lag) {
        double product = 0;
        for (std::size_t i = 0; i + lag < n; ++i) product += streams[a][i] * streams[b][i + lag];
        CHECK(std::abs(product / double(n)) < 5 / std::sqrt(double(n)));
      }
}
