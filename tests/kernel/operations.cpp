// Every operation of every kernel set this program is compiled for, against its formula in long double: sizes that end
// anywhere in a register, pointers of any alignment, nothing written beyond n, and the same bits wherever a number lies.
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
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
#if defined(LOWRANK_BF16)  // the other sets have their turn without
#define CASES (Case<float, kernel::Avx512Bf16>), (Case<double, kernel::Avx512Bf16>)
#elif LOWRANK_VECTOR_BYTES >= 64
#define CASES                                                                                               \
  (Case<float, kernel::Portable>), (Case<double, kernel::Portable>), (Case<float, kernel::Avx2>),           \
      (Case<double, kernel::Avx2>), (Case<float, kernel::Avx512>), (Case<double, kernel::Avx512>)
#elif LOWRANK_VECTOR_BYTES >= 32
#define CASES                                                                                               \
  (Case<float, kernel::Portable>), (Case<double, kernel::Portable>), (Case<float, kernel::Avx2>),           \
      (Case<double, kernel::Avx2>)
#else
#define CASES (Case<float, kernel::Portable>), (Case<double, kernel::Portable>)
#endif

using Real = long double;
constexpr Index largest = 67, guard = 16;

/// n values at an offset, a guard of a known value around them.
template <class S>
class Array {
 public:
  Array(Index n, Index offset, unsigned seed) : n_(n), offset_(guard + offset) {
    values_.assign(std::size_t(n + offset + 2 * guard), mark);
    std::mt19937 generator(seed);
    std::normal_distribution<double> normal;
    for (Index i = 0; i < n; ++i) (*this)[i] = S(normal(generator));
  }
  S* data() { return values_.data() + offset_; }
  S& operator[](Index i) { return values_[std::size_t(offset_ + i)]; }
  S operator[](Index i) const { return values_[std::size_t(offset_ + i)]; }
  void square() {
    for (Index i = 0; i < n_; ++i) (*this)[i] *= (*this)[i];
  }
  bool guarded() const {
    for (Index i = 0; i < Index(values_.size()); ++i)
      if ((i < offset_ || i >= offset_ + n_) && values_[std::size_t(i)] != mark) return false;
    return true;
  }
  bool same_bits(Index begin, const Array& other, Index other_begin, Index n) const {
    return std::memcmp(values_.data() + offset_ + begin, other.values_.data() + other.offset_ + other_begin,
                       std::size_t(n) * sizeof(S)) == 0;
  }

 private:
  static constexpr S mark = S(-77.25);
  Index n_, offset_;
  std::vector<S> values_;
};

/// Elementwise laws of one operation. run(n, arrays) applies it to three arrays; expected(i, arrays) gives for each the
/// exact value and the sum of the magnitudes added up, of which `ulps` epsilon are allowed.
struct Expected {
  Real value, size;
};

template <class S, class Run, class Expect>
void check_elementwise(double ulps, const Run& run, const Expect& expect) {
  using Arrays = std::array<Array<S>, 4>;
  const auto make = [](Index n, Index offset) {
    Arrays a{Array<S>(n, offset, 1), Array<S>(n, offset, 2), Array<S>(n, offset, 3), Array<S>(n, offset, 4)};
    a[2].square();
    return a;
  };
  const Real eps = std::numeric_limits<S>::epsilon();
  for (Index n = 0; n <= largest; ++n) {
    Arrays aligned = make(n, 0);
    run(n, aligned);
    for (Index offset = 0; offset < 4; ++offset) {
      const Arrays before = make(n, offset);
      Arrays after = before;
      run(n, after);
      for (const auto& array : after) REQUIRE(array.guarded());
      for (std::size_t k = 0; k < 4; ++k) REQUIRE(after[k].same_bits(0, aligned[k], 0, n));
      for (Index i = 0; i < n; ++i) {
        const std::array<Expected, 4> exact = expect(before[0][i], before[1][i], before[2][i], before[3][i]);
        for (std::size_t k = 0; k < 4; ++k) {
          CAPTURE(n, offset, i, k);
          REQUIRE(std::abs(Real(after[k][i]) - exact[k].value) <= Real(ulps) * eps * exact[k].size);
        }
      }
    }
    // the last element alone: the same bits as at the end of n
    if (n > 0) {
      Arrays one = make(n, 0);
      for (auto& array : one) array[0] = array[n - 1];
      run(1, one);
      for (std::size_t k = 0; k < 4; ++k) REQUIRE(one[k].same_bits(0, aligned[k], n - 1, 1));
    }
  }
}

