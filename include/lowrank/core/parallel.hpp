// Threads: the caller's OpenMP when the translation unit is compiled with it, none otherwise, none hidden.
//
// for_each(n, threads, f) calls f(i, slot) for i in [0, n), each i once, in any order; slot < threads names the
// scratch memory of the executing thread. Inside a parallel region of the caller it runs serially. No result of the
// library depends on which thread took which i: tiles write to disjoint places and sums are added in tile order.
#pragma once

#include <algorithm>  // std::min

#include <lowrank/core/error.hpp>
#if defined(_OPENMP)
#include <omp.h>
#endif

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

/// How many threads a step started here could use; workspaces are sized by it when they are made.
inline int available_threads() {
#if defined(_OPENMP)
  return omp_in_parallel() ? 1 : omp_get_max_threads();
#else
  return 1;
#endif
}

/// Compiled once for both loops below: inlined into each, a sum could be contracted to fused operations in one of them
/// only, and its last bit would tell how many threads there were.
template <class F>
LOWRANK_NOINLINE void invoke(const F& f, Index i, int slot) {
  f(i, slot);
}

template <class F>
void for_each(Index n, int threads, const F& f) {
#if defined(_OPENMP)
  // never more threads than there is scratch memory for, even if the caller raised the number since; never fewer because
  // n is small, since a team of another size is allocated anew
  const int team = std::min(threads, available_threads());
  if (team > 1 && n > 1) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(team)
    for (Index i = 0; i < n; ++i) invoke(f, i, omp_get_thread_num());
    return;
  }
#else
  (void)threads;
#endif
  for (Index i = 0; i < n; ++i) invoke(f, i, 0);
}

}  // namespace detail
}  // namespace lowrank
