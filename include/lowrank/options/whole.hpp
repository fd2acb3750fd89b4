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

}  // namespace lowrank