Expected same(Real x) { return {x, 0}; }

}  // namespace

TEMPLATE_TEST_CASE("adam", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  const double beta1 = 0.9, beta2 = 0.997, epsilon = 1e-3;
  const Real b1 = S(beta1), c1 = S(1 - beta1), b2 = S(beta2), c2 = S(1 - beta2), e = S(epsilon);
  check_elementwise<S>(
      8, [&](Index n, auto& a) { K::adam(n, a[0].data(), a[1].data(), a[2].data(), a[3].data(), beta1, beta2, epsilon); },
      [&](Real g, Real m, Real v, Real) {
        const Real first = b1 * m + c1 * g, second = b2 * v + c2 * g * g, below = std::sqrt(second) + e;
        const Real size = std::abs(b1 * m) + std::abs(c1 * g);
        return std::array{same(g), Expected{first, size}, Expected{second, second}, Expected{first / below, size / below}};
      });
}

TEMPLATE_TEST_CASE("rmsprop", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  const Real b = S(0.9), c = S(1 - 0.9), e = S(1e-3);
  check_elementwise<S>(
      8, [&](Index n, auto& a) { K::rmsprop(n, a[0].data(), a[2].data(), a[3].data(), 0.9, 1e-3); },
      [&](Real g, Real m, Real v, Real) {
        const Real second = b * v + c * g * g, out = g / (std::sqrt(second) + e);
        return std::array{same(g), same(m), Expected{second, second}, Expected{out, std::abs(out)}};
      });
}

TEMPLATE_TEST_CASE("momentum", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  const Real mu = S(0.95), c = S(0.3);
  for (const bool nesterov : {false, true})
    check_elementwise<S>(
        3, [&](Index n, auto& a) { K::momentum(n, a[0].data(), a[1].data(), a[3].data(), 0.95, 0.3, nesterov); },
        [&](Real g, Real m, Real v, Real) {
          const Real first = mu * m + c * g, size = std::abs(mu * m) + std::abs(c * g);
          return std::array{same(g), Expected{first, size}, same(v),
                            nesterov ? Expected{g + mu * first, std::abs(g) + size} : Expected{first, size}};
        });
}

TEMPLATE_TEST_CASE("lion", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  const Real b1 = S(0.9), c1 = S(1 - 0.9), b2 = S(0.99), c2 = S(1 - 0.99);
  check_elementwise<S>(
      3, [&](Index n, auto& a) { K::lion(n, a[0].data(), a[1].data(), a[3].data(), 0.9, 0.99); },
      [&](Real g, Real m, Real v, Real) {
        const Real mix = b1 * m + c1 * g, near = 4 * Real(std::numeric_limits<S>::epsilon()) * (std::abs(m) + std::abs(g));
        const Expected direction{Real(mix > 0 ? 1 : -1), std::abs(mix) < near ? Real(1e30) : Real(0)};
        return std::array{same(g), Expected{b2 * m + c2 * g, std::abs(b2 * m) + std::abs(c2 * g)}, same(v), direction};
      });
}

TEMPLATE_TEST_CASE("the sign of zero is zero", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  S g[3] = {0, S(-0.0), 1}, m[3] = {0, S(-0.0), S(-9)}, out[3] = {5, 5, 5};
  K::lion(3, g, m, out, 0.5, 0.5);
  CHECK(out[0] == 0);
  CHECK(out[1] == 0);
  CHECK(out[2] == -1);
}

TEMPLATE_TEST_CASE("update", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  const Real step = S(0.01), before = S(0.9), after = S(1.25);
  check_elementwise<S>(
      3, [&](Index n, auto& a) { K::update(n, a[1].data(), a[0].data(), 0.01, 0.9, 1.25); },
      [&](Real u, Real w, Real v, Real x) {
        return std::array{same(u), Expected{after * (before * w - step * u), 2 * (std::abs(w) + std::abs(u))}, same(v),
                          same(x)};
      });
}

