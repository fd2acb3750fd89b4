// What the tests of linalg share: an object laid out in an arena of its own, random matrices, numbers of threads.
#pragma once

#include <cstddef>
#include <random>
#include <vector>

#include <lowrank/linalg/gemm.hpp>
#if defined(_OPENMP)
#include <omp.h>
#endif

namespace lowrank_test {

using lowrank::Arena;
using lowrank::Index;

/// make(Arena&) is called twice, as a workspace does: to count, then to lay out.
template <class Make>
class Owned {
 public:
  using T = decltype(std::declval<Make>()(std::declval<Arena&>()));
  explicit Owned(const Make& make) {
    Arena count;
    make(count);
    memory_ = lowrank::Buffer<std::byte>(Index(count.used()), 1);
    Arena arena(memory_);
    value_ = make(arena);
  }
  const T& operator*() const { return value_; }
  const T* operator->() const { return &value_; }

 private:
  lowrank::Buffer<std::byte> memory_;
  T value_{};
};

template <class S, class K>
auto make_team(Index largest) {
  return Owned([largest](Arena& arena) {
    return lowrank::linalg::Team<S, K>(arena, lowrank::detail::available_threads(), largest);
  });
}

template <class S>
std::vector<S> random_matrix(Index rows, Index cols, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  std::vector<S> x(std::size_t(rows * cols));
  for (S& value : x) value = S(normal(generator));
  return x;
}

/// Calls f once for each number of threads that results must not depend on.
template <class F>
void for_each_thread_count(const F& f) {
#if defined(_OPENMP)
  const int before = omp_get_max_threads();
  for (int threads : {1, 2, 3}) {
    omp_set_num_threads(threads);
    f();
  }
  omp_set_num_threads(before);
#else
  f();
#endif
}

/// max |Q^T Q - I| for column-major Q.
template <class S>
double orthogonality(Index d, Index r, const S* Q) {
  double worst = 0;
  for (Index j = 0; j < r; ++j)
    for (Index i = 0; i <= j; ++i) {
      double sum = i == j ? -1 : 0;
      for (Index p = 0; p < d; ++p) sum += double(Q[p + i * d]) * double(Q[p + j * d]);
      worst = std::max(worst, std::abs(sum));
      if (!(worst == worst)) return worst;
    }
  return worst;
}

}  // namespace lowrank_test
