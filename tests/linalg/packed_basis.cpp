// R = P^T A: the same bits from columns, from rows and from blocks that were loaded, on few rows (which go another way) and many;
// and a factor of A that is packed with P^T.
#include <support/catch.hpp>
#include <vector>

#include <lowrank/linalg/packed_basis.hpp>
#include <lowrank/linalg/row_projection.hpp>

#include "workspace.hpp"

using namespace lowrank;

namespace {

/// A in memory, which does not say where.
template <class S, class K>
struct Hidden {
  linalg::Strided<S, K> a;
  linalg::Strided<S, K> in_place(Index, Index) const { return {nullptr, 1, 0}; }
  void load(Index i0, Index m, Index j0, Index n, S* dst, Index ld) const { a.load(i0, m, j0, n, dst, ld); }
};

template <class S>
struct Projected {
  std::vector<S> R;
  std::vector<double> energy;
  friend bool operator==(const Projected&, const Projected&) = default;
};

template <class S, class K>
void check(Index d, Index w, Index r, double factor) {
  INFO(K::name << ": " << d << " x " << w << ", r = " << r << ", factor " << factor);
  const Index gap = 3, ldc = d + gap, ldr = w + gap;
  const std::vector<S> columns = lowrank_test::random_matrix<S>(ldc * w, 1, 1), P = lowrank_test::random_matrix<S>(d * r, 1, 2);
  std::vector<S> rows(std::size_t(ldr * d));
  for (Index j = 0; j < w; ++j)
    for (Index i = 0; i < d; ++i) rows[std::size_t(j + i * ldr)] = columns[std::size_t(i + j * ldc)];

  const auto team = lowrank_test::make_team<S, K>(std::max(d, w));
  const lowrank_test::Owned owned([&](Arena& arena) { return linalg::PackedBasis<S, K>(arena, d, r); });
  linalg::PackedBasis<S, K> packed = *owned;
  const auto project = [&](const auto& a) {
    Projected<S> out{std::vector<S>(std::size_t(r * w), S(7)), std::vector<double>(std::size_t(w), 7.0)};
    packed.pack_down(linalg::transposed<K, S>(P.data(), d), *team, factor);
    packed.project(a, 0, w, out.R.data(), out.energy.data(), (*team)[0], factor);
    std::vector<S> alone(std::size_t(r * w));
    packed.project(a, 0, w, alone.data(), nullptr, (*team)[0], factor);
    CHECK(alone == out.R);
    return out;
  };
  const linalg::Strided<S, K> by_columns{columns.data(), 1, ldc}, by_rows{rows.data(), ldr, 1};
  const Projected<S> loaded = project(Hidden<S, K>{by_columns});
  CHECK(loaded == project(by_columns));
  CHECK(loaded == project(by_rows));

  double worst = 0;
  for (Index j = 0; j < w; ++j) {
    double energy = 0;
    for (Index i = 0; i < d; ++i) energy += factor * factor * double(columns[std::size_t(i + j * ldc)]) * double(columns[std::size_t(i + j * ldc)]);
    worst = std::max(worst, std::abs(energy - loaded.energy[std::size_t(j)]) / energy);
    for (Index q = 0; q < r; ++q) {
      double sum = 0, size = 0;
      for (Index i = 0; i < d; ++i) {
        const double term = factor * double(P[std::size_t(i + q * d)]) * double(columns[std::size_t(i + j * ldc)]);
        sum += term, size += std::abs(term);
      }
      worst = std::max(worst, std::abs(sum - double(loaded.R[std::size_t(q + j * r)])) / size);
    }
  }
  CHECK(worst < 40 * double(std::numeric_limits<S>::epsilon()));
}

}  // namespace

TEMPLATE_TEST_CASE("A projection has the same bits from every storage", "[linalg]", float, double) {
  for (const Index r : {1, 2, 3, 4, 5, 17})
    for (const auto& [d, w] : {std::pair<Index, Index>{1, 1}, {7, 5}, {16, 16}, {37, 64}, {256, 33}, {283, 64}, {530, 19}})
      for (const double factor : {1.0, -0.3}) {
        check<TestType, kernel::Best>(d, w, r, factor);
        check<TestType, kernel::Portable>(d, w, r, factor);
      }
  // as many columns as a large matrix in rows is given at once
  for (const Index r : {1, 3, 32}) check<TestType, kernel::Best>(1100, 250, r, 0.7);
  check<TestType, kernel::Best>(530, 700, 33, 0.7);
  check<TestType, kernel::Portable>(530, 700, 9, 0.7);
  // more directions than a block has rows
  check<TestType, kernel::Best>(300, 290, 260, 1.0);
}
