// for_each: indices shared out to OpenMP threads when the program is built with it, a plain loop otherwise.
#pragma once

#include <Eigen/Core>
#if defined(_OPENMP)
#include <omp.h>
#endif

namespace pretrain {

inline int available_threads() {
#if defined(_OPENMP)
  return omp_get_max_threads();
#else
  return 1;
#endif
}

/// 0 leaves OpenMP's own default.
inline void use_threads(int n) {
#if defined(_OPENMP)
  if (n > 0) omp_set_num_threads(n);
#else
  (void)n;
#endif
}

/// f(i, slot) for i in [0, n), in any order; slot < available_threads() names the scratch memory of the thread.
template <class F>
void for_each(Eigen::Index n, const F& f) {
#if defined(_OPENMP)
#pragma omp parallel for schedule(dynamic, 1)
  for (Eigen::Index i = 0; i < n; ++i) f(i, omp_get_thread_num());
#else
  for (Eigen::Index i = 0; i < n; ++i) f(i, 0);
#endif
}

}  // namespace pretrain
