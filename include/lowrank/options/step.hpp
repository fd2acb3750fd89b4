// Options of one step.
#pragma once

#include <cstdint>   // std::uint64_t
#include <optional>  // std::optional

#include <lowrank/core/abi.hpp>

namespace lowrank::inline LOWRANK_ABI {

/// How a result is rounded into bf16 or half weights.
enum class Rounding { Nearest, Stochastic };

struct Step {
  double lr = 0;                              // learning rate of this step
  double grad_scale = 1;                      // multiplies the gradient, e.g. clip(norm, 1.0)
  std::optional<double> grad_norm = {};       // of the unscaled gradient(s), if you have it: serves as the finite test
  Rounding rounding = Rounding::Nearest;      // of weights stored in bf16 or half
  std::uint64_t seed = 0;                     // of stochastic rounding, together with step count and element
};

}  // namespace lowrank
