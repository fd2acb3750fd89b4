// Codes of moments, and the steps of Adam on them, against formulas that are rounded operation by operation: whatever compiler, kernel
// set or machine made them, the codes are these. (tests/kernel/operations.cpp has what the codes mean.)
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "support/catch.hpp"

#include <lowrank/core/rng.hpp>
#include <lowrank/kernel/kernel.hpp>

using lowrank::Index;
namespace kernel = lowrank::kernel;

namespace {

template <class S, class K>
struct Case {
  using Scalar = S;
  using Kernel = K;
};
#define PORTABLE (Case<float, kernel::Portable>), (Case<double, kernel::Portable>)
#if LOWRANK_VECTOR_BYTES >= 64
#define CASES PORTABLE, (Case<float, kernel::Avx2>), (Case<double, kernel::Avx2>), (Case<float, kernel::Avx512>), (Case<double, kernel::Avx512>)
#elif LOWRANK_VECTOR_BYTES >= 32
#define CASES PORTABLE, (Case<float, kernel::Avx2>), (Case<double, kernel::Avx2>)
#else
#define CASES PORTABLE
#endif

/// What passes through is rounded to S and part of no fused operation.
template <class S>
S rounded(S x) {
  volatile S y = x;
  return y;
}

template <class S>
std::int8_t code_of_m(S m, S scale) {
  const S share = rounded<S>(std::abs(m) * (1 / std::max(scale, std::numeric_limits<S>::min())));
  const S q = std::nearbyint(rounded<S>(std::sqrt(share) * 127));
  return std::int8_t(m < 0 ? -q : q);
}
/// The number of b with b^4 + u ((b + 1)^4 - b^4) < y, counted.
template <class S>
std::uint8_t code_of_v(S v, S scale, std::uint16_t random) {
  if (!(v > 0)) return 0;
  const S top = S(4228250625.0), u = S(random) / 65536;
  const S share = rounded<S>(v * (1 / std::max(scale, std::numeric_limits<S>::min())));
  const S y = std::min(std::max(rounded<S>(share * top), S(1)), std::nextafter(top, S(0)));
  int b = 0;
  for (;; ++b) {
    const S h = S(b) + S(0.5), step = rounded<S>(h * (4 * h * h + 1)), power = rounded<S>(S(b * b) * S(b * b));
    if (!(rounded<S>(u * step) < y - power)) return std::uint8_t(b);
  }
}
template <class S>
S multiply_add(S a, S b, S c) {
#if defined(__FMA__)
  return std::fma(a, b, c);
#else
  return rounded<S>(a * b) + c;
#endif
}

/// A step of Adam, moments from b1 m and b2 v.
template <class S>
S step_of(S x, S& m, S& v, double beta1, double beta2, double eps) {
  m = multiply_add<S>(S(1 - beta1), x, m);
  v = multiply_add<S>(rounded<S>(S(1 - beta2) * x), x, v);
  return m / rounded<S>(std::sqrt(v) + S(eps));
}

std::uint16_t half(std::uint64_t seed, std::uint64_t stream, std::uint64_t e) {
  return std::uint16_t(lowrank::uniform_bits(seed, stream, e / 2) >> (e % 2 == 1 ? 16 : 0));
}

/// Numbers of all sizes, some zero, with a few bytes around them.
template <class S>
std::vector<S> numbers(Index n, unsigned seed, bool positive) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<double> size(-12, 0), sign(-1, 1);
  std::vector<S> x(std::size_t(n) + 8, S(7));
  for (Index i = 0; i < n; ++i) {
    const double s = sign(generator), y = std::exp(size(generator)) * (positive || s > 0 ? 1 : -1);
    x[std::size_t(i)] = std::abs(s) < 0.05 ? S(0) : S(y);
  }
  return x;
}

}  // namespace

