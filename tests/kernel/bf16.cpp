// bf16 numbers in pairs, in every kernel set this program is compiled for: how floats become pairs, and products of pairs with float sums,
// against their formula in long double and against the portable set, to the bit. Sizes that end anywhere in a register, any alignment.
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include <Eigen/Core>

#include "support/catch.hpp"

#include <lowrank/kernel/kernel.hpp>

using lowrank::Index;
namespace kernel = lowrank::kernel;
using kernel::Bf16Pair;

namespace {

#if defined(LOWRANK_BF16)
#define SETS kernel::Portable, kernel::Avx2, kernel::Avx512, kernel::Avx512Bf16
#elif LOWRANK_VECTOR_BYTES >= 64
#define SETS kernel::Portable, kernel::Avx2, kernel::Avx512
#elif LOWRANK_VECTOR_BYTES >= 32
#define SETS kernel::Portable, kernel::Avx2
#else
#define SETS kernel::Portable
#endif

using Real = long double;
constexpr Index largest = 67, guard = 8;
constexpr Bf16Pair mark = 0x12345678;

std::uint32_t rounded(float x) { return Eigen::numext::bit_cast<std::uint16_t>(Eigen::bfloat16_impl::float_to_bfloat16_rtne<false>(x).value); }
/// Numbers below 2^-126 may become zero.
bool same(Bf16Pair got, Bf16Pair expected) {
  const auto one = [](std::uint32_t x, std::uint32_t y) { return x == y || ((y & 0x7f80) == 0 && x == (y & 0x8000)); };
  return one(got & 0xffff, expected & 0xffff) && one(got >> 16, expected >> 16);
}
Bf16Pair pair_of(float first, float second) { return rounded(first) | rounded(second) << 16; }
float widened(std::uint32_t bits) { return std::bit_cast<float>(bits << 16); }
std::array<float, 2> numbers(Bf16Pair x) { return {widened(x & 0xffff), widened(x >> 16)}; }

std::vector<float> floats(Index n, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& value : x) value = normal(generator);
  return x;
}
/// Ordinary numbers, and those whose rounding is something special.
std::vector<float> awkward(Index n, unsigned seed) {
  std::vector<float> x = floats(n, seed);
  const float special[] = {0.0f, -0.0f, std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                           std::numeric_limits<float>::max(), 1 + 1 / 256.0f, 1 + 3 / 256.0f, 1e-40f, -1e-45f, 3.3895e38f};
  for (std::size_t i = seed % 3; i < x.size(); i += 3) x[i] = special[i / 3 % std::size(special)];
  return x;
}
std::vector<Bf16Pair> random_pairs(Index n, unsigned seed) {
  const std::vector<float> x = floats(2 * n, seed);
  std::vector<Bf16Pair> out;
  for (Index i = 0; i < n; ++i) out.push_back(pair_of(x[std::size_t(2 * i)], x[std::size_t(2 * i + 1)]));
  return out;
}

/// Room for n pairs at an offset, a guard of a known value around them.
struct Room {
  Index n, offset;
  std::vector<Bf16Pair> values;
  Room(Index count, Index at) : n(count), offset(guard + at), values(std::size_t(count + at + 2 * guard), mark) {}
  Bf16Pair* data() { return values.data() + offset; }
  Bf16Pair operator[](Index i) const { return values[std::size_t(offset + i)]; }
  bool guarded() const {
    for (Index i = 0; i < Index(values.size()); ++i)
      if ((i < offset || i >= offset + n) && values[std::size_t(i)] != mark) return false;
    return true;
  }
};

}  // namespace

