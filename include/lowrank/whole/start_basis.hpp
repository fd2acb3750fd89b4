// The first basis of methods that then move it themselves: block iteration from a Gaussian.
#pragma once

#include <lowrank/core/rng.hpp>
#include <lowrank/linalg/orth.hpp>
#include <lowrank/whole/whole.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

/// T <- T / ||T|| (r x k), so that the next product stays in range; stage.partial holds ||T||^2 per tile. False when it is
/// zero.
template <class S, class K>
bool normalise_core(const Stage<S, K>& stage, S* core, Index r) {
  const double square = stage.sum();
  if (!(square > 0) || !is_finite(square)) return false;
  K::combine(r * stage.k, 1 / std::sqrt(square), core, 0.0, core, core);
  return true;
}

/// core <- P^T A for a packed P, stage.partial its energy per tile.
template <class S, class K>
void project_core(const Stage<S, K>& stage, const linalg::PackedBasis<S, K>& packed, S* core) {
  stage.for_tiles([&](Index t, Index j0, Index w, int slot) {
    packed.project(stage.a, j0, w, core + j0 * packed.r, nullptr, stage.team[slot]);
    stage.partial[t] = K::sum_squares(packed.r * w, core + j0 * packed.r);
  });
}

/// P (d x r) <- orth(A Z), Z Gaussian, and four sweeps of orth(A (A^T P)). core: r x k of workspace. False for a gradient
/// of zeros.
template <class S, class K>
bool start_basis(const Stage<S, K>& stage, S* P, S* core, std::uint64_t seed, linalg::PackedBasis<S, K>& packed,
                 const linalg::Orth<S, K>& orth) {
  const Index d = stage.d, k = stage.k, r = packed.r;
  fill_normal(core, r * k, seed, 0, 0);
  for (int sweep = 0; sweep < 5; ++sweep) {
    linalg::gemm<K>(d, r, k, stage.a, linalg::transposed<K, S>(core, r), P, d, stage.team);
    orth(P, stage.team);
    if (sweep == 4) break;
    packed.pack_down(linalg::transposed<K, S>(P, d), stage.team);
    project_core(stage, packed, core);
    if (!normalise_core(stage, core, r)) return false;
  }
  return true;
}

}  // namespace detail
}  // namespace lowrank