TEMPLATE_TEST_CASE("combine", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  const Real alpha = S(0.7), beta = S(-1.3);
  check_elementwise<S>(
      2, [&](Index n, auto& a) { K::combine(n, 0.7, a[0].data(), -1.3, a[1].data(), a[3].data()); },
      [&](Real x, Real y, Real v, Real) {
        return std::array{same(x), same(y), same(v),
                          Expected{alpha * x + beta * y, std::abs(alpha * x) + std::abs(beta * y)}};
      });
  check_elementwise<S>(  // in place
      2, [&](Index n, auto& a) { K::combine(n, 0.7, a[0].data(), -1.3, a[1].data(), a[1].data()); },
      [&](Real x, Real y, Real v, Real z) {
        return std::array{same(x), Expected{alpha * x + beta * y, std::abs(alpha * x) + std::abs(beta * y)}, same(v),
                          same(z)};
      });
  check_elementwise<S>(  // beta = 0: y is not read
      1, [&](Index n, auto& a) { K::combine(n, 0.7, a[0].data(), 0.0, static_cast<const S*>(nullptr), a[3].data()); },
      [&](Real x, Real y, Real v, Real) { return std::array{same(x), same(y), same(v), Expected{alpha * x, std::abs(x)}}; });
}

TEMPLATE_TEST_CASE("multiply", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  check_elementwise<S>(
      1, [&](Index n, auto& a) { K::multiply(n, a[0].data(), a[1].data(), a[3].data()); },
      [&](Real x, Real y, Real v, Real) { return std::array{same(x), same(y), same(v), Expected{x * y, std::abs(x * y)}}; });
}

TEMPLATE_TEST_CASE("sums", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  const Real eps = std::numeric_limits<S>::epsilon();
  for (Index n = 0; n <= 1100; n += n < largest ? 1 : 103) {
    CAPTURE(n);
    const double squares = K::sum_squares(n, Array<S>(n, 0, 9).data()), sizes = K::sum_abs(n, Array<S>(n, 0, 9).data());
    for (Index offset = 0; offset < 4; ++offset) {
      Array<S> x(n, offset, 9);
      REQUIRE(K::sum_squares(n, x.data()) == squares);
      REQUIRE(K::sum_abs(n, x.data()) == sizes);
      Real square = 0, size = 0;
      for (Index i = 0; i < n; ++i) {
        square += Real(x[i]) * Real(x[i]);
        size += std::abs(Real(x[i]));
      }
      REQUIRE(std::abs(Real(squares) - square) <= 40 * eps * square);
      REQUIRE(std::abs(Real(sizes) - size) <= 40 * eps * size);
    }
  }
  std::vector<S> huge(100, std::numeric_limits<S>::max() / 4);
  CHECK_FALSE(std::isfinite(K::sum_squares(100, huge.data())));
}

TEMPLATE_TEST_CASE("scores per element", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  for (Index n = 0; n <= largest; ++n)
    for (Index offset = 0; offset < 4; ++offset) {
      Array<S> x(n, offset, 9);
      Array<double> sizes(n, offset, 10), squares = sizes;
      const Array<double> before = sizes;
      K::add_abs(n, x.data(), sizes.data());
      K::add_squares(n, x.data(), squares.data());
      REQUIRE((sizes.guarded() && squares.guarded()));
      for (Index i = 0; i < n; ++i) {
        const double value = double(x[i]);
        REQUIRE(sizes[i] == before[i] + std::abs(value));
        REQUIRE(std::abs(squares[i] - (before[i] + value * value)) <= 1e-15 * (std::abs(before[i]) + value * value));
      }
    }
}

TEMPLATE_TEST_CASE("transpose", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  for (Index rows = 0; rows <= 35; ++rows)
    for (Index cols = 0; cols <= 35; ++cols) {
      const Index lds = rows + 3, ldd = cols + 1;
      Array<S> from(lds * 35, rows % 4, 11), to(ldd * rows, cols % 4, 12);
      const Array<S> before = to;
      K::transpose(rows, cols, from.data(), lds, to.data(), ldd);
      REQUIRE(to.guarded());
      for (Index i = 0; i < rows; ++i)
        for (Index j = 0; j < ldd; ++j)
          REQUIRE(to[j + i * ldd] == (j < cols ? from[i + j * lds] : before[j + i * ldd]));
    }
}

