// Bf16Basis: the two products of a step with bf16 operands and float sums, against the products of the rounded numbers and of the numbers
// themselves; the same bits in every storage order, kernel set and for any number of threads.
#include <cmath>
#include <cstring>
#include <limits>

#include <Eigen/Core>

#include "linalg/workspace.hpp"
#include "support/catch.hpp"
#include "support/malloc_counter.hpp"

#include <lowrank/linalg/bf16_basis.hpp>

using namespace lowrank_test;
using namespace lowrank::linalg;
namespace kernel = lowrank::kernel;

namespace {

#if LOWRANK_VECTOR_BYTES >= 32
#define SETS kernel::Best, kernel::Avx2, kernel::Portable
#else
#define SETS kernel::Portable
#endif

float rounded(float x) { return float(Eigen::bfloat16(x)); }

/// A matrix in columns and in rows, each inside a larger array at an odd offset.
class Both {
 public:
  Both(Index rows, Index cols, unsigned seed) : rows_(rows), cols_(cols), values_(random_matrix<float>(rows, cols, seed)) {
    for (const bool by_rows : {false, true}) {
      auto& copy = copies_[by_rows];
      copy.assign(std::size_t((rows + 5) * (cols + 5) + 3), std::numeric_limits<float>::quiet_NaN());
      for (Index j = 0; j < cols; ++j)
        for (Index i = 0; i < rows; ++i) copy[std::size_t(at(by_rows, i, j))] = (*this)(i, j);
    }
  }
  float operator()(Index i, Index j) const { return values_[std::size_t(i + j * rows_)]; }
  template <class K>
  Strided<float, K> operand(bool by_rows) const {
    return {copies_[by_rows].data() + at(by_rows, 0, 0), by_rows ? cols_ + 3 : 1, by_rows ? 1 : rows_ + 5};
  }
  const float* columns() const { return values_.data(); }

