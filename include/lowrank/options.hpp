// Every option of every policy, with its default and where that comes from. Plain aggregates over std only: shared by
// the CPU library, device code, command lines and files. Options may be read and changed between steps, except rank and
// side, which fix the shape of the state.
//
// Each policy has a name and lists its fields once, visit(o, f) calling f(name, field): what files compare and print.
#pragma once

#include <cstdint>   // std::int64_t, std::uint64_t
#include <optional>  // std::optional

#include <lowrank/core/abi.hpp>

namespace lowrank::inline LOWRANK_ABI {

// -- where the gradient lives -----------------------------------------------------------------------------------------

/// The dimension of an m x n gradient that is projected. Smaller: n when m >= n, otherwise m (GaLore's "std").
/// Larger: the other one ("reverse_std"). Left: m, R = P^T G. Right: n, R^T = P^T G^T.
enum class Side { Smaller, Larger, Left, Right };

/// What becomes of the moments when the basis changes. Keep: nothing, as published by GaLore, Fira and APOLLO. Reset:
/// zero, and the rule counts steps anew (FRUGAL, GRASS). Rotate: into the new coordinates, M by C = P_new^T P_old and V
/// by C o C with the variance correction (LDAdam, arXiv 2410.16103); for an index basis C is a partial permutation,
/// so this is a gather.
enum class Transport { Keep, Reset, Rotate };

/// The gradient as it is: plain AdamW, SGD or Lion.
struct Identity {
  static constexpr const char* name = "identity";
  static void visit(auto&, auto&&) {}
};

/// Warm-started block subspace iteration: P <- orth(A (A^T P)), cold-started by a randomized range finder
/// (Halko, Martinsson, Tropp 2011, alg. 4.4). The default projector: within a percent of the SVD's captured energy at
/// about a hundredth of its cost, and never below the basis it replaces.
struct Subspace {
  std::int64_t rank = 128;
  Side side = Side::Smaller;
  std::int64_t refresh_every = 200;  // steps
  std::int64_t phase = 0;            // refresh when (steps + phase) is a multiple of refresh_every: staggers layers
  double refresh_on_drift = 0;       // also refresh once captured energy fell by this fraction since; 0: never
  Transport transport = Transport::Rotate;
  std::int64_t sweeps = 1;           // of warm iteration per refresh
  std::uint64_t seed = 0;            // of the cold start

  static constexpr const char* name = "subspace";
  static void visit(auto& o, auto&& f) {
    f("rank", o.rank), f("side", o.side), f("refresh_every", o.refresh_every), f("phase", o.phase);
    f("refresh_on_drift", o.refresh_on_drift), f("transport", o.transport), f("sweeps", o.sweeps);
    f("seed", o.seed);
  }
};

/// Leading singular vectors, exactly: GaLore's projector (arXiv 2403.03507) and the slow reference here.
struct Svd {
  std::int64_t rank = 128;
  Side side = Side::Smaller;
  std::int64_t refresh_every = 200;
  std::int64_t phase = 0;
  double refresh_on_drift = 0;
  Transport transport = Transport::Keep;

  static constexpr const char* name = "svd";
  static void visit(auto& o, auto&& f) {
    f("rank", o.rank), f("side", o.side), f("refresh_every", o.refresh_every), f("phase", o.phase);
    f("refresh_on_drift", o.refresh_on_drift), f("transport", o.transport);
  }
};

/// Both sides at once, R = P^T A Q (r x r): GaLore's proj_type "full". Moments stay as they are (published).
struct TwoSidedSvd {
  std::int64_t rank = 128;
  std::int64_t refresh_every = 200;
  std::int64_t phase = 0;

  static constexpr const char* name = "two_sided_svd";
  static void visit(auto& o, auto&& f) {
    f("rank", o.rank), f("refresh_every", o.refresh_every), f("phase", o.phase);
  }
};

/// P with independent N(0, 1/r) entries (APOLLO, arXiv 2412.05270): regenerated from seed and refresh count, not stored.
struct Gaussian {
  std::int64_t rank = 128;
  Side side = Side::Smaller;
  std::int64_t refresh_every = 200;
  std::int64_t phase = 0;
  Transport transport = Transport::Keep;
  std::uint64_t seed = 0;

