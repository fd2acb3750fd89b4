// The symmetric product against the whole one, bit for bit: both storage orders, edges, several rounds, what it tells its
// caller on the way, and any number of threads.
#include "linalg/workspace.hpp"
#include "support/malloc_counter.hpp"

#include <mutex>

#include <lowrank/linalg/symmetric.hpp>

#include "support/catch.hpp"

using namespace lowrank_test;
namespace linalg = lowrank::linalg;

namespace {

template <class S, class K>
void compare(Index n, Index depth, Index ldc) {
  INFO(K::name << ", " << sizeof(S) << " bytes, " << n << " x " << depth);
  const auto team = make_team<S, K>(std::max(n, depth));
  const Owned product([&](Arena& arena) { return linalg::SymmetricProduct<S, K>(arena, n, depth); });
  const auto x = random_matrix<S>(n, depth, 4);
  std::vector<S> turned(x.size());
  for (Index j = 0; j < depth; ++j)
    for (Index i = 0; i < n; ++i) turned[std::size_t(j + i * depth)] = x[std::size_t(i + j * n)];
  const auto a = linalg::columns<K, S>(x.data(), n), b = linalg::transposed<K, S>(turned.data(), depth);
  std::vector<S> whole(std::size_t(n * n));
  linalg::gemm<K>(n, n, depth, a, a.transposed(), whole.data(), n, *team);
  for_each_thread_count([&] {
    for (const auto& operand : {a, b}) {
      std::vector<S> half(std::size_t(ldc * n), S(7)), lower(half);
      (*product)(n, depth, operand, half.data(), ldc, linalg::Triangle::Both, *team);
      const support::AllocationCount count;
      (*product)(n, depth, operand, lower.data(), ldc, linalg::Triangle::Lower, *team);
      if (support::AllocationCount::counted) CHECK(count.since() == 0);
      bool same = true;
      for (Index j = 0; j < n; ++j)
        for (Index i = 0; i < n; ++i) {
          same = same && half[std::size_t(i + j * ldc)] == whole[std::size_t(i + j * n)];
          same = same && (i < j || lower[std::size_t(i + j * ldc)] == whole[std::size_t(i + j * n)]);
        }
      CHECK(same);
      for (Index j = 0; j < n; ++j)
        for (Index i = n; i < ldc; ++i) CHECK(half[std::size_t(i + j * ldc)] == S(7));
    }
  });
}

template <class K>
void compare_all() {
  for (const auto& [n, depth] : {std::pair<Index, Index>{1, 1}, {7, 3}, {32, 256}, {63, 300}, {65, 64}, {300, 517}, {290, 1100}, {40, 2600}})
    compare<float, K>(n, depth, n), compare<double, K>(n, depth, n + 5);
}

}  // namespace

TEST_CASE("A symmetric product has the bits of the whole one", "[linalg]") {
  compare_all<lowrank::kernel::Portable>();
  compare_all<lowrank::kernel::Best>();
}

TEST_CASE("A symmetric product shows each piece of X and each tile once", "[linalg]") {
  using K = lowrank::kernel::Best;
  const Index n = 150, depth = 1300;
  const auto team = make_team<float, K>(depth);
  const Owned product([&](Arena& arena) { return linalg::SymmetricProduct<float, K>(arena, n, depth); });
  const auto x = random_matrix<float>(n, depth, 4);
  std::vector<float> c(std::size_t(n * n));
  std::vector<int> packed(std::size_t(n * depth)), done(std::size_t(n * n));
  std::mutex mutex;
  const auto count = [&](std::vector<int>& seen, Index ld) {
    return [&seen, ld, &mutex](Index i0, Index rows, Index j0, Index cols) {
      const std::lock_guard lock(mutex);
      for (Index j = j0; j < j0 + cols; ++j)
        for (Index i = i0; i < i0 + rows; ++i) ++seen[std::size_t(i + j * ld)];
    };
  };
  (*product)(n, depth, linalg::columns<K, float>(x.data(), n), c.data(), n, linalg::Triangle::Both, *team, count(packed, n), count(done, n));
  CHECK(std::all_of(packed.begin(), packed.end(), [](int times) { return times == 1; }));
  bool lower = true;
  for (Index j = 0; j < n; ++j)
    for (Index i = j; i < n; ++i) lower = lower && done[std::size_t(i + j * n)] == 1;
  CHECK(lower);
}