TEMPLATE_TEST_CASE("Codes of 8 bits are the formulas' to the bit, next to a boundary as well", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  for (const S scale : {S(1), S(0.37), S(3e-30), std::numeric_limits<S>::min()}) {
    std::vector<S> m, v;
    std::vector<std::uint16_t> random;
    std::mt19937 generator(3);
    const auto add = [&](S x, S y) {
      for (const int u : {0, 1, 65535, int(generator() % 65536), int(generator() % 65536)})
        for (int near = -2; near <= 2; ++near) {
          S a = x, b = y;
          for (int i = 0; i < std::abs(near); ++i)
            a = std::nextafter(a, near < 0 ? S(0) : scale), b = std::nextafter(b, near < 0 ? S(0) : scale);
          m.push_back(generator() % 2 == 0 ? a : -a), v.push_back(b), random.push_back(std::uint16_t(u));
        }
    };
    for (int q = 0; q <= 255; ++q) {
      const double root = std::min(1.0, (q + 0.5) / 127), low = std::pow(q / 255.0, 4), high = std::pow((q + 1) / 255.0, 4), t = double(generator()) / 4294967296.0;
      add(S(root * root) * scale, S(low) * scale);
      add(S(t) * scale, std::min(S(low + t * (high - low)), S(1)) * scale);
    }
    while (m.size() % 128 != 0) m.push_back(scale), v.push_back(scale), random.push_back(9);
    std::vector<std::int8_t> q(m.size());
    std::vector<std::uint8_t> c(m.size());
    K::encode8(Index(m.size()), m.data(), v.data(), scale, scale, random.data(), q.data(), c.data());
    Index wrong = 0;
    for (std::size_t i = 0; i < m.size(); ++i) wrong += q[i] != code_of_m(m[i], scale) || c[i] != code_of_v(v[i], scale, random[i]);
    CAPTURE(scale, m.size());
    CHECK(wrong == 0);
  }
}

TEMPLATE_TEST_CASE("The largest of a block keeps the largest codes, whatever its size", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  std::mt19937 generator(4);
  std::uniform_real_distribution<double> size(-80, 80);
  for (int t = 0; t < 20000; ++t) {
    const S m = S(std::exp(size(generator))), v = S(std::exp(size(generator)));
    const std::vector<std::uint16_t> random(64, std::uint16_t(t % 2 == 0 ? 65535 : 0));
    std::int8_t q = 0;
    std::uint8_t c = 0;
    K::encode8(Index(1), &m, &v, m, v, random.data(), &q, &c);
    REQUIRE((q == 127 && c == 255));
  }
}

TEMPLATE_TEST_CASE("A step of Adam on codes: decoded, stepped and encoded block by block", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  const double beta1 = 0.9, beta2 = 0.99, eps = 1e-8;
  for (const Index n : {1, 2, 15, 16, 17, 63, 64, 65, 130, 255, 256, 257, 300, 511, 512, 700, 1025}) {
    const std::uint64_t first = std::uint64_t(8 * n);
    const Index blocks = (n + 255) / 256;
    const auto g = numbers<S>(n, 1, false);
    auto out = numbers<S>(n, 2, false), scales = numbers<S>(2 * blocks, 3, true);
    std::vector<std::int8_t> q(std::size_t(n) + 8, 7);
    std::vector<std::uint8_t> c(q.size(), 7);
    for (Index i = 0; i < n; ++i) q[std::size_t(i)] = std::int8_t(i * 37 % 255 - 127), c[std::size_t(i)] = std::uint8_t(i * 91 % 256);
    auto q_expected = q;
    auto c_expected = c;
    auto out_expected = out, scales_expected = scales;
    for (Index b = 0; b < blocks; ++b) {
      S& of_m = scales_expected[std::size_t(2 * b)];
      S& of_v = scales_expected[std::size_t(2 * b + 1)];
      const S one = S(double(S(beta1)) * double(of_m) / 16129), two = S(double(S(beta2)) * double(of_v) / 4228250625.0);
      std::vector<S> m(256), v(256);
      of_m = of_v = 0;
      for (Index i = 256 * b; i < std::min(n, 256 * b + 256); ++i) {
        const auto e = std::size_t(i), at = std::size_t(i % 256);
        const S w = S(q[e] * std::abs(q[e])), square = S(c[e] * c[e]);
        m[at] = rounded<S>(one * w), v[at] = rounded<S>(two * rounded<S>(square * square));
        out_expected[e] = step_of(g[e], m[at], v[at], beta1, beta2, eps);
        of_m = std::max(of_m, std::abs(m[at])), of_v = std::max(of_v, v[at]);
      }
      for (Index i = 256 * b; i < std::min(n, 256 * b + 256); ++i) {
        q_expected[std::size_t(i)] = code_of_m(m[std::size_t(i % 256)], of_m);
        c_expected[std::size_t(i)] = code_of_v(v[std::size_t(i % 256)], of_v, half(11, 5, first + std::uint64_t(i)));
      }
    }
    K::adam8(n, g.data(), q.data(), c.data(), scales.data(), out.data(), beta1, beta2, eps, 11, 5, first);
    CAPTURE(n);
    CHECK((out == out_expected && scales == scales_expected));
    CHECK((q == q_expected && c == c_expected));
  }
}

