// Control: what one optimizer keeps and decides on the device, so that a step needs no answer from it. Numbers that change with a
// step are read from here, not from a kernel's arguments: a captured step can be replayed with others.
#pragma once

#include <optional>

#include <lowrank/cuda/backend.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// What a step says of itself; as the CPU library's.
struct Report {
  bool skipped = false;    // the gradient was not finite, or its square overflows: nothing was changed
  bool refreshed = false;  // the basis was renewed in this step
  double captured = 1;     // ||R||^2 / ||A||^2 (0 when A = 0)
  double drift = 0;        // 1 - captured / (captured when the basis was made)
  double grad_norm = 0;    // ||A||_F; 0 where it was not computed: Identity with a Step::grad_norm
};

/// W <- after (before W - move U).
struct Motion {
  double gain = 1, before = 1, after = 1;
  double root = 1;  // sqrt(1 - beta2^t)
};

template <class S>
struct Control {
  /// Written by the host before a step.
  struct Input {
    double lr = 0, grad_scale = 1;
    double grad_norm = -1;  // of the unscaled gradient; negative: not known
    std::uint64_t seed = 0;
    int stochastic = 0;
    S intake[4] = {1, 0, 1, 1};  // alpha and beta of products with the gradient; the same, added to what is there

    Input() = default;
    explicit Input(const Step& s)
        : lr(s.lr), grad_scale(s.grad_scale), grad_norm(s.grad_norm.value_or(-1)), seed(s.seed),
          stochastic(s.rounding == Rounding::Stochastic), intake{S(s.grad_scale), S(0), S(s.grad_scale), S(1)} {}
  };
  /// Kept between steps, under the names of the state file.
  struct Kept {
    std::uint64_t steps = 0, rule_steps = 0, refreshes = 0, refresh_pending = 1;
    double captured_at_refresh = 0;
    S limited_norm = 0;
  };

  Input input = {};
  Kept kept = {};

  // of the step in progress
  int go = 0, commit = 0;         // the step happens; the candidate becomes the basis
  int moved = 0;                  // the rule has moments that move with the basis
  std::uint64_t step = 0;         // steps before this one: the key of stochastic rounding
  std::uint64_t rule_step = 0;    // the rule's, this one included
  std::uint64_t drawing = 0;      // which of a random projector's bases is in use
  Motion motion = {};
  double move = 0;                // lr gain
  double c1 = 1, c2 = 1;          // bias corrections of the moments before this step
  S write[2] = {0, 1};            // alpha and beta of W <- alpha P N + beta W
  S write_momentum[2] = {0, 1};   // alpha and beta of Dion's B <- B - (1 - mu) P R
  double norm = 0;                // scratch of a refresh: ||R||^2
  S inverse_norm = 0;             // 1 / ||R||, or 0
  S kept_factor = 0;              // Residual: -scale / c
  Report report = {};
};

/// A square of this size fits S. NaN and infinity do not.
template <class S>
LOWRANK_HOST_DEVICE bool usable(double energy) {
  constexpr double largest = sizeof(S) == 4 ? 3.4028234663852886e38 : 1.7976931348623157e308;
  return is_finite(energy) && energy <= largest;
}

}  // namespace cuda
}  // namespace lowrank