namespace {

template <int registers, class S, class K>
void check_tile() {
  constexpr Index m = registers * K::template lanes<S>, n = K::tile_cols, ldc = m + 5;
  const Real eps = std::numeric_limits<S>::epsilon();
  for (Index depth : {0, 1, 2, 7, 64, 67, 256})
    for (const auto& [bk, bj] : {std::pair<Index, Index>{1, depth + 3}, {n + 2, 1}})
      for (Index offset = 0; offset < 4; ++offset) {
        Array<S> a(m * depth, offset, 1), b((depth + 3) * (n + 2), offset, 2), c(ldc * (n - 1) + m, offset, 3);
        const Array<S> before = c;
        for (const bool accumulate : {false, true}) {
          c = before;
          K::template gemm_tile<registers>(depth, a.data(), b.data(), bk, bj, c.data(), ldc, accumulate);
          REQUIRE(c.guarded());
          for (Index j = 0; j < n; ++j)
            for (Index i = 0; i < (j + 1 < n ? ldc : m); ++i) {
              if (i >= m) {
                REQUIRE(c[i + j * ldc] == before[i + j * ldc]);
                continue;
              }
              Real sum = accumulate ? Real(before[i + j * ldc]) : 0, size = std::abs(sum);
              for (Index p = 0; p < depth; ++p) {
                const Real term = Real(a[i + p * m]) * Real(b[p * bk + j * bj]);
                sum += term;
                size += std::abs(term);
              }
              REQUIRE(std::abs(Real(c[i + j * ldc]) - sum) <= Real(depth + 2) * eps * size);
            }
        }
      }
}

}  // namespace

TEMPLATE_TEST_CASE("gemm_tile", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  check_tile<1, S, K>();
  check_tile<2, S, K>();
}

namespace {

/// W after an update by U, and the gradient if there is one, in long double; and how large its terms were.
struct Moved {
  Real value, size;
};
Moved moved(Real w, Real u, Real g, Real phi, const kernel::Motion<Real>& x) {
  const Real all = u + phi * (x.scale * g);
  return {x.after * (x.before * w - x.step * all), std::abs(w) + std::abs(u) + std::abs(phi * g)};
}

template <int registers, class S, class K>
void check_update_tile() {
  constexpr Index m = registers * K::template lanes<S>, n = K::tile_cols, ldw = m + 3, ldg = m + 6;
  const Real eps = std::numeric_limits<S>::epsilon();
  const kernel::Motion<S> motion{S(0.5), S(0.9), S(1.25), S(0.75)};
  const kernel::Motion<Real> exact{motion.step, motion.before, motion.after, motion.scale};
  for (Index depth : {0, 1, 7, 67})
    for (Index offset = 0; offset < 4; ++offset)
      for (int form = 0; form < 6; ++form) {  // with and without a partial sum; no gradient, phi per column, phi per row
        Array<S> a(m * depth, offset, 1), b(depth * n, offset, 2), w(ldw * (n - 1) + m, offset, 3), g(ldg * n, offset, 4);
        Array<S> phi(std::max(m, n), offset, 5), partial(m * n, offset, 6), u(m * n, 0, 7), expected = w;
        const bool earlier = form % 2 == 1, adds = form >= 2, per_row = form >= 4;
        const Array<S> before = w;
        const kernel::Target<S> to{w.data(), ldw, adds ? g.data() : nullptr, ldg, phi.data(), per_row};
        K::template update_tile<registers>(depth, a.data(), b.data(), n, 1, earlier ? partial.data() : nullptr, to, motion);
        REQUIRE(w.guarded());
        // the same in two steps, to the bit: the product, then move() for each column
        if (earlier) std::memcpy(u.data(), partial.data(), std::size_t(m * n) * sizeof(S));
        K::template gemm_tile<registers>(depth, a.data(), b.data(), n, 1, u.data(), m, earlier);
        for (Index j = 0; j < n; ++j) {
          const kernel::Target<S> column{expected.data() + j * ldw, ldw, adds ? g.data() + j * ldg : nullptr, ldg,
                                         phi.data() + (per_row ? 0 : j), per_row};
          K::move(m, u.data() + j * m, column, motion);
        }
        REQUIRE(w.same_bits(0, expected, 0, ldw * (n - 1) + m));
        for (Index j = 0; j < n; ++j)
          for (Index i = 0; i < m; ++i) {
            const Moved exactly = moved(before[i + j * ldw], u[i + j * m], adds ? g[i + j * ldg] : S(0), phi[per_row ? i : j], exact);
            REQUIRE(std::abs(Real(w[i + j * ldw]) - exactly.value) <= 6 * eps * exactly.size);
          }
      }
}

}  // namespace

