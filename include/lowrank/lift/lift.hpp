// Lift: how the update comes back. Given R and the direction N of every tile, a lift says what moves the weight,
//   W_J <- after (before W_J - lr gain (P coef_J + A_J diag(phi_J))).
//
// LiftState<Options, S, K> is the state of lift `Options`; r x k is the shape of R, d x k that of A. The optimizer reads
//
//   uses_projection   coef is there: N is turned into it in place by coefficients(r, w, R, N, phi)
//   uses_gradient     phi is there: measure() fills it, limit() has the last word on it
//   needs_core        R must survive next to N
//   keeps_error       the projector's keep() writes error() (d x k), which is part of the next A
//   uses_remainder    (optional) adds to U what remain(n, A, P R, out) makes of A and P R, block by block; R survives
//
//   TileSums measure(w, r, R, N, energy, phi)   per tile, before anything is written
//   void limit(sums, gain, k, phi)              once, with the tiles' sums added in order
#pragma once

#include <cmath>  // std::sqrt

#include <lowrank/linalg/gemm.hpp>
#include <lowrank/options.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class Options, class S, class K>
class LiftState;

namespace detail {

/// Partial results of a tile; summed over tiles in order.
struct TileSums {
  double squared_norm = 0;  // of the vector the limiter bounds
  double direction = 0;     // ||N||^2
  double core = 0;          // ||R||^2
  double gradient = 0;      // ||A||^2

  TileSums& operator+=(const TileSums& o) {
    squared_norm += o.squared_norm, direction += o.direction, core += o.core, gradient += o.gradient;
    return *this;
  }
};

/// Lifts that scale the gradient share the norm-growth limiter: given the norm x of this step,
///   c = max(x / (L + 1e-8), gamma) / gamma,   L <- max(x / c, floor),   update / c.
/// L is the limited norm of the step before. Until a norm is positive there is nothing to limit by.
template <class S>
class GrowthLimit {
 public:
  double operator()(const Limiter& o, double x) {
    const bool off = o.gamma > 1e300 || norm_ == 0;
    const double c = off ? 1.0 : std::max(x / (double(norm_) + 1e-8), o.gamma) / o.gamma;
    if (x > 0) norm_ = S(std::max(x / c, o.floor));
    return c;
  }
  static void visit(auto& self, auto&& f) { f("limited_norm", self.norm_); }

 private:
  S norm_ = 0;
};

inline void check_limiter(const char* who, const Limiter& o) {
  if (!(o.gamma > 0) || is_nan(o.gamma)) bad_argument(who, "limiter.gamma = " + std::to_string(o.gamma), "gamma > 0 (infinity: off)");
  if (!(o.floor >= 0 && o.floor < 1e30) || !is_finite(o.floor))
    bad_argument(who, "limiter.floor = " + std::to_string(o.floor), "a finite floor >= 0");
}

inline void check_scale(const char* who, double scale) {
  if (!(scale >= 0 && scale < 1e30) || !is_finite(scale)) bad_argument(who, "scale = " + std::to_string(scale), "a finite number >= 0");
}

}  // namespace detail
}  // namespace lowrank
