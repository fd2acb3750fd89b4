// The indices of the r largest scores, ascending; equal scores go to the lower index, so the choice is a function of
// the scores alone.
#pragma once

#include <algorithm>  // std::nth_element, std::sort
#include <cstdint>    // std::int32_t
#include <numeric>    // std::iota

#include <lowrank/core/error.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

/// work: n indices; out: r of them, ascending. Scores must not be NaN.
inline void top_k(const double* score, Index n, Index r, std::int32_t* work, std::int32_t* out) {
  std::iota(work, work + n, 0);
  if (r < n)
    std::nth_element(work, work + r, work + n, [score](std::int32_t a, std::int32_t b) {
      return score[a] != score[b] ? score[a] > score[b] : a < b;
    });
  std::sort(work, work + r);
  std::copy(work, work + r, out);
}

}  // namespace linalg
}  // namespace lowrank
