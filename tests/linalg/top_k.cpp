// The r best of n: against a stable sort, ties to the lower index, indices ascending.
#include <algorithm>
#include <limits>
#include <vector>

#include <support/catch.hpp>

#include <lowrank/linalg/top_k.hpp>

using lowrank::Index;

namespace {

std::vector<std::int32_t> best(const std::vector<double>& score, Index r) {
  std::vector<std::int32_t> work(score.size()), out(std::size_t(r), -7);
  lowrank::linalg::top_k(score.data(), Index(score.size()), r, work.data(), out.data());
  return out;
}

}  // namespace

TEST_CASE("The best scores win, equal ones by the lower index", "[top_k]") {
  CHECK(best({1, 3, 3, 2, 3}, 2) == std::vector<std::int32_t>{1, 2});
  CHECK(best({1, 3, 3, 2, 3}, 4) == std::vector<std::int32_t>{1, 2, 3, 4});
  CHECK(best({0, 0, 0, 0}, 3) == std::vector<std::int32_t>{0, 1, 2});
  CHECK(best({0.0, -0.0, 0.0}, 2) == std::vector<std::int32_t>{0, 1});
  CHECK(best({5}, 1) == std::vector<std::int32_t>{0});
  const double inf = std::numeric_limits<double>::infinity();
  CHECK(best({1, inf, 2, inf, inf}, 2) == std::vector<std::int32_t>{1, 3});
}

TEST_CASE("Any n and r agree with a stable sort", "[top_k]") {
  std::uint64_t state = 1;
  for (const std::size_t n : {1u, 2u, 7u, 64u, 1000u})
    for (const unsigned values : {2u, 5u, 1000000u}) {  // from many ties to none
      std::vector<double> score(n);
      for (double& s : score) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        s = double((state >> 33) % values);
      }
      std::vector<std::int32_t> order(n);
      for (std::size_t i = 0; i < n; ++i) order[i] = std::int32_t(i);
      std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return score[std::size_t(a)] > score[std::size_t(b)]; });
      for (std::size_t r = 1; r <= n; r += 1 + n / 20) {
        std::vector<std::int32_t> expected(order.begin(), order.begin() + std::ptrdiff_t(r));
        std::sort(expected.begin(), expected.end());
        CHECK(best(score, Index(r)) == expected);
      }
    }
}
