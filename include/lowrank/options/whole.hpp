// Options of the whole optimizers: methods whose papers couple projection, rule and return so that they do not factor.
#pragma once

#include <lowrank/options/projector.hpp>
#include <lowrank/options/rule.hpp>

namespace lowrank::inline LOWRANK_ABI {

/// In the place of the rule and of the lift: the method has its own.
struct Coupled {
  static constexpr const char* name = "coupled";
  static void visit(auto&, auto&&) {}
};

/// Where Trion's momentum lives. Transform: as coefficients, one forward transform a step. Gradient: as published, which
/// takes two forward transforms and one back; the same numbers up to rounding.
enum class MomentumDomain { Transform, Gradient };

/// Trion (arXiv 2505.17967): B = M + G; of B's cosine coefficients the r rows with the largest L1 norm are orthogonalised and
/// move the weight, and keep mu of themselves in the momentum. Published: Transposed on the right, Cosines on the left.
struct Trion {
  std::int64_t rank = 128;
  Side side = Side::Smaller;
  double mu = 0.95, weight_decay = 0;
  Polynomial polynomial = Polynomial::Quintic;
  ShapeScale shape_scale = ShapeScale::Tall;
  DctBasis basis = DctBasis::Cosines;
  MomentumDomain domain = MomentumDomain::Transform;

  static constexpr const char* name = "trion";
  static void visit(auto& o, auto&& f) {
    f("rank", o.rank), f("side", o.side), f("mu", o.mu), f("weight_decay", o.weight_decay), f("polynomial", o.polynomial);
    f("shape_scale", o.shape_scale), f("basis", o.basis), f("domain", o.domain);
  }
};

/// Dion2 (arXiv 2512.16928): the same on the rows of the momentum themselves. rank_fraction > 0: the rank is that part of
/// the dimension, rounded up, whatever `rank` says (published: 0.25).
struct Dion2 {
  std::int64_t rank = 128;
  double rank_fraction = 0;
  Side side = Side::SmallerLeft;
  double mu = 0.95, weight_decay = 0.01;
  Polynomial polynomial = Polynomial::PolarExpress;
  ShapeScale shape_scale = ShapeScale::Spectral;

  static constexpr const char* name = "dion2";
  static void visit(auto& o, auto&& f) {
    f("rank", o.rank), f("rank_fraction", o.rank_fraction), f("side", o.side), f("mu", o.mu);
    f("weight_decay", o.weight_decay), f("polynomial", o.polynomial), f("shape_scale", o.shape_scale);
  }
};

/// Dion (arXiv 2504.05295): a rank-r orthogonal update from one power iteration of the momentum, started at the last step's.
struct Dion {
  std::int64_t rank = 128;
  double rank_fraction = 0;
  Side side = Side::Larger;  // P lives along the larger dimension, Q along the other (published)
  double mu = 0.95, weight_decay = 0.01;
  ShapeScale shape_scale = ShapeScale::Spectral;
  std::uint64_t seed = 0;  // of the first Q

  static constexpr const char* name = "dion";
  static void visit(auto& o, auto&& f) {
    f("rank", o.rank), f("rank_fraction", o.rank_fraction), f("side", o.side), f("mu", o.mu);
    f("weight_decay", o.weight_decay), f("shape_scale", o.shape_scale), f("seed", o.seed);
  }
};

enum class Feedback { On, Off };

/// LDAdam (arXiv 2410.16103): the basis takes one power step on a mixture of momentum and gradient every step, the moments
/// move with it, and what the projection and the rotation lose is fed back. Defaults: its code.
struct LdAdam {
  std::int64_t rank = 16;
  Side side = Side::SmallerLeft;
  double beta1 = 0.908, beta2 = 0.99, eps = 1e-8, weight_decay = 0;
  double rho = 0.908;  // share of the momentum in the mixture
  Feedback feedback = Feedback::On;
  std::uint64_t seed = 0;  // of the first basis

  static constexpr const char* name = "ldadam";
  static void visit(auto& o, auto&& f) {
    f("rank", o.rank), f("side", o.side), f("beta1", o.beta1), f("beta2", o.beta2), f("eps", o.eps);
    f("weight_decay", o.weight_decay), f("rho", o.rho), f("feedback", o.feedback), f("seed", o.seed);
  }
};

/// Online Subspace Descent (arXiv 2408.12857): the basis takes one Adam step a step on ||P P^T A - A||^2 / ||A||^2 and is never
/// orthonormalised again. Defaults: its code, but without weight decay on the basis (there 0.01, from PyTorch's default).
struct OnlineSubspace {
  std::int64_t rank = 128;
  Side side = Side::Smaller;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-6, weight_decay = 0;
  double scale = 0.25;
  double basis_lr = 0.005;  // at the first learning rate; follows it afterwards (published: 1 / 200). With a warm-up the first
                            // rate is small: multiply by its share of the peak, or the basis runs away as the rate rises
  double basis_beta1 = 0.9, basis_beta2 = 0.999, basis_eps = 1e-8, basis_weight_decay = 0;
  std::uint64_t seed = 0;  // of the first basis

  static constexpr const char* name = "online_subspace";
  static void visit(auto& o, auto&& f) {
    f("rank", o.rank), f("side", o.side), f("beta1", o.beta1), f("beta2", o.beta2), f("eps", o.eps);
    f("weight_decay", o.weight_decay), f("scale", o.scale), f("basis_lr", o.basis_lr), f("basis_beta1", o.basis_beta1);
    f("basis_beta2", o.basis_beta2), f("basis_eps", o.basis_eps), f("basis_weight_decay", o.basis_weight_decay);
    f("seed", o.seed);
  }
};

/// FLORA (arXiv 2402.03293): Adafactor whose momentum lives in r random dimensions, drawn anew every refresh_every steps.
struct Flora {
  std::int64_t rank = 128;
  Side side = Side::Smaller;
  std::int64_t refresh_every = 1000;
  double beta1 = 0.9, decay_power = 0.8;  // beta2 = 1 - t^-decay_power
  double eps = 1e-30, clip = 1, weight_decay = 0;
  std::uint64_t seed = 0;

  static constexpr const char* name = "flora";
  static void visit(auto& o, auto&& f) {
    f("rank", o.rank), f("side", o.side), f("refresh_every", o.refresh_every), f("beta1", o.beta1);
    f("decay_power", o.decay_power), f("eps", o.eps), f("clip", o.clip), f("weight_decay", o.weight_decay), f("seed", o.seed);
  }
};

}  // namespace lowrank