TEMPLATE_TEST_CASE("floats become pairs of bf16 numbers, rounded to nearest even", "", SETS) {
  using K = TestType;
  constexpr Index cols = K::tile_cols;
  for (Index n = 0; n <= largest; ++n)
    for (Index offset = 0; offset < 4; ++offset) {
      CAPTURE(n, offset);
      // two arrays
      const std::vector<float> x = awkward(n + offset, 1), y = awkward(n + offset, 2);
      Room out(n, offset);
      K::pair(n, x.data() + offset, y.data() + offset, out.data());
      REQUIRE(out.guarded());
      for (Index i = 0; i < n; ++i) REQUIRE(same(out[i], pair_of(x[std::size_t(offset + i)], y[std::size_t(offset + i)])));
      // columns, n deep: three of them in a larger array
      const Index ld = n + 5, pairs = (n + 1) / 2, ldp = pairs + 1;
      const std::vector<float> matrix = awkward(offset + 3 * ld, 3);
      Room columns(3 * ldp, offset);
      K::pair_columns(n, 3, matrix.data() + offset, ld, columns.data(), ldp);
      REQUIRE(columns.guarded());
      for (Index j = 0; j < 3; ++j) {
        const auto at = [&](Index p) { return p < n ? matrix[std::size_t(offset + p + j * ld)] : 0.0f; };
        for (Index p = 0; p < pairs; ++p) REQUIRE(same(columns[p + j * ldp], pair_of(at(2 * p), at(2 * p + 1))));
        REQUIRE(columns[pairs + j * ldp] == mark);
      }
      // a group of rows, n of them
      const std::vector<float> group = awkward(offset + n * cols, 4);
      Room rows(pairs * cols, offset);
      K::pair_rows(n, group.data() + offset, rows.data());
      REQUIRE(rows.guarded());
      for (Index q = 0; q < cols; ++q) {
        const auto at = [&](Index p) { return p < n ? group[std::size_t(offset + p * cols + q)] : 0.0f; };
        for (Index p = 0; p < pairs; ++p) REQUIRE(same(rows[p * cols + q], pair_of(at(2 * p), at(2 * p + 1))));
      }
    }
  // NaN of any kind stays one
  for (const std::uint32_t bits : {0x7fc00000u, 0xffc00000u, 0x7f800001u, 0xff800001u, 0x7fffffffu, 0xffffffffu}) {
    const float x = std::bit_cast<float>(bits), zero = 0;
    Bf16Pair out = 0;
    K::pair(1, &x, &zero, &out);
    REQUIRE((out & 0x7f80) == 0x7f80);
    REQUIRE((out & 0x7f) != 0);
    REQUIRE(out >> 16 == 0);
  }
}

namespace {

template <int registers, class K>
void check_tile() {
  constexpr Index m = registers * K::template lanes<float>, n = K::tile_cols, ldc = m + 3;
  const Real eps = std::numeric_limits<float>::epsilon();
  for (Index depth = 0; depth <= largest; ++depth)
    for (Index offset = 0; offset < 4; ++offset)
      for (const bool rows : {false, true})
        for (const bool accumulate : {false, true}) {
          CAPTURE(depth, offset, rows, accumulate);
          const Index bk = rows ? n + 1 : 1, bj = rows ? 1 : depth + 1;
          const std::vector<Bf16Pair> a = random_pairs(m * depth + offset, 1), b = random_pairs((n + 1) * (depth + 1) + offset, 2);
          const std::vector<float> before = floats(ldc * n + offset, 3);
          std::vector<float> c = before;
          K::template gemm_tile<registers>(depth, a.data() + offset, b.data() + offset, bk, bj, c.data() + offset, ldc, accumulate);
          for (Index e = 0; e < Index(c.size()); ++e) {
            const Index i = (e - offset) % ldc, j = (e - offset) / ldc;
            if (e < offset || i >= m) {
              REQUIRE(c[std::size_t(e)] == before[std::size_t(e)]);
              continue;
            }
            Real sum = 0, size = 0;
            float chain = 0;  // second numbers first, each fused: a product is exact, so rounded once at the addition
            for (Index p = 0; p < depth; ++p) {
              const auto x = numbers(a[std::size_t(offset + i + p * m)]), y = numbers(b[std::size_t(offset + p * bk + j * bj)]);
              sum += Real(x[0]) * Real(y[0]) + Real(x[1]) * Real(y[1]);
              size += std::abs(Real(x[0]) * Real(y[0])) + std::abs(Real(x[1]) * Real(y[1]));
              chain = std::fma(x[0], y[0], std::fma(x[1], y[1], chain));
            }
            if (accumulate) {
              sum += Real(before[std::size_t(e)]), size += std::abs(Real(before[std::size_t(e)]));
              chain = before[std::size_t(e)] + chain;
            }
            REQUIRE(std::abs(Real(c[std::size_t(e)]) - sum) <= Real(2 * depth + 1) * eps / 2 * size);
            REQUIRE(c[std::size_t(e)] == chain);  // the same in every kernel set
          }
        }
}

}  // namespace