TEMPLATE_TEST_CASE("update_tile", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  check_update_tile<1, S, K>();
  check_update_tile<2, S, K>();
}

TEMPLATE_TEST_CASE("move", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  const kernel::Motion<S> motion{S(0.01), S(0.9), S(1.25), S(0.75)};
  const kernel::Motion<Real> exact{motion.step, motion.before, motion.after, motion.scale};
  for (int form = 0; form < 5; ++form) {  // u alone; g alone, u and g, with one factor or one for each
    const bool adds = form > 0, has_u = form % 2 == 0, each = form > 2;
    check_elementwise<S>(
        6,
        [&](Index n, auto& a) {
          if (!adds || each || n == 0)
            return K::move(n, has_u ? a[0].data() : nullptr, {a[3].data(), n, adds ? a[1].data() : nullptr, n, a[2].data(), each}, motion);
          const S factor = S(0.3);
          K::move(n, has_u ? a[0].data() : nullptr, {a[3].data(), n, a[1].data(), n, &factor, false}, motion);
        },
        [&](Real u, Real g, Real phi, Real w) {
          const Moved m = moved(w, has_u ? u : 0, adds ? g : 0, each ? phi : Real(S(0.3)), exact);
          return std::array{same(u), same(g), same(phi), Expected{m.value, m.size}};
        });
  }
}

TEMPLATE_TEST_CASE("stage_rows and group_squares: rows side by side, and their columns' sums of squares to the bit", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  constexpr Index cols = K::tile_cols, L = K::template lanes<S>;
  for (Index m : {0, 1, 2, 3, 5, 7, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 67, 255, 256})
    for (Index n : {1, 3, 4, 8, 15, 16, 17, 64, 67}) {
      const Index stride = n + 3, wide = (n + L - 1) / L * L, groups = (std::max(wide, n) + cols - 1) / cols;
      Array<S> x(m * stride, n % 4, 1), out(groups * K::group_stride(m), m % 4, 2);
      K::stage_rows(m, n, x.data(), stride, out.data());
      REQUIRE(out.guarded());
      for (Index j0 = 0; j0 < n; j0 += cols) {
        const S* group = out.data() + j0 / cols * K::group_stride(m);
        std::vector<double> squares(std::size_t(cols), 1.0);
        K::group_squares(m, group, squares.data());
        for (Index j = j0; j < std::min(n, j0 + cols); ++j) {
          std::vector<S> column;
          for (Index i = 0; i < m; ++i) {
            REQUIRE(group[i * cols + j - j0] == x[i * stride + j]);
            column.push_back(x[i * stride + j]);
          }
          REQUIRE(squares[std::size_t(j - j0)] == 1.0 + K::sum_squares(m, column.data()));
        }
        for (Index j = n; j < std::min(wide, j0 + cols); ++j)
          for (Index i = 0; i < m; ++i) REQUIRE(group[i * cols + j - j0] == 0);
      }
    }
}

TEMPLATE_TEST_CASE("squares of columns that lie in rows are those of columns, to the bit", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  for (const Index m : {1, 2, 15, 16, 17, 31, 32, 33, 64, 67, 100, 255, 256})
    for (const Index n : {1, 3, 16, 65, 128, 131, 300}) {
      const Index stride = n + 5;
      const Array<S> x(m * stride, 1, unsigned(m));
      std::vector<double> squares(std::size_t(n) + 1, 0.5);
      K::column_squares(m, n, Array<S>(x).data(), stride, squares.data());
      REQUIRE(squares.back() == 0.5);
      for (Index j = 0; j < n; ++j) {
        std::vector<S> column(static_cast<std::size_t>(m));
        for (Index i = 0; i < m; ++i) column[std::size_t(i)] = x[i * stride + j];
        REQUIRE(squares[std::size_t(j)] == 0.5 + K::sum_squares(m, column.data()));
      }
    }
}