TEMPLATE_TEST_CASE("Runs apart are what each would be alone", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  const Index values = 272, codes = 512, runs = 3;
  const auto scales = numbers<S>(4 * runs, 3, true);
  for (const Index length : {Index(256), Index(72)}) {
    auto g = numbers<S>(values * runs, 1, false), expected = g;
    std::vector<std::int8_t> q(std::size_t(codes * runs));
    std::vector<std::uint8_t> c(q.size());
    for (std::size_t i = 0; i < q.size(); ++i) q[i] = std::int8_t(i * 37 % 255 - 127), c[i] = std::uint8_t(i * 91 % 256);
    auto q_expected = q;
    auto c_expected = c;
    auto scaled = scales, scaled_expected = scales;
    std::vector<std::uint16_t> m(q.size(), 0x3f80), v = m, m_expected = m, v_expected = v;
    if (length == 256) {
      for (Index b = 0; b < runs; ++b)
        K::adam8(length, expected.data() + b * values, q_expected.data() + b * codes, c_expected.data() + b * codes,
                 scaled_expected.data() + 4 * b, expected.data() + b * values, 0.9, 0.99, 1e-8, 11, 5, 64 + std::uint64_t(b * codes));
      K::adam8(runs * length, g.data(), q.data(), c.data(), scaled.data(), g.data(), 0.9, 0.99, 1e-8, 11, 5, 64, {length, values, codes});
      CHECK((g == expected && q == q_expected && c == c_expected && scaled == scaled_expected));
    }
    for (Index b = 0; b < runs; ++b)
      K::adam_bf16(length, expected.data() + b * values, m_expected.data() + b * codes, v_expected.data() + b * codes,
                   expected.data() + b * values, 0.9, 0.99, 1e-8, 11, 5, 64 + std::uint64_t(b * codes));
    K::adam_bf16(runs * length, g.data(), m.data(), v.data(), g.data(), 0.9, 0.99, 1e-8, 11, 5, 64, {length, values, codes});
    CHECK((g == expected && m == m_expected && v == v_expected));
  }
}

TEMPLATE_TEST_CASE("A step of Adam on moments in bf16, its direction in the gradient's place", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  const double beta1 = 0.9, beta2 = 0.99, eps = 1e-8;
  const auto narrow = [](S x, std::uint32_t u) { return std::uint16_t((std::bit_cast<std::uint32_t>(float(x)) + u) >> 16); };
  const auto wide = [](std::uint16_t x) { return S(std::bit_cast<float>(std::uint32_t(x) << 16)); };
  for (const Index n : {1, 2, 15, 16, 17, 63, 64, 65, 130, 300}) {
    auto g = numbers<S>(n, 1, false), expected = g, m0 = numbers<S>(n, 2, false), v0 = numbers<S>(n, 3, true);
    std::vector<std::uint16_t> m(std::size_t(n) + 8, 7), v = m;
    for (std::size_t i = 0; i < std::size_t(n); ++i) m[i] = narrow(m0[i], 0), v[i] = narrow(v0[i], 0);
    auto m_expected = m, v_expected = v;
    for (Index i = 0; i < n; ++i) {
      const auto e = std::size_t(i);
      const std::uint32_t u = half(11, 5, 64 + std::uint64_t(i));
      S first = rounded<S>(S(beta1) * wide(m[e])), second = rounded<S>(S(beta2) * wide(v[e]));
      expected[e] = step_of(g[e], first, second, beta1, beta2, eps);
      m_expected[e] = narrow(first, u);
      v_expected[e] = narrow(second, (u & 255) << 8 | u >> 8);
    }
    K::adam_bf16(n, g.data(), m.data(), v.data(), g.data(), beta1, beta2, eps, 11, 5, 64);
    CAPTURE(n);
    CHECK((g == expected && m == m_expected && v == v_expected));
  }
}