  static constexpr const char* name = "gaussian";
  static void visit(auto& o, auto&& f) {
    f("rank", o.rank), f("side", o.side), f("refresh_every", o.refresh_every), f("phase", o.phase);
    f("transport", o.transport), f("seed", o.seed);
  }
};

/// Basis vectors of the cosine transform. Cosines: b_k(j) = cos(pi k (2j+1) / 2N), coefficients are the DCT-II.
/// Transposed: the columns of that matrix, coefficients are the DCT-III; what the published DCT-AdamW uses by default.
enum class DctBasis { Cosines, Transposed };
/// How a coefficient is scored over all columns: sum of |s| (published) or of s^2 (least residual energy).
enum class Score { L1, L2 };
/// Fast: fast transforms forward and back, cost independent of rank. Selected: products with the r chosen cosine
/// vectors, regenerated as workspace. Auto: whichever needs fewer operations.
enum class DctRoute { Auto, Fast, Selected };
/// On a refresh the coefficients are needed twice: computed twice, or kept in d x k scalars of workspace.
enum class Spectrum { Recompute, Store };

/// The r columns of the orthonormal DCT with the largest scores (DCT-AdamW, arXiv 2505.17967). Stores r indices.
struct Dct {
  std::int64_t rank = 128;
  Side side = Side::Smaller;
  std::int64_t refresh_every = 1;
  std::int64_t phase = 1;  // t = 1, T, 2T, ... as published
  double refresh_on_drift = 0;
  Transport transport = Transport::Rotate;
  DctBasis basis = DctBasis::Cosines;
  Score score = Score::L1;
  DctRoute route = DctRoute::Auto;
  Spectrum spectrum = Spectrum::Recompute;

  static constexpr const char* name = "dct";
  static void visit(auto& o, auto&& f) {
    f("rank", o.rank), f("side", o.side), f("refresh_every", o.refresh_every), f("phase", o.phase);
    f("refresh_on_drift", o.refresh_on_drift), f("transport", o.transport), f("basis", o.basis);
    f("score", o.score), f("route", o.route), f("spectrum", o.spectrum);
  }
};

// -- what happens there -----------------------------------------------------------------------------------------------

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

// -- how the update comes back ----------------------------------------------------------------------------------------

/// W <- W - lr scale P N.
struct BackProject {
  double scale = 1;

  static constexpr const char* name = "back_project";
  static void visit(auto& o, auto&& f) { f("scale", o.scale); }
};

/// Norm-growth limiter (Fira, arXiv 2410.01623, eq. 9): the norm may grow by gamma a step. gamma = infinity: off. The
/// reference norm never falls below floor; without one, an almost zero early gradient lets it creep up from there by
/// 1 % a step. A norm of exactly zero never becomes the reference.
struct Limiter {
  double gamma = 1.01, floor = 0;

  static void visit(auto& o, auto&& f) { f("gamma", o.gamma), f("floor", o.floor); }
};

/// Code: alpha P N + phi (G - alpha P P^T G), limiter on raw norms. Paper: alpha (P N + phi (I - P P^T) G), limiter on
/// bias-corrected norms.
enum class FiraForm { Code, Paper };

/// Fira: what the projection loses returns, scaled per column by phi_j = ||N_j|| / ||R_j||.
struct Residual {
  double scale = 1;
  FiraForm form = FiraForm::Code;
  Limiter limiter = {};

  static constexpr const char* name = "residual";
  static void visit(auto& o, auto&& f) { f("scale", o.scale), f("form", o.form), Limiter::visit(o.limiter, f); }
};

enum class Granularity { Channel, Tensor };
/// Whether sqrt(scale) multiplies before the limiter ("scale_front") or after it.
enum class ScaleOrder { AfterLimiter, BeforeLimiter };

/// APOLLO: the update is the whole gradient, scaled per column (or by one number) by ||N|| / ||R||, times sqrt(scale).
struct ChannelScale {
  double scale = 1;
  Granularity granularity = Granularity::Channel;
  ScaleOrder scale_order = ScaleOrder::AfterLimiter;
  Limiter limiter = {};

  static constexpr const char* name = "channel_scale";
  static void visit(auto& o, auto&& f) {
    f("scale", o.scale), f("granularity", o.granularity), f("scale_order", o.scale_order);
    Limiter::visit(o.limiter, f);
  }
};

/// What the projection loses is added to the next gradient: E <- A - P R, A = G + E. Keeps d x k scalars, in the
/// transform's domain where the projector has one.
struct ErrorFeedback {
  static constexpr const char* name = "error_feedback";
  static void visit(auto&, auto&&) {}
};

// -- one step ---------------------------------------------------------------------------------------------------------

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