TEMPLATE_TEST_CASE("gemm_tile of pairs", "", SETS) {
  check_tile<1, TestType>();
  check_tile<2, TestType>();
}

namespace {

template <int registers, class K>
void check_update_tile() {
  constexpr Index m = registers * K::template lanes<float>, n = K::tile_cols, ldw = m + 3, ldg = m + 6;
  const kernel::Motion<float> motion{0.5f, 0.9f, 1.25f, 0.75f};
  for (Index depth : {0, 1, 7, 67})
    for (Index offset = 0; offset < 4; ++offset)
      for (int form = 0; form < 6; ++form) {  // with and without a partial sum; no gradient, phi per column, phi per row
        const bool earlier = form % 2 == 1, adds = form >= 2, per_row = form >= 4;
        const std::vector<Bf16Pair> a = random_pairs(m * depth + offset, 1), b = random_pairs(depth * n + offset, 2);
        const std::vector<float> g = floats(ldg * n, 4), phi = floats(std::max(m, n), 5), partial = floats(m * n, 6);
        std::vector<float> w = floats(ldw * n + offset, 3), expected = w, u = partial;
        const kernel::Target<float> to{w.data() + offset, ldw, adds ? g.data() : nullptr, ldg, phi.data(), per_row};
        K::template update_tile<registers>(depth, a.data() + offset, b.data() + offset, n, 1, earlier ? partial.data() : nullptr, to, motion);
        // the same in two steps, to the bit: the product, then move() for each column
        K::template gemm_tile<registers>(depth, a.data() + offset, b.data() + offset, n, 1, u.data(), m, earlier);
        for (Index j = 0; j < n; ++j)
          K::move(m, u.data() + j * m, {expected.data() + offset + j * ldw, ldw, adds ? g.data() + j * ldg : nullptr, ldg,
                                        phi.data() + (per_row ? 0 : j), per_row}, motion);
        REQUIRE(w == expected);
      }
}

}  // namespace

TEMPLATE_TEST_CASE("update_tile of pairs", "", SETS) {
  check_update_tile<1, TestType>();
  check_update_tile<2, TestType>();
}

TEMPLATE_TEST_CASE("what lies below 2^-126 may count as zero, in numbers and in sums, and nothing else does", "", SETS) {
  using K = TestType;
  constexpr Index m = K::template lanes<float>, n = K::tile_cols;
  const float tiny = std::numeric_limits<float>::min();
  struct Try {
    float a, b, exact, flushed;
  };
  // a number below 2^-126; a sum below it; numbers and a sum that are just not; not finite
  const float inf = std::numeric_limits<float>::infinity();
  for (const Try& t : {Try{tiny / 2, 0x1p100f, 0x1p-27f, 0}, {0x1p-70f, 0x1p-60f, 0x1p-130f, 0}, {tiny, 1, tiny, tiny},
                       {0x1p-63f, 0x1p-63f, tiny, tiny}, {inf, 2, inf, inf}, {0x1p100f, 0x1p100f, inf, inf}}) {
    const std::vector<Bf16Pair> a(std::size_t(m), pair_of(t.a, 0)), b(std::size_t(n), pair_of(t.b, 0));
    std::vector<float> c(std::size_t(m * n));
    K::template gemm_tile<1>(Index(1), a.data(), b.data(), n, 1, c.data(), m, false);
    for (const float x : c) REQUIRE((x == t.exact || x == t.flushed));
  }
  const std::vector<Bf16Pair> a(std::size_t(m), pair_of(inf, 0)), b(std::size_t(n), 0);
  std::vector<float> c(std::size_t(m * n));
  K::template gemm_tile<1>(Index(1), a.data(), b.data(), n, 1, c.data(), m, false);
  for (const float x : c) REQUIRE(x != x);
}
