#include <cstring>
#include <limits>

#include "linalg/workspace.hpp"
#include "support/catch.hpp"
#include "support/malloc_counter.hpp"

#include <lowrank/linalg/packed_basis.hpp>

using namespace lowrank_test;
using namespace lowrank::linalg;
namespace kernel = lowrank::kernel;

namespace {

template <class S, class K>
struct Case {
  using Scalar = S;
  using Kernel = K;
};
#if LOWRANK_VECTOR_BYTES >= 64
#define CASES (Case<float, kernel::Best>), (Case<double, kernel::Best>), (Case<float, kernel::Avx2>), (Case<float, kernel::Portable>)
#else
#define CASES (Case<float, kernel::Best>), (Case<double, kernel::Best>), (Case<float, kernel::Portable>)
#endif

/// One matrix in four layouts: column-major, row-major, and each inside a larger array at an odd offset.
template <class S, class K>
class Layouts {
 public:
  Layouts(Index rows, Index cols, unsigned seed) : rows_(rows), cols_(cols), values_(random_matrix<S>(rows, cols, seed)) {
    for (int layout = 0; layout < 4; ++layout) {
      auto& copy = copies_[layout];
      copy.assign(std::size_t((rows + 5) * (cols + 5) + 3), std::numeric_limits<S>::quiet_NaN());
      for (Index j = 0; j < cols; ++j)
        for (Index i = 0; i < rows; ++i) copy[std::size_t(at(layout, i, j))] = (*this)(i, j);
    }
  }
  S operator()(Index i, Index j) const { return values_[std::size_t(i + j * rows_)]; }
  Strided<S, K> operand(int layout) const {
    return {copies_[layout].data() + at(layout, 0, 0), at(layout, 1, 0) - at(layout, 0, 0),
            at(layout, 0, 1) - at(layout, 0, 0)};
  }

 private:
  Index at(int layout, Index i, Index j) const {
    switch (layout) {
      case 0: return i + j * rows_;
      case 1: return j + i * cols_;
      case 2: return 3 + i + j * (rows_ + 5);
      default: return 1 + j + i * (cols_ + 3);
    }
  }
  Index rows_, cols_;
  std::vector<S> values_;
  std::vector<S> copies_[4];
};

/// A B in double, and how far a product in S may be from it: the chain of one block and the blocks' sum.
struct Product {
  std::vector<double> value, bound;
};
template <class S, class A, class B>
Product exact(Index m, Index n, Index depth, const A& a, const B& b) {
  Product out{std::vector<double>(std::size_t(m * n)), std::vector<double>(std::size_t(m * n))};
  const double eps = double(std::numeric_limits<S>::epsilon()), chain = double(std::min(depth, block_depth) + depth / block_depth + 2);
  std::vector<double> rows(std::size_t(m * depth));
  for (Index i = 0; i < m; ++i)
    for (Index p = 0; p < depth; ++p) rows[std::size_t(p + i * depth)] = double(a(i, p));
  std::vector<double> column(static_cast<std::size_t>(depth));
  for (Index j = 0; j < n; ++j) {
    for (Index p = 0; p < depth; ++p) column[std::size_t(p)] = double(b(p, j));
    for (Index i = 0; i < m; ++i) {
      double sum = 0, size = 0;
      for (Index p = 0; p < depth; ++p) {
        const double term = rows[std::size_t(p + i * depth)] * column[std::size_t(p)];
        sum += term;
        size += std::abs(term);
      }
      out.value[std::size_t(i + j * m)] = sum;
      out.bound[std::size_t(i + j * m)] = chain * eps * size;
    }
  }
  return out;
}

template <class S>
bool near(const std::vector<S>& c, const Product& p) {
  for (std::size_t i = 0; i < c.size(); ++i)
    if (!(std::abs(double(c[i]) - p.value[i]) <= p.bound[i])) return false;
  return true;
}

template <class S>
bool same_bits(const std::vector<S>& a, const std::vector<S>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(S)) == 0;
}

}  // namespace

TEMPLATE_TEST_CASE("gemm: A B, with the same bits in every storage order and for any number of threads", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  const std::tuple<Index, Index, Index> shapes[] = {{1, 1, 1},    {1, 37, 5},    {37, 1, 5},    {5, 7, 300},
                                                    {33, 64, 65}, {300, 517, 64}, {300, 70, 700}, {64, 257, 33},
                                                    {257, 3, 256}, {256, 256, 3}};
  for (const auto& [m, n, depth] : shapes) {
    CAPTURE(m, n, depth);
    const Layouts<S, K> a(m, depth, 1), b(depth, n, 2);
    const Product expected = exact<S>(m, n, depth, a, b);
    std::vector<S> first;
    for_each_thread_count([&, m = m, n = n, depth = depth] {
      const auto team = make_team<S, K>(std::max({m, n, depth}));
      for (int layout = 0; layout < 4; ++layout) {
        std::vector<S> c(std::size_t(m * n), std::numeric_limits<S>::quiet_NaN());
        lowrank::linalg::gemm<K>(m, n, depth, a.operand(layout), b.operand((layout + layout / 2) % 4), c.data(), m, *team);
        if (first.empty()) {
          first = c;
          CHECK(near(c, expected));
        }
        CHECK(same_bits(c, first));
      }
    });
  }
}

