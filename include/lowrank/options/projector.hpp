// Options of the projectors: where the gradient lives.
#pragma once

#include <cstdint>   // std::int64_t, std::uint64_t

#include <lowrank/options/storage.hpp>

namespace lowrank::inline LOWRANK_ABI {

/// The dimension of an m x n gradient that is projected. Smaller: n when m >= n, otherwise m (GaLore's "std").
/// Larger: the other one ("reverse_std"). Left: m, R = P^T G. Right: n, R^T = P^T G^T. SmallerLeft: as Smaller, but m when
/// m = n (LDAdam, Dion2).
enum class Side { Smaller, Larger, Left, Right, SmallerLeft };

/// What becomes of the moments when the basis changes. Keep: nothing, as published by GaLore, Fira and APOLLO. Reset:
/// zero, and the rule counts steps anew (FRUGAL, GRASS). Rotate: into the new coordinates, M by C = P_new^T P_old and V
/// by C o C with the variance correction (LDAdam, arXiv 2410.16103); for an index basis C is a partial permutation,
/// so this is a gather.
enum class Transport { Keep, Reset, Rotate };

/// A rank that adapts between steps. energy > 0: the state keeps what each coordinate held of the gradient's energy at the
/// last refresh (8 bytes each), and reports name the least rank that would have held this share of it; a rank that is within
/// `hysteresis` of it, as a fraction, is left alone. Optimizer::set_rank and Fleet::rebalance act on it.
struct AdaptiveRank {
  double energy = 0;  // 0: off
  double hysteresis = 0.1;

  static void visit(auto& o, auto&& f) { f("adapt.energy", o.energy), f("adapt.hysteresis", o.hysteresis); }
};

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
  AdaptiveRank adapt = {};

  static constexpr const char* name = "subspace";
  static void visit(auto& o, auto&& f) {
    f("rank", o.rank), f("side", o.side), f("refresh_every", o.refresh_every), f("phase", o.phase);
    f("refresh_on_drift", o.refresh_on_drift), f("transport", o.transport), f("sweeps", o.sweeps);
    f("seed", o.seed), AdaptiveRank::visit(o.adapt, f);
  }
};

/// Subspace with a basis in bf16, and products of bf16 numbers with float sums: half of the memory of P. P, the gradient and the direction
/// are rounded to nearest as they are multiplied, which is at most about 0.24 % of R and of the step. Slower than floats unless one
/// instruction multiplies a pair of such numbers as fast as a float, as Zen 4's does: on Emerald Rapids, whose AVX-512 BF16 has half of the
/// rate of floats, a step takes 1.4 to 1.7 times as long.
struct SubspaceBf16 {
  std::int64_t rank = 128;
  Side side = Side::Smaller;
  std::int64_t refresh_every = 200;
  std::int64_t phase = 0;
  double refresh_on_drift = 0;
  Transport transport = Transport::Rotate;
  std::int64_t sweeps = 1;
  std::uint64_t seed = 0;

  static constexpr const char* name = "subspace_bf16";
  static void visit(auto& o, auto&& f) {
    f("rank", o.rank), f("side", o.side), f("refresh_every", o.refresh_every), f("phase", o.phase);
    f("refresh_on_drift", o.refresh_on_drift), f("transport", o.transport), f("sweeps", o.sweeps), f("seed", o.seed);
  }
};

/// Subspace kept in few bits and refreshed the more rarely the less it moves (Q-GaLore, arXiv 2407.08296): when the last
/// five refreshes found `similar` of the old subspace in the new one, ||P_new^T P_old||_F^2 / r on average, the period is
/// multiplied by `stretch`. storage is fixed at construction.
struct LazySubspace {
  std::int64_t rank = 128;
  Side side = Side::Smaller;
  std::int64_t refresh_every = 200;  // to begin with
  std::int64_t phase = 0;
  Transport transport = Transport::Keep;
  Storage storage = Storage::Int4;
  double similar = 0.4, stretch = 2;
  std::int64_t sweeps = 1;
  std::uint64_t seed = 0;

