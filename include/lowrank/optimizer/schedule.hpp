// Learning-rate schedules and clipping, as plain functions of the step:
//   lr = peak * warmup(t, 100) * cosine(t, steps, 0.1);   grad_scale = clip(norm, 1.0);
#pragma once

#include <cmath>    // std::cos
#include <cstdint>  // std::int64_t

#include <lowrank/core/error.hpp>

namespace lowrank::inline LOWRANK_ABI {

/// (t + 1) / steps for the first `steps` steps t = 0, 1, ..; then 1. The first step does move.
inline double warmup(std::int64_t t, std::int64_t steps) { return t + 1 < steps ? double(t + 1) / double(steps) : 1.0; }

/// From 1 at t = 0 to `final` at t = steps along half a cosine, and `final` from there on.
inline double cosine(std::int64_t t, std::int64_t steps, double final = 0) {
  const double x = t >= steps ? 1.0 : t <= 0 ? 0.0 : double(t) / double(steps);
  return final + (1 - final) * 0.5 * (1 + std::cos(3.14159265358979323846 * x));
}

/// The factor that brings a gradient of this norm down to `most`: Step::grad_scale. A norm that is not finite gives 1: the
/// step, which is given the norm too, skips.
inline double clip(double norm, double most) { return detail::is_finite(norm) && norm > most ? most / norm : 1.0; }

}  // namespace lowrank
