// The product that stages B once against gemm(), bit for bit: both storage orders of both operands, edges, one and several
// rounds, too little room, and any number of threads.
#include "linalg/workspace.hpp"
#include "support/malloc_counter.hpp"

#include <lowrank/linalg/staged.hpp>

#include "support/catch.hpp"

using namespace lowrank_test;
namespace linalg = lowrank::linalg;

namespace {

/// X (m x n, column-major) in rows.
template <class S>
std::vector<S> in_rows(const std::vector<S>& x, Index m, Index n) {
  std::vector<S> turned(x.size());
  for (Index j = 0; j < n; ++j)
    for (Index i = 0; i < m; ++i) turned[std::size_t(j + i * n)] = x[std::size_t(i + j * m)];
  return turned;
}

template <class S, class K>
void compare(Index m, Index n, Index depth) {
  INFO(K::name << ", " << sizeof(S) << " bytes, " << m << " x " << n << ", depth " << depth);
  const Index ldc = m + 3;
  const auto team = make_team<S, K>(std::max({m, n, depth}));
  const auto a = random_matrix<S>(m, depth, 4), b = random_matrix<S>(depth, n, 5);
  const auto a_rows = in_rows(a, m, depth), b_rows = in_rows(b, depth, n);
  std::vector<S> whole(std::size_t(m * n)), room(std::size_t((depth + 20) * (n + 64)));
  const auto left = linalg::columns<K, S>(a.data(), m), right = linalg::columns<K, S>(b.data(), depth);
  linalg::gemm<K>(m, n, depth, left, right, whole.data(), m, *team);
  const Index one_block = (n + 63) / 64 * 64 * 260;
  for_each_thread_count([&] {
    for (const auto& x : {left, linalg::transposed<K, S>(a_rows.data(), depth)})
      for (const auto& y : {right, linalg::transposed<K, S>(b_rows.data(), n)})
        for (const Index size : {Index(room.size()), std::min(one_block, Index(room.size())), Index(8)}) {
          std::vector<S> c(std::size_t(ldc * n), S(7));
          const support::AllocationCount count;
          linalg::staged_product(m, n, depth, x, y, c.data(), ldc, room.data(), size, *team);
          if (support::AllocationCount::counted) CHECK(count.since() == 0);
          bool same = true;
          for (Index j = 0; j < n; ++j) {
            for (Index i = 0; i < m; ++i) same = same && c[std::size_t(i + j * ldc)] == whole[std::size_t(i + j * m)];
            for (Index i = m; i < ldc; ++i) same = same && c[std::size_t(i + j * ldc)] == S(7);
          }
          CHECK(same);
        }
  });
}

template <class K>
void compare_all() {
  for (const auto& [m, n, depth] : {std::array<Index, 3>{1031, 1, 3}, {1056, 40, 300}, {1100, 77, 600}, {100, 20, 30}})
    compare<float, K>(m, n, depth), compare<double, K>(m, n, depth);
}

}  // namespace

TEST_CASE("A product that stages B once has the bits of the plain one", "[linalg]") {
  compare_all<lowrank::kernel::Portable>();
  compare_all<lowrank::kernel::Best>();
}