  static constexpr const char* name = "lazy_subspace";
  static void visit(auto& o, auto&& f) {
    f("rank", o.rank), f("side", o.side), f("refresh_every", o.refresh_every), f("phase", o.phase);
    f("transport", o.transport), f("storage", o.storage), f("similar", o.similar), f("stretch", o.stretch);
    f("sweeps", o.sweeps), f("seed", o.seed);
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
  AdaptiveRank adapt = {};

  static constexpr const char* name = "dct";
  static void visit(auto& o, auto&& f) {
    f("rank", o.rank), f("side", o.side), f("refresh_every", o.refresh_every), f("phase", o.phase);
    f("refresh_on_drift", o.refresh_on_drift), f("transport", o.transport), f("basis", o.basis);
    f("score", o.score), f("route", o.route), f("spectrum", o.spectrum), AdaptiveRank::visit(o.adapt, f);
  }
};

/// P = orth(Z), Z Gaussian: a uniformly random subspace, another at every refresh (GoLore's second half; FRUGAL's "random").
struct RandomOrthogonal {
  std::int64_t rank = 128;
  Side side = Side::Smaller;
  std::int64_t refresh_every = 200;
  std::int64_t phase = 0;
  Transport transport = Transport::Rotate;
  std::uint64_t seed = 0;

  static constexpr const char* name = "random_orthogonal";
  static void visit(auto& o, auto&& f) {
    f("rank", o.rank), f("side", o.side), f("refresh_every", o.refresh_every), f("phase", o.phase);
    f("transport", o.transport), f("seed", o.seed);
  }
};

/// How rows are chosen. Top: the largest scores. Sampled: without replacement, with probabilities as the scores (GRASS,
/// arXiv 2406.17660; unscaled, so that P stays orthonormal). Uniform: a random subset (FRUGAL's "randk" columns).
enum class Selection { Top, Sampled, Uniform };

/// The r rows of the canonical gradient with the largest norms, or a sample of them: P are unit vectors. Stores r indices.
struct Coordinates {
  std::int64_t rank = 128;
  Side side = Side::Smaller;
  std::int64_t refresh_every = 200;
  std::int64_t phase = 0;
  double refresh_on_drift = 0;
  Transport transport = Transport::Reset;
  Selection selection = Selection::Top;
  Score score = Score::L2;
  std::uint64_t seed = 0;

  static constexpr const char* name = "coordinates";
  static void visit(auto& o, auto&& f) {
    f("rank", o.rank), f("side", o.side), f("refresh_every", o.refresh_every), f("phase", o.phase);
    f("refresh_on_drift", o.refresh_on_drift), f("transport", o.transport), f("selection", o.selection);
    f("score", o.score), f("seed", o.seed);
  }
};

/// r of the gradient's singular vectors, sampled without replacement with probabilities as the singular values (SARA).
struct Sara {
  std::int64_t rank = 128;
  Side side = Side::Smaller;
  std::int64_t refresh_every = 200;
  std::int64_t phase = 0;
  Transport transport = Transport::Rotate;
  std::uint64_t seed = 0;

  static constexpr const char* name = "sara";
  static void visit(auto& o, auto&& f) {
    f("rank", o.rank), f("side", o.side), f("refresh_every", o.refresh_every), f("phase", o.phase);
    f("transport", o.transport), f("seed", o.seed);
  }
};

/// Subspace until `random_after` steps, from then on a random orthonormal basis at every refresh: near a minimum the noise
/// outweighs the gradient and leading directions are biased towards it (GoLore, ICML 2025).
struct Golore {
  std::int64_t rank = 128;
  Side side = Side::Smaller;
  std::int64_t refresh_every = 200;
  std::int64_t phase = 0;
  std::int64_t random_after = 10000;  // steps; published: 0.8 of the run
  Transport transport = Transport::Rotate;
  std::int64_t sweeps = 1;
  std::uint64_t seed = 0;

  static constexpr const char* name = "golore";
  static void visit(auto& o, auto&& f) {
    f("rank", o.rank), f("side", o.side), f("refresh_every", o.refresh_every), f("phase", o.phase);
    f("random_after", o.random_after), f("transport", o.transport), f("sweeps", o.sweeps), f("seed", o.seed);
  }
};

/// A basis that moves by one geodesic step per refresh along the gradient of what it loses (SubTrack++, arXiv 2502.01586).
/// step: the angle is step times the largest singular value of the normalised tangent (published: not normalised, so a
/// number between 1e-3 and 1e4 for each model).
struct Geodesic {
  std::int64_t rank = 128;
  Side side = Side::Smaller;
  std::int64_t refresh_every = 200;
  std::int64_t phase = 0;
  double step = 0.5;
  Transport transport = Transport::Rotate;
  std::int64_t sweeps = 1;  // of the cold start
  std::uint64_t seed = 0;   // of the cold start

  static constexpr const char* name = "geodesic";
  static void visit(auto& o, auto&& f) {
    f("rank", o.rank), f("side", o.side), f("refresh_every", o.refresh_every), f("phase", o.phase), f("step", o.step);
    f("transport", o.transport), f("sweeps", o.sweeps), f("seed", o.seed);
  }
};

}  // namespace lowrank