TEMPLATE_TEST_CASE("gemm: the transposed product, column ranges and leading dimensions have the same bits", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  const Index m = 130, n = 99, depth = 600;
  const Layouts<S, K> a(m, depth, 1), b(depth, n, 2);
  const auto team = make_team<S, K>(depth);
  std::vector<S> c(std::size_t(m * n)), flipped(std::size_t(m * n)), wide(std::size_t((m + 7) * n), S(3));
  gemm<K>(m, n, depth, a.operand(0), b.operand(0), c.data(), m, *team);
  gemm<K>(n, m, depth, b.operand(0).transposed(), a.operand(0).transposed(), flipped.data(), n, *team);
  for (Index j = 0; j < n; j += 40)
    gemm<K>(m, std::min<Index>(40, n - j), depth, a.operand(0), columns<K>(b.operand(0).data + j * depth, depth),
            wide.data() + j * (m + 7), m + 7, *team);
  for (Index j = 0; j < n; ++j)
    for (Index i = 0; i < m + 7; ++i) {
      const S x = wide[std::size_t(i + j * (m + 7))];
      if (i >= m) {
        REQUIRE(x == 3);
      } else {
        REQUIRE(x == c[std::size_t(i + j * m)]);
        REQUIRE(x == flipped[std::size_t(j + i * n)]);
      }
    }
  gemm<K>(m, n, Index(0), a.operand(0), b.operand(0), c.data(), m, *team);
  CHECK(same_bits(c, std::vector<S>(std::size_t(m * n), S(0))));
}

TEMPLATE_TEST_CASE("gemm: a product is added, with the same bits in every storage order and for any number of threads", "",
                   CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  const std::tuple<Index, Index, Index> shapes[] = {{5, 7, 0}, {1, 37, 5}, {33, 64, 65}, {300, 517, 256}, {300, 70, 700}};
  for (const auto& [m, n, depth] : shapes) {
    CAPTURE(m, n, depth);
    const Layouts<S, K> a(m, depth, 1), b(depth, n, 2);
    const std::vector<S> before = random_matrix<S>(m, n, 3);
    Product expected = exact<S>(m, n, depth, a, b);
    for (std::size_t i = 0; i < before.size(); ++i) {
      expected.value[i] += double(before[i]);
      expected.bound[i] += double(std::numeric_limits<S>::epsilon()) * (std::abs(double(before[i])) + std::abs(expected.value[i]));
    }
    std::vector<S> first;
    for_each_thread_count([&, m = m, n = n, depth = depth] {
      const auto team = make_team<S, K>(std::max({m, n, depth}));
      for (int layout = 0; layout < 4; ++layout) {
        std::vector<S> c = before;
        gemm<K>(m, n, depth, a.operand(layout), b.operand((layout + layout / 2) % 4), c.data(), m, *team, Mode::Add);
        if (first.empty()) {
          first = c;
          CHECK(near(c, expected));
          if (depth <= block_depth) {  // one block: the sum of C and the product, rounded once
            std::vector<S> product(c.size());
            gemm<K>(m, n, depth, a.operand(0), b.operand(0), product.data(), m, *team);
            for (std::size_t i = 0; i < product.size(); ++i) product[i] = before[i] + product[i];
            CHECK(same_bits(c, product));
          }
        }
        CHECK(same_bits(c, first));
      }
    });
  }
}