TEMPLATE_TEST_CASE("a transpose that is written past the caches is the transpose", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  for (const auto& [m, n] : {std::pair<Index, Index>{1, 1}, {40, 33}, {130, 70}, {300, 128}, {128, 257}})
    for (const Index offset : {0, 1})
      for (const Index padding : {0, 3}) {
        const Index lds = m + 2, ldd = (n + 15) / 16 * 16 + padding;
        Array<S> src(lds * n, 1, 3);
        std::vector<S> memory(std::size_t(ldd * m + 80), S(-5));
        S* dst = memory.data();
        while (reinterpret_cast<std::uintptr_t>(dst) % 64 != 0) ++dst;
        dst += offset;
        K::transpose_past(m, n, src.data(), lds, dst, ldd);
        Index wrong = 0;
        for (Index i = 0; i < m; ++i)
          for (Index j = 0; j < ldd; ++j) wrong += dst[i * ldd + j] != (j < n ? src[i + j * lds] : S(-5));
        REQUIRE(wrong == 0);
      }
}

TEMPLATE_TEST_CASE("random halves are the halves of the generator's words", "", CASES) {
  using K = typename TestType::Kernel;
  for (const std::uint64_t first : {std::uint64_t(0), std::uint64_t(64), (std::uint64_t(1) << 35) + 8})
    for (Index n = 1; n <= largest; ++n) {
      std::vector<std::uint16_t> random(std::size_t(n + 63) / 64 * 64);
      K::random_halves(n, 0x123456789AB, (std::uint64_t(1) << 40) + 5, first, random.data());
      for (Index i = 0; i < n; ++i) {
        const std::uint64_t e = first + std::uint64_t(i);
        const std::uint32_t word = lowrank::uniform_bits(0x123456789AB, (std::uint64_t(1) << 40) + 5, e / 2);
        REQUIRE(random[std::size_t(i)] == std::uint16_t(e % 2 == 1 ? word >> 16 : word));
      }
    }
}

TEMPLATE_TEST_CASE("codes of 8 bits: the formulas, the same in every kernel set", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  std::vector<std::uint16_t> random(128);
  K::random_halves(Index(128), 5, 7, 0, random.data());
  for (Index n = 0; n <= largest; ++n)
    for (Index offset = 0; offset < 4; ++offset) {
      Array<S> m(n, offset, 1), v(n, offset, 2), m_back(n, offset, 3), v_back(n, offset, 4), m_other = m_back, v_other = v_back;
      v.square();
      if (n > 5) m[3] = v[4] = 0, v[5] = S(1e-30);
      S of_m = -1, of_v = -1;
      K::largest(n, m.data(), v.data(), of_m, of_v);
      Real most_m = 0, most_v = 0;
      for (Index i = 0; i < n; ++i) most_m = std::max(most_m, std::abs(Real(m[i]))), most_v = std::max(most_v, Real(v[i]));
      REQUIRE((Real(of_m) == most_m && Real(of_v) == most_v));
      std::vector<std::int8_t> q(std::size_t(n) + 8, 77), q_other = q;
      std::vector<std::uint8_t> c(std::size_t(n) + 8, 77), c_other = c;
      K::encode8(n, m.data(), v.data(), of_m, of_v, random.data(), q.data() + offset, c.data() + offset);
      kernel::Portable::encode8(n, m.data(), v.data(), of_m, of_v, random.data(), q_other.data() + offset, c_other.data() + offset);
      REQUIRE((q == q_other && c == c_other));
      K::decode8(n, q.data() + offset, c.data() + offset, of_m, of_v, m_back.data(), v_back.data());
      kernel::Portable::decode8(n, q.data() + offset, c.data() + offset, of_m, of_v, m_other.data(), v_other.data());
      REQUIRE((m_back.guarded() && v_back.guarded()));
      REQUIRE((m_back.same_bits(0, m_other, 0, n) && v_back.same_bits(0, v_other, 0, n)));
      for (Index i = 0; i < Index(q.size()); ++i) {
        CAPTURE(n, offset, i);
        if (i < offset || i >= offset + n) {
          REQUIRE((q[std::size_t(i)] == 77 && c[std::size_t(i)] == 77));
          continue;
        }
        const Index e = i - offset;
        const Real code = q[std::size_t(i)], root = 127 * std::sqrt(std::abs(Real(m[e])) / most_m), upper = c[std::size_t(i)];
        REQUIRE((code == 0 || (code < 0) == (m[e] < 0)));
        REQUIRE(std::abs(std::abs(code) - root) <= Real(0.5001));
        const Real fourth = 255 * std::pow(Real(v[e]) / most_v, Real(0.25));
        REQUIRE((upper == 0) == (v[e] == 0));
        REQUIRE((upper <= std::max(Real(1), fourth + Real(1.001)) && upper >= fourth - Real(1.001)));
        const Real eps = 8 * Real(std::numeric_limits<S>::epsilon());
        REQUIRE(std::abs(Real(m_back[e]) - most_m * code * std::abs(code) / (127 * 127)) <= eps * most_m);
        REQUIRE(std::abs(Real(v_back[e]) - most_v * std::pow(upper / 255, 4)) <= eps * Real(v_back[e]));
      }
    }
}

