// Recipes on a device: the functions of lowrank/options/recipe.hpp and lowrank/options/galore.hpp, which have their papers,
// defaults and deviations, for a matrix in device memory.
//
//   auto opt = lowrank::cuda::galore(context, view(w, rows, cols), {.rank = 128});
//   lowrank::cuda::Fleet fleet(context, params, lowrank::galore({.rank = 128}));
//
// A recipe of another kind is written lowrank::Recipe{Dct{}, Lion{}, Residual{}}(context, w). What the CPU has and a device has not throws
// std::invalid_argument or does not compile: moments in few bits that move with the basis (galore_8bit: Transport::Keep only), errors fed
// back in few bits or without Dct, ranks that adapt, two-sided projections, other rules and projectors.
#pragma once

#include <lowrank/cuda/optimizer.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// What Recipe::operator() asks for.
template <class P, class R, class L, class B, class T>
auto make_optimizer(const Recipe<P, R, L>& recipe, B& backend, const View<T>& w) {
  return Optimizer(backend, w, recipe.projector, recipe.rule, recipe.lift);
}

template <class B, class T>
auto adamw(B& backend, const View<T>& w, const AdamW& o = {}) { return lowrank::adamw(o)(backend, w); }
template <class B, class T>
auto lion(B& backend, const View<T>& w, const Lion& o = {}) { return lowrank::lion(o)(backend, w); }

/// P: Subspace, Gaussian or Dct, here and below.
template <class P = Subspace, class B, class T>
auto galore(B& backend, const View<T>& w, const GaloreOptions& o = {}) { return lowrank::galore<P>(o)(backend, w); }
template <class P = Subspace, class B, class T>
auto galore_8bit(B& backend, const View<T>& w, const GaloreOptions& o = {.eps = 1e-8, .weight_decay = 0.01}) {
  return lowrank::galore_8bit<P>(o)(backend, w);
}
template <class P = Subspace, class B, class T>
auto fira(B& backend, const View<T>& w, const FiraOptions& o = {}) { return lowrank::fira<P>(o)(backend, w); }

template <class P = Gaussian, class B, class T>
auto apollo(B& backend, const View<T>& w, const ApolloOptions& o = {}) { return lowrank::apollo<P>(o)(backend, w); }
template <class P = Gaussian, class B, class T>
auto apollo_mini(B& backend, const View<T>& w) { return lowrank::apollo_mini<P>()(backend, w); }

/// L: BackProject, or ErrorFeedback in full.
template <class L = BackProject, class B, class T>
auto dct_adamw(B& backend, const View<T>& w, const DctAdamwOptions& o = {}, const L& lift = {}) { return lowrank::dct_adamw(o, lift)(backend, w); }

template <class P = Identity, class B, class T>
auto muon(B& backend, const View<T>& w, const Orthogonal& o = {}, const P& projector = {}) { return lowrank::muon(o, projector)(backend, w); }
template <class B, class T>
auto trion(B& backend, const View<T>& w, const Trion& o = {}) { return lowrank::trion(o)(backend, w); }
template <class B, class T>
auto dion(B& backend, const View<T>& w, const Dion& o = {}) { return lowrank::dion(o)(backend, w); }

}  // namespace cuda
}  // namespace lowrank