TEMPLATE_TEST_CASE("a packed basis projects and lifts like the product", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  const std::tuple<Index, Index, Index> shapes[] = {{1, 1, 1},     {300, 1, 70},  {300, 3, 130},  {300, 16, 70},
                                                    {517, 33, 70}, {300, 64, 200}, {517, 257, 67}, {64, 64, 3}};
  for (const auto& [d, r, k] : shapes) {
    CAPTURE(d, r, k);
    const Layouts<S, K> basis(d, r, 1), a(d, k, 2), n(r, k, 3);
    std::vector<S> R, U;
    std::vector<double> energy;
    for_each_thread_count([&, d = d, r = r, k = k] {
      const auto team = make_team<S, K>(std::max({d, r, k}));
      const Owned owned([d, r](Arena& arena) { return PackedBasis<S, K>(arena, d, r); });
      PackedBasis<S, K> packed = *owned;
      for (int layout = 0; layout < 4; ++layout) {
        packed.pack_down(basis.operand(layout).transposed(), *team);
        packed.pack_up(basis.operand(layout), *team);
        std::vector<S> down(std::size_t(r * k)), up(std::size_t(d * k)), product = down, lifted = up;
        std::vector<double> squares(static_cast<std::size_t>(k));
        const Index tiles = (k + tile_columns - 1) / tile_columns;
        lowrank::detail::for_each(tiles, team->threads(), [&](Index tile, int slot) {
          const Index j0 = tile * tile_columns, w = std::min(tile_columns, k - j0);
          packed.project(a.operand(3 - layout), j0, w, down.data() + j0 * r, squares.data() + j0, (*team)[slot]);
          packed.lift(n.operand(0).data + j0 * r, w, (*team)[slot],
                      [&](Index i0, Index m, Index j, Index cols, const S* u, Index ld) {
                        for (Index q = 0; q < cols; ++q)
                          std::memcpy(up.data() + i0 + (j0 + j + q) * d, u + q * ld, std::size_t(m) * sizeof(S));
                      });
        });
        if (R.empty()) {
          R = down;
          U = up;
          energy = squares;
          CHECK(near(R, exact<S>(r, k, d, [&](Index i, Index p) { return basis(p, i); }, a)));
          CHECK(near(U, exact<S>(d, k, r, basis, n)));
          for (Index j = 0; j < k; ++j) {
            double sum = 0;
            for (Index i = 0; i < d; ++i) sum += double(a(i, j)) * double(a(i, j));
            CHECK(std::abs(energy[std::size_t(j)] / sum - 1) < 40 * double(std::numeric_limits<S>::epsilon()));
          }
          gemm<K>(r, k, d, basis.operand(0).transposed(), a.operand(0), product.data(), r, *team);
          gemm<K>(d, k, r, basis.operand(0), n.operand(0), lifted.data(), d, *team);
          CHECK(same_bits(product, R));
          CHECK(same_bits(lifted, U));
        }
        CHECK(same_bits(down, R));
        CHECK(same_bits(up, U));
        CHECK(squares == energy);
      }
    });
  }
}

TEMPLATE_TEST_CASE("a packed basis moves a weight where it is, with the bits of lifting and moving, in both orders", "", CASES) {
  using S = typename TestType::Scalar;
  using K = typename TestType::Kernel;
  const std::tuple<Index, Index, Index> shapes[] = {{1, 1, 1}, {5, 37, 3}, {130, 70, 32}, {300, 67, 17}, {257, 130, 64}, {300, 64, 290}};
  const kernel::Motion<S> motion{S(0.01), S(0.9), S(1.25), S(0.75)};
  for (const auto& [d, k, r] : shapes)
    for (const bool adds : {false, true}) {
      CAPTURE(d, k, r, adds);
      const Layouts<S, K> basis(d, r, 1), n(r, k, 2), w(d, k, 3), g(d, k, 4);
      const auto phi = random_matrix<S>(k, 1, 5);
      std::vector<S> expected(std::size_t(d * k));
      for_each_thread_count([&, d = d, k = k, r = r] {
        const auto team = make_team<S, K>(std::max(d, k));
        const Owned owned([d, r](Arena& arena) { return PackedBasis<S, K>(arena, d, r); });
        PackedBasis<S, K> packed = *owned;
        packed.pack_up(basis.operand(0), *team);
        for (Index j = 0; j < k; ++j) {
          packed.lift(n.operand(0).data + j * r, 1, (*team)[0], [&](Index i0, Index m, Index, Index, const S* u, Index) {
            S* column = expected.data() + i0 + j * d;
            for (Index i = 0; i < m; ++i) column[i] = w(i0 + i, j);
            K::move(m, u, {column, d, adds ? g.operand(0).data + i0 + j * d : nullptr, d, phi.data() + j, false}, motion);
          });
        }
        for (const Order order : {Order::Columns, Order::Rows}) {
          if (order == Order::Rows) packed.pack_rows(basis.operand(1).transposed(), *team);
          const bool rows = order == Order::Rows;
          std::vector<S> moved(std::size_t(d * k));
          for (Index j = 0; j < k; ++j)
            for (Index i = 0; i < d; ++i) moved[std::size_t(rows ? j + i * k : i + j * d)] = w(i, j);
          const WeightUpdate<S> update{moved.data(), rows ? k : d, adds ? g.operand(rows ? 1 : 0).data : nullptr, rows ? k : d,
                                       phi.data(), order, motion};
          REQUIRE(packed.updates(order, *team));
          lowrank::detail::for_each((k + tile_columns - 1) / tile_columns, team->threads(), [&](Index tile, int slot) {
            const Index j0 = tile * tile_columns;
            packed.update(n.operand(0).data + j0 * r, j0, std::min(tile_columns, k - j0), update, (*team)[slot]);
          });
          bool same = true;
          for (Index j = 0; j < k; ++j)
            for (Index i = 0; i < d; ++i)
              same = same && std::memcmp(&moved[std::size_t(rows ? j + i * k : i + j * d)], &expected[std::size_t(i + j * d)], sizeof(S)) == 0;
          CHECK(same);
        }
      });
    }
}