TEMPLATE_TEST_CASE("codes of 8 bits are right on average", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  const std::vector<S> m(64, S(0.5));
  std::vector<S> v(64, S(0.3)), back(64), m_back(64);
  v[0] = 1;
  std::vector<std::uint16_t> random(64);
  std::vector<std::int8_t> q(64);
  std::vector<std::uint8_t> c(64);
  double mean = 0;
  for (std::uint64_t t = 0; t < 400; ++t) {
    K::random_halves(Index(64), 5, t, 0, random.data());
    K::encode8(Index(64), m.data(), v.data(), S(0.5), S(1), random.data(), q.data(), c.data());
    K::decode8(Index(64), q.data(), c.data(), S(0.5), S(1), m_back.data(), back.data());
    for (std::size_t i = 1; i < 64; ++i) mean += double(back[i]) / (400 * 63);
  }
  CHECK(std::abs(mean / 0.3 - 1) < 2e-4);  // neighbours are 2 % apart: four deviations
}

TEMPLATE_TEST_CASE("codes of 16 bits: one of the two neighbours, the same in every kernel set, right on average", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  std::vector<std::uint16_t> random(128);
  for (Index n = 0; n <= largest; ++n)
    for (const bool turn : {false, true}) {
      K::random_halves(Index(128), 5, std::uint64_t(n), 0, random.data());
      Array<S> x(n, n % 4, 1), back(n, n % 4, 2);
      if (n > 2) x[1] = 0, x[2] = std::numeric_limits<S>::max();
      std::vector<std::uint16_t> code(std::size_t(n) + 2, 77), other = code;
      K::encode_bf16(n, x.data(), random.data(), turn, code.data() + 1);
      kernel::Portable::encode_bf16(n, x.data(), random.data(), turn, other.data() + 1);
      REQUIRE(code == other);
      REQUIRE((code.front() == 77 && code.back() == 77));
      K::decode_bf16(n, code.data() + 1, back.data());
      REQUIRE(back.guarded());
      for (Index i = 0; i < n; ++i) {
        const Real value = std::min(Real(x[i]), Real(3.3e38f));
        REQUIRE(std::abs(Real(back[i]) - value) <= std::abs(value) / 128);
        if (x[i] == 0) REQUIRE(back[i] == 0);
      }
    }
  const S value = S(1.003);
  double mean = 0;
  for (std::uint64_t t = 0; t < 20000; ++t) {
    K::random_halves(Index(1), 5, t, 0, random.data());
    std::uint16_t code[2];
    S back[2];
    for (const bool turn : {false, true}) K::encode_bf16(Index(1), &value, random.data(), turn, code + turn);
    K::decode_bf16(Index(2), code, back);
    mean += (double(back[0]) + double(back[1])) / 40000;
  }
  CHECK(std::abs(mean - 1.003) < 1e-4);
}
