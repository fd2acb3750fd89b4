// Options of the rules: what happens in the projected coordinates.
#pragma once

#include <algorithm>  // std::max
#include <cmath>      // std::sqrt
#include <cstdint>    // std::uint64_t

#include <lowrank/core/abi.hpp>

namespace lowrank::inline LOWRANK_ABI {

/// N = M / (sqrt(V) + eps). BeforeCorrection: as written, on raw moments (GaLore, Fira, APOLLO).
/// AfterCorrection: eps is added to the corrected sqrt(V / bc2) (Adam's paper, PyTorch).
enum class Epsilon { AfterCorrection, BeforeCorrection };
/// W <- (1 - lr wd) W before the update (PyTorch) or after it, decaying the update too (GaLore, Fira, APOLLO).
enum class DecayOrder { BeforeUpdate, AfterUpdate };
/// Whether moments are divided by 1 - beta^t.
enum class BiasCorrection { On, Off };

/// Adam with decoupled weight decay (arXiv 1711.05101); defaults are PyTorch's, without decay.
struct AdamW {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  Epsilon epsilon = Epsilon::AfterCorrection;
  DecayOrder decay_order = DecayOrder::BeforeUpdate;
  BiasCorrection bias_correction = BiasCorrection::On;

  static constexpr const char* name = "adamw";
  static void visit(auto& o, auto&& f) {
    f("beta1", o.beta1), f("beta2", o.beta2), f("eps", o.eps), f("weight_decay", o.weight_decay);
    f("epsilon", o.epsilon), f("decay_order", o.decay_order), f("bias_correction", o.bias_correction);
  }
};

enum class Momentum { Heavy, Nesterov };

/// M <- momentum M + (1 - dampening) R; direction M, or R + momentum M. Decay before the update.
struct Sgd {
  double momentum = 0, dampening = 0, weight_decay = 0;
  Momentum form = Momentum::Heavy;

  static constexpr const char* name = "sgd";
  static void visit(auto& o, auto&& f) {
    f("momentum", o.momentum), f("dampening", o.dampening), f("weight_decay", o.weight_decay), f("form", o.form);
  }
};

/// direction sign(b1 M + (1-b1) R), then M <- b2 M + (1-b2) R (arXiv 2302.06675). Decay before the update.
struct Lion {
  double beta1 = 0.9, beta2 = 0.99, weight_decay = 0;

  static constexpr const char* name = "lion";
  static void visit(auto& o, auto&& f) {
    f("beta1", o.beta1), f("beta2", o.beta2), f("weight_decay", o.weight_decay);
  }
};

/// Coefficients of the Newton-Schulz iteration; five steps each. Images of singular values in [0.01, 1]: Quintic [0.68, 1.14]
/// (Muon), Tuned [0.97, 1.04] (Dion's), PolarExpress [0.85, 1.15] (arXiv 2505.16932; the only one that also lifts 0.001).
enum class Polynomial { Quintic, Tuned, PolarExpress };
/// What an orthogonal update of an m x n (fan_out x fan_in) weight is multiplied by. Spectral: sqrt(m / n) (Dion).
/// Tall: sqrt(max(1, m / n)) (Muon). Rms: 0.2 sqrt(max(m, n)), the size of an AdamW update (Moonlight).
enum class ShapeScale { None, Tall, Rms, Spectral };

/// The factor for a weight of this shape.
inline double shape_factor(ShapeScale scale, double fan_out, double fan_in) {
  if (scale == ShapeScale::Tall) return std::sqrt(std::max(1.0, fan_out / fan_in));
  if (scale == ShapeScale::Rms) return 0.2 * std::sqrt(std::max(fan_out, fan_in));
  if (scale == ShapeScale::Spectral) return std::sqrt(fan_out / fan_in);
  return 1;
}

/// M <- momentum M + R; N = the orthogonal factor of M, or of R + momentum M. Decay before the update. With the identity
/// projector this is Muon. Needs the whole R at once.
struct Orthogonal {
  double momentum = 0.95, weight_decay = 0;
  Momentum form = Momentum::Nesterov;
  Polynomial polynomial = Polynomial::Quintic;
  ShapeScale shape_scale = ShapeScale::Tall;

  static constexpr const char* name = "orthogonal";
  static void visit(auto& o, auto&& f) {
    f("momentum", o.momentum), f("weight_decay", o.weight_decay), f("form", o.form), f("polynomial", o.polynomial);
    f("shape_scale", o.shape_scale);
  }
};

/// V <- beta V + (1 - beta) R o R, N = R / (sqrt(V) + eps), then N's momentum. No bias correction; decay before the update.
/// Defaults: Fira's code (PyTorch: beta 0.99, eps 1e-8).
struct RmsProp {
  double beta = 0.9, eps = 1e-6, momentum = 0, weight_decay = 0;

  static constexpr const char* name = "rmsprop";
  static void visit(auto& o, auto&& f) {
    f("beta", o.beta), f("eps", o.eps), f("momentum", o.momentum), f("weight_decay", o.weight_decay);
  }
};

/// Adafactor (arXiv 1804.04235) with a given learning rate: V as an outer product of its row and column means, the
/// direction clipped to a root mean square of `clip`. beta1 = 0: no first moment. Decay before the update.
struct Adafactor {
  double beta1 = 0, decay_power = 0.8;  // beta2 = 1 - t^-decay_power
  double eps = 1e-30, clip = 1, weight_decay = 0;

  static constexpr const char* name = "adafactor";
  static void visit(auto& o, auto&& f) {
    f("beta1", o.beta1), f("decay_power", o.decay_power), f("eps", o.eps), f("clip", o.clip);
    f("weight_decay", o.weight_decay);
  }
};

/// AdamW with moments of one byte in blocks of 256 with a scale each: M a signed square-root code, V a fourth-root code,
/// stochastically rounded so that it neither sticks nor vanishes. weight_decay: GaLoreAdamW8bit's is 0.01.
struct Adam8bit {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  Epsilon epsilon = Epsilon::AfterCorrection;
  DecayOrder decay_order = DecayOrder::BeforeUpdate;
  std::uint64_t seed = 0;  // of the rounding

  static constexpr const char* name = "adam8bit";
  static void visit(auto& o, auto&& f) {
    f("beta1", o.beta1), f("beta2", o.beta2), f("eps", o.eps), f("weight_decay", o.weight_decay);
    f("epsilon", o.epsilon), f("decay_order", o.decay_order), f("seed", o.seed);
  }
};

/// AdamW with both moments in bf16, stochastically rounded: rounded to nearest, V would never decay at beta2 = 0.999.
struct AdamBf16 {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  Epsilon epsilon = Epsilon::AfterCorrection;
  DecayOrder decay_order = DecayOrder::BeforeUpdate;
  std::uint64_t seed = 0;  // of the rounding

  static constexpr const char* name = "adam_bf16";
  static void visit(auto& o, auto&& f) {
    f("beta1", o.beta1), f("beta2", o.beta2), f("eps", o.eps), f("weight_decay", o.weight_decay);
    f("epsilon", o.epsilon), f("decay_order", o.decay_order), f("seed", o.seed);
  }
};

}  // namespace lowrank