namespace {

/// load() of a source of T against scale * g + e, in both storage orders and at every offset of a block.
template <class S, class T>
void check_source(lowrank::Dtype dtype) {
  using K = kernel::Best;
  const Index d = 43, k = 37;
  const auto values = random_matrix<float>(d, k, 1);
  const auto error = random_matrix<S>(d, k, 2);
  std::vector<T> by_columns(values.size()), by_rows(values.size());
  for (Index j = 0; j < k; ++j)
    for (Index i = 0; i < d; ++i)
      by_columns[std::size_t(i + j * d)] = by_rows[std::size_t(j + i * k)] = T(values[std::size_t(i + j * d)]);
  CompactMatrix<S> kept(d, k, lowrank::Storage::Full);
  kept.allocate();
  kept.store(0, d, 0, k, error.data(), d);
  for (double scale : {1.0, 0.375})
    for (const CompactMatrix<S>* fed_back : {static_cast<const CompactMatrix<S>*>(nullptr), static_cast<const CompactMatrix<S>*>(&kept)}) {
      const Source<S, K> sources[] = {{{by_columns.data(), dtype, 1, d}, d, k, scale, fed_back},
                                      {{by_rows.data(), dtype, k, 1}, d, k, scale, fed_back}};
      for (const auto& source : sources)
        for (const auto& [i0, m, j0, n] : {std::array<Index, 4>{0, d, 0, k}, {3, 33, 1, 17}, {41, 2, 36, 1}, {1, 16, 5, 32}}) {
          std::vector<S> block(std::size_t((m + 2) * n), S(9));
          source.load(i0, m, j0, n, block.data(), m + 2);
          for (Index j = 0; j < n; ++j)
            for (Index i = 0; i < m + 2; ++i) {
              const S got = block[std::size_t(i + j * (m + 2))];
              if (i >= m) {
                REQUIRE(got == 9);
                continue;
              }
              const std::size_t at = std::size_t(i0 + i + (j0 + j) * d);
              const double expected =
                  scale * double(static_cast<float>(by_columns[at])) + (fed_back != nullptr ? double(error[at]) : 0.0);
              const double eps = fed_back != nullptr || scale != 1 ? double(std::numeric_limits<S>::epsilon()) : 0;
              REQUIRE(std::abs(double(got) - expected) <= eps * 4);
            }
        }
    }
}

}  // namespace

TEST_CASE("a source widens, scales and adds the error") {
  check_source<float, float>(lowrank::Dtype::F32);
  check_source<float, Eigen::bfloat16>(lowrank::Dtype::BF16);
  check_source<float, Eigen::half>(lowrank::Dtype::F16);
  check_source<double, float>(lowrank::Dtype::F32);
  check_source<double, Eigen::bfloat16>(lowrank::Dtype::BF16);
  check_source<double, Eigen::half>(lowrank::Dtype::F16);
}

TEST_CASE("a source of double keeps its bits") {
  using K = kernel::Best;
  const auto values = random_matrix<double>(20, 30, 1);
  const Source<double, K> source{{values.data(), lowrank::Dtype::F64, 1, 20}, 20, 30};
  std::vector<double> block(values.size());
  source.load(0, 20, 0, 30, block.data(), 20);
  CHECK(same_bits(block, values));
}

TEST_CASE("products allocate nothing, and an arena says beforehand what they need") {
  using K = kernel::Best;
  const Index m = 300, n = 200;
  const Layouts<float, K> a(m, m, 1), b(m, n, 2);
  std::vector<float> c(std::size_t(m * n));
  for_each_thread_count([&] {
    const auto team = make_team<float, K>(m);
    gemm<K>(m, n, m, a.operand(0), b.operand(1), c.data(), m, *team);
    const support::AllocationCount count;
    gemm<K>(m, n, m, a.operand(0), b.operand(1), c.data(), m, *team);
    gemm<K>(m, Index(3), m, a.operand(1), b.operand(0), c.data(), m, *team);
    gemm<K>(Index(70), n, m, a.operand(1), b.operand(0), c.data(), m, *team);
    CHECK(count.since() == 0);
  });
  Arena counting;
  const Team<float, K> counted(counting, 3, m);
  CHECK(counting.used() >= 3 * 256 * 2 * 256 * sizeof(float));
}
