// What a step says of itself. All of it falls out of the step's own arithmetic.
#pragma once

#include <cstdint>  // std::uint64_t

#include <lowrank/core/error.hpp>

namespace lowrank::inline LOWRANK_ABI {

struct Report {
  bool skipped = false;    // the gradient was not finite, or its square overflows: nothing was changed
  bool refreshed = false;  // the basis was renewed in this step
  double captured = 1;     // ||R||^2 / ||A||^2: the fraction of the gradient's energy the projection kept (0 when A = 0)
  Index wants_rank = 0;    // the rank AdaptiveRank::energy asks for, as of the last refresh; 0: not asked
  double drift = 0;        // 1 - captured / (captured when the basis was made)
  double grad_norm = 0;    // ||A||_F, the gradient as it was projected (scaled, with fed back errors); 0 where it was not
                           // computed: Identity with a Step::grad_norm
};

}  // namespace lowrank
