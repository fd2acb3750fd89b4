// W <- after (before W - step (P N + scale G diag(phi))) of rank 1 to 4: what PackedBasis::update() does there has the bits of the
// tiles that it does with at other ranks, for every remainder of a size, and writes nothing beside W.
#include <support/catch.hpp>

#include <lowrank/linalg/narrow_update.hpp>
#include <lowrank/linalg/packed_basis.hpp>

#include "workspace.hpp"

using namespace lowrank;
using lowrank_test::random_matrix;

namespace {

/// The tiles, whatever the rank.
template <class S, class K>
void by_tiles(const linalg::PackedBasis<S, K>& packed, const S* N, Index j0, Index w, const linalg::WeightUpdate<S>& u,
              const linalg::Scratch<S>& scratch) {
  using namespace linalg;
  const Index d = packed.d, r = packed.r;
  if (u.order == Order::Columns) {
    const linalg::detail::TileOperands<S> x{r, block_depth, packed.up, padded<K, S>(d), 0, nullptr};
    return linalg::detail::update_in_columns<K>(d, w, x, N, u, j0, scratch.edge);
  }
  linalg::detail::pack<K>(Strided<S, K>{N, r, 1}, 0, w, 0, r, scratch.rows, scratch.stage);
  const linalg::detail::TileOperands<S> x{r, block_depth, scratch.rows, padded<K, S>(w), 0, nullptr};
  linalg::detail::update_in_rows<K>(d, w, x, packed.up, u, j0, scratch.edge);
}

/// What matrices are filled from.
template <class S>
const std::vector<S>& numbers() {
  static const std::vector<S> x = random_matrix<S>(1 << 20, 1, 1);
  return x;
}

/// d x w from column j0 of W; gap numbers lie between the columns or rows of W, twice as many between those of G, and the first number
/// is `offset` from where memory begins.
template <class S, class K>
bool same(Index d, Index w, Index r, linalg::Order order, bool adds, Index gap, Index offset, Index j0) {
  const bool rows = order == linalg::Order::Rows;
  const Index k = j0 + w, ldw = gap + (rows ? k : d), ldg = 2 * gap + (rows ? k : d);
  const S *P = numbers<S>().data(), *N = P + d * r, *phi = N + r * w, *G = phi + k + 1, *W0 = G + offset + ldg * (rows ? d : k);
  const Index size = offset + ldw * (rows ? d : k) + 5;
  REQUIRE(W0 + size <= P + numbers<S>().size());
  const auto team = lowrank_test::make_team<S, K>(std::max({d, k, r}));
  const lowrank_test::Owned owned([&](Arena& arena) { return linalg::PackedBasis<S, K>(arena, d, r); });
  if (rows) owned->pack_rows(linalg::transposed<K, S>(P, d), *team);
  else owned->pack_up(linalg::columns<K, S>(P, d), *team);
  const auto moved = [&](const auto& move) {
    std::vector<S> W(W0, W0 + size);
    move(linalg::WeightUpdate<S>{W.data() + offset, ldw, adds ? G + offset : nullptr, ldg, phi, order,
                                 kernel::Motion<S>{S(0.01), S(0.9), S(1.25), S(-0.75)}});
    return W;
  };
  const auto expected = moved([&](const auto& u) { by_tiles<S, K>(*owned, N, j0, w, u, (*team)[0]); });
  const auto got = moved([&](const auto& u) { owned->update(N, j0, w, u, (*team)[0]); });
  return std::memcmp(expected.data(), got.data(), got.size() * sizeof(S)) == 0;
}

template <class S, class K>
void check(Index d, Index w) {
  CAPTURE(K::name, d, w);
  for (const Index r : {1, 2, 3, 4})
    for (const auto order : {linalg::Order::Columns, linalg::Order::Rows})
      for (const bool adds : {false, true})
        for (const Index gap : {0, 3}) {
          CAPTURE(r, order == linalg::Order::Rows, adds, gap);
          if (!same<S, K>(d, w, r, order, adds, gap, gap == 0 ? 1 : 0, (d + w) % 5)) FAIL("the bits differ");
        }
}

}  // namespace

TEMPLATE_TEST_CASE("An update of few ranks has the bits of tiles, at every size", "[linalg]", float, double) {
  for (Index d = 0; d <= 67; ++d)
    for (const Index w : {0, 1, 2, 7, 15, 16, 17, 33, 64, 67}) {
      check<TestType, kernel::Best>(d, w);
      if (d != w) check<TestType, kernel::Best>(w, d);
    }
  for (const Index d : {0, 1, 2, 3, 4, 5, 8, 9, 13, 67})
    for (const Index w : {1, 3, 4, 6, 19, 64}) check<TestType, kernel::Portable>(d, w);
  SUCCEED();
}

TEMPLATE_TEST_CASE("An update of few ranks has the bits of tiles, at the sizes of a large matrix", "[linalg]", float, double) {
  for (const auto& [d, w] : {std::pair<Index, Index>{1, 1024}, {2, 1000}, {5, 1024}, {37, 515}, {300, 250}, {530, 64}, {1100, 19}})
    check<TestType, kernel::Best>(d, w);
}