 private:
  Index at(bool by_rows, Index i, Index j) const { return by_rows ? 1 + j + i * (cols_ + 3) : 3 + i + j * (rows_ + 5); }
  Index rows_, cols_;
  std::vector<float> values_;
  std::vector<float> copies_[2];
};

/// c = A B of rounded numbers up to float sums, and of the numbers as they are up to two roundings of 2^-8 each.
template <class A, class B>
void check_product(Index m, Index n, Index depth, const A& a, const B& b, const std::vector<float>& c) {
  const double eps = double(std::numeric_limits<float>::epsilon()), chain = double(std::min(depth, block_depth) + depth / block_depth + 3);
  double worst = 0, worst_rounding = 0;
  for (Index j = 0; j < n; ++j)
    for (Index i = 0; i < m; ++i) {
      double of_rounded = 0, exact = 0, size = 0;
      for (Index p = 0; p < depth; ++p) {
        of_rounded += double(rounded(a(i, p))) * double(rounded(b(p, j)));
        exact += double(a(i, p)) * double(b(p, j));
        size += std::abs(double(a(i, p)) * double(b(p, j)));
      }
      const double got = double(c[std::size_t(i + j * m)]);
      worst = std::max(worst, std::abs(got - of_rounded) / (chain * eps / 2 * 1.01 * size));
      worst_rounding = std::max(worst_rounding, std::abs(got - exact) / ((0x1p-7 + 0x1p-16 + chain * eps) * size));
    }
  CHECK(worst <= 1);
  CHECK(worst_rounding <= 1);
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

struct Results {
  std::vector<float> R, U;
  std::vector<double> energy;
};
/// R = P^T A and U = P N by tiles of 64 columns.
template <class K>
Results run(Index d, Index r, Index k, const Strided<float, K>& basis, const Strided<float, K>& a, const float* N) {
  const auto team = make_team<float, K>(std::max({d, r, k}));
  const Owned owned([d, r](Arena& arena) { return Bf16Basis<K>(arena, d, r); });
  Bf16Basis<K> packed = *owned;
  packed.pack_down(basis.transposed(), *team);
  packed.pack_up(basis, *team);
  Results out{std::vector<float>(std::size_t(r * k)), std::vector<float>(std::size_t(d * k)), std::vector<double>(std::size_t(k))};
  lowrank::detail::for_each((k + tile_columns - 1) / tile_columns, team->threads(), [&](Index tile, int slot) {
    const Index j0 = tile * tile_columns, w = std::min(tile_columns, k - j0);
    packed.project(a, j0, w, out.R.data() + j0 * r, out.energy.data() + j0, (*team)[slot]);
    packed.lift(N + j0 * r, w, (*team)[slot], [&](Index i0, Index m, Index j, Index cols, const float* u, Index ld) {
      for (Index q = 0; q < cols; ++q) std::memcpy(out.U.data() + i0 + (j0 + j + q) * d, u + q * ld, std::size_t(m) * sizeof(float));
    });
  });
  return out;
}

}  // namespace

TEMPLATE_TEST_CASE("a basis of bf16 projects and lifts like the product of the rounded numbers", "", SETS) {
  using K = TestType;
  const std::tuple<Index, Index, Index> shapes[] = {{1, 1, 1},     {2, 1, 3},     {300, 1, 70},  {301, 3, 130}, {300, 16, 70},
                                                    {517, 33, 70}, {300, 64, 200}, {517, 257, 67}, {513, 290, 9}, {64, 64, 3}};
  for (const auto& [d, r, k] : shapes) {
    CAPTURE(d, r, k);
    const Both basis(d, r, 1), a(d, k, 2), n(r, k, 3);
    const Results portable = run<kernel::Portable>(d, r, k, basis.operand<kernel::Portable>(false), a.operand<kernel::Portable>(false), n.columns());
    check_product(r, k, d, [&](Index i, Index p) { return basis(p, i); }, a, portable.R);
    check_product(d, k, r, basis, n, portable.U);
    for_each_thread_count([&, d = d, r = r, k = k] {
      for (const bool rows : {false, true}) {
        const Results got = run<K>(d, r, k, basis.template operand<K>(rows), a.template operand<K>(!rows), n.columns());
        CHECK(same_bits(got.R, portable.R));
        CHECK(same_bits(got.U, portable.U));
        for (Index j = 0; j < k; ++j) {
          double sum = 0;
          for (Index i = 0; i < d; ++i) sum += double(a(i, j)) * double(a(i, j));
          REQUIRE(std::abs(got.energy[std::size_t(j)] / sum - 1) < 40 * double(std::numeric_limits<float>::epsilon()));
        }
      }
      const Results columns = run<K>(d, r, k, basis.template operand<K>(false), a.template operand<K>(false), n.columns());
      const Results by_rows = run<K>(d, r, k, basis.template operand<K>(false), a.template operand<K>(true), n.columns());
      CHECK(columns.energy == by_rows.energy);
    });
  }
}

TEMPLATE_TEST_CASE("a basis of bf16 moves a weight where it is, with the bits of lifting and moving, in both orders", "", SETS) {
  using K = TestType;
  const std::tuple<Index, Index, Index> shapes[] = {{1, 1, 1}, {5, 37, 3}, {130, 70, 32}, {300, 67, 17}, {257, 130, 64}, {300, 64, 291}};
  const kernel::Motion<float> motion{0.01f, 0.9f, 1.25f, 0.75f};
  for (const auto& [d, k, r] : shapes)
    for (const bool adds : {false, true}) {
      CAPTURE(d, k, r, adds);
      const Both basis(d, r, 1), n(r, k, 2), w(d, k, 3), g(d, k, 4);
      const auto phi = random_matrix<float>(k, 1, 5);
      const Results lifted = run<K>(d, r, k, basis.template operand<K>(false), g.template operand<K>(false), n.columns());
      std::vector<float> expected(std::size_t(d * k));
      for (Index j = 0; j < k; ++j) {
        for (Index i = 0; i < d; ++i) expected[std::size_t(i + j * d)] = w(i, j);
        K::move(d, lifted.U.data() + j * d, {expected.data() + j * d, d, adds ? g.columns() + j * d : nullptr, d, phi.data() + j, false}, motion);
      }
      for_each_thread_count([&, d = d, k = k, r = r] {
        const auto team = make_team<float, K>(std::max(d, k));
        const Owned owned([d, r](Arena& arena) { return Bf16Basis<K>(arena, d, r); });
        Bf16Basis<K> packed = *owned;
        for (const Order order : {Order::Columns, Order::Rows}) {
          const bool rows = order == Order::Rows;
          if (rows) packed.pack_rows(basis.template operand<K>(true).transposed(), *team);
          else packed.pack_up(basis.template operand<K>(true), *team);
          std::vector<float> moved(std::size_t(d * k)), gradient(std::size_t(d * k));
          for (Index j = 0; j < k; ++j)
            for (Index i = 0; i < d; ++i) {
              moved[std::size_t(rows ? j + i * k : i + j * d)] = w(i, j);
              gradient[std::size_t(rows ? j + i * k : i + j * d)] = g(i, j);
            }
          const WeightUpdate<float> update{moved.data(), rows ? k : d, adds ? gradient.data() : nullptr, rows ? k : d, phi.data(), order, motion};
          REQUIRE(packed.updates(order, *team));
          lowrank::detail::for_each((k + tile_columns - 1) / tile_columns, team->threads(), [&](Index tile, int slot) {
            const Index j0 = tile * tile_columns;
            packed.update(n.columns() + j0 * r, j0, std::min(tile_columns, k - j0), update, (*team)[slot]);
          });
          bool same = true;
          for (Index j = 0; j < k; ++j)
            for (Index i = 0; i < d; ++i)
              same = same && std::memcmp(&moved[std::size_t(rows ? j + i * k : i + j * d)], &expected[std::size_t(i + j * d)], sizeof(float)) == 0;
          CHECK(same);
        }
      });
    }
}

TEST_CASE("of numbers that bf16 has, a basis of bf16 makes the product of PackedBasis up to the order of sums, and nothing is allocated") {
  using K = kernel::Best;
  const Index d = 300, r = 40, k = 64;
  std::vector<float> P = random_matrix<float>(d, r, 1), A = random_matrix<float>(d, k, 2), R(std::size_t(r * k));
  for (float& x : P) x = rounded(x);
  for (float& x : A) x = rounded(x);
  const auto team = make_team<float, K>(d);
  const Owned owned([](Arena& arena) { return Bf16Basis<K>(arena, d, r); });
  owned->pack_down(transposed<K>(P.data(), d), *team);  // OpenMP's threads are made
  const support::AllocationCount count;
  owned->pack_down(transposed<K>(P.data(), d), *team);
  owned->project(columns<K>(A.data(), d), 0, k, R.data(), nullptr, (*team)[0]);
  CHECK(count.since() == 0);
  for (Index j = 0; j < k; ++j)
    for (Index i = 0; i < r; ++i) {
      double sum = 0, size = 0;
      for (Index p = 0; p < d; ++p) sum += double(P[std::size_t(p + i * d)]) * double(A[std::size_t(p + j * d)]), size += std::abs(double(P[std::size_t(p + i * d)]) * double(A[std::size_t(p + j * d)]));
      REQUIRE(std::abs(double(R[std::size_t(i + j * r)]) - sum) <= 260 * double(std::numeric_limits<float>::epsilon()) / 2 * size);
    }
}
