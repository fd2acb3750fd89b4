// Recipes that follow the gradient's leading singular vectors: GaLore and what came of it.
#pragma once

#include <lowrank/options/recipe.hpp>

namespace lowrank::inline LOWRANK_ABI {

// -- GaLore ------------------------------------------------------------------------------------------------------------

/// Defaults: the class GaLoreAdamW, with rank, period and scale of its README.
struct GaloreOptions {
  std::int64_t rank = 128;
  std::int64_t refresh_every = 200;
  double scale = 0.25;
  Side side = Side::Smaller;
  Transport transport = Transport::Keep;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-6, weight_decay = 0;
  std::uint64_t seed = 0;
  AdaptiveRank adapt = {};
};
/// GaLore: Adam in the leading singular subspace of the gradient (Zhao et al., arXiv 2403.03507, alg. 2). Reference:
/// jiaweizzhao/GaLore, GaLoreAdamW; galore<Svd>() and galore<TwoSidedSvd>() (its "full") reproduce it.
/// Deviations: the basis comes from block iteration started at the old one instead of an exact SVD, a hundredth of the
/// time for within a percent of the energy; its columns keep their signs; the basis has the state's scalar (reference:
/// the gradient's, so bf16); a rank beyond the dimension is clamped, openly.
template <class P = Subspace>
auto galore(const GaloreOptions& o = {}) {
  P p;
  if constexpr (requires { p.side; }) p = detail::projector_with<P>(o);
  else p.rank = o.rank, p.refresh_every = o.refresh_every;
  return Recipe{p, detail::galore_adam(o), BackProject{o.scale}};
}

/// GaLore with moments of one byte (reference: jiaweizzhao/GaLore, GaLoreAdamW8bit, with bitsandbytes' kernel). Its defaults:
/// eps 1e-8 after bias correction, weight_decay 0.01 after the update. Deviations: those of galore(); codes of our own, V
/// stochastically rounded; small matrices are not kept in fp32.
template <class P = Subspace>
auto galore_8bit(const GaloreOptions& o = {.eps = 1e-8, .weight_decay = 0.01}) {
  const Adam8bit rule{o.beta1, o.beta2, o.eps, o.weight_decay, Epsilon::AfterCorrection, DecayOrder::AfterUpdate, o.seed};
  return Recipe{detail::projector_with<P>(o), rule, BackProject{o.scale}};
}

/// Defaults: Q-GaLore's command line; rank, period and scale as in galore().
struct QGaloreOptions {
  std::int64_t rank = 128;
  std::int64_t refresh_every = 200;  // to begin with
  double scale = 0.25;
  Storage storage = Storage::Int4;  // of the basis
  double similar = 0.4, stretch = 2;
  Side side = Side::Smaller;
  Transport transport = Transport::Keep;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01;
  std::uint64_t seed = 0;
};
/// Q-GaLore: GaLore with a basis of 4 bits that is renewed ever more rarely, and moments of one byte (Zhang et al., arXiv
/// 2407.08296). Its third part, weights of one byte, is Int8Weight (linalg/int8_weight.hpp). Deviations in
/// projector/lazy_subspace.hpp, and those of galore_8bit().
inline auto q_galore(const QGaloreOptions& o = {}) {
  LazySubspace p = detail::projector_with<LazySubspace>(o);
  p.storage = o.storage;
  p.similar = o.similar;
  p.stretch = o.stretch;
  const Adam8bit rule{o.beta1, o.beta2, o.eps, o.weight_decay, Epsilon::AfterCorrection, DecayOrder::AfterUpdate, o.seed};
  return Recipe{p, rule, BackProject{o.scale}};
}

/// GaLore with Adafactor (reference: jiaweizzhao/GaLore, GaLoreAdafactor, relative_step and scale_parameter off, as its
/// scripts and the HF Trainer set them). Deviations: those of galore(); the first moment averages directions before the
/// learning rate, so that a schedule does not linger in it.
template <class P = Subspace>
auto galore_adafactor(const GaloreOptions& o = {}, const Adafactor& rule = {}) {
  Adafactor r = rule;
  r.weight_decay = o.weight_decay;
  return Recipe{detail::projector_with<P>(o), r, BackProject{o.scale}};
}

// -- Fira --------------------------------------------------------------------------------------------------------------

/// Defaults: the class FiraAdamW; scale 0.25 and rank as its C4 scripts.
struct FiraOptions {
  std::int64_t rank = 128;
  std::int64_t refresh_every = 200;
  double scale = 0.25;
  FiraForm form = FiraForm::Code;
  Limiter limiter = {};
  Side side = Side::Smaller;
  Transport transport = Transport::Keep;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-6, weight_decay = 0;
  std::uint64_t seed = 0;
  AdaptiveRank adapt = {};
};
/// Fira: GaLore plus what the projection loses, scaled like what it keeps, with the norm-growth limiter (Chen et al.,
/// arXiv 2410.01623). Reference: xichen-fy/Fira, FiraAdamW; fira<Svd>() reproduces it. form: its code or its equations.
/// Deviations: those of galore(); a first gradient of zeros does not lock the limiter at zero (there it stays for ever).
template <class P = Subspace>
auto fira(const FiraOptions& o = {}) {
  return Recipe{detail::projector_with<P>(o), detail::galore_adam(o), Residual{o.scale, o.form, o.limiter}};
}

/// Fira with RMSProp (reference: xichen-fy/Fira, FiraRMSprop). Deviation: weight_decay acts (there it is ignored).
template <class P = Subspace>
auto fira_rmsprop(const FiraOptions& o = {}, const RmsProp& rule = {}) {
  RmsProp r = rule;
  r.weight_decay = o.weight_decay;
  return Recipe{detail::projector_with<P>(o), r, Residual{o.scale, o.form, o.limiter}};
}

/// Defaults: SubTrack++'s scripts; step is ours, since its angle is not scaled.
struct SubtrackOptions {
  std::int64_t rank = 128;
  std::int64_t refresh_every = 200;
  double step = 0.5;
  double scale = 0.25;
  Limiter limiter = {};
  Side side = Side::Smaller;
  Transport transport = Transport::Rotate;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-6, weight_decay = 0;
  std::uint64_t seed = 0;
};
/// SubTrack++: Fira whose basis is turned along a geodesic instead of replaced, its moments carried over (Rajabi et al., arXiv
/// 2502.01586). Its three parts are independent, so it is a recipe. Deviations: the published code's defects, listed in
/// projector/geodesic.hpp, are not repeated.
inline auto subtrack(const SubtrackOptions& o = {}) {
  Geodesic p = detail::projector_with<Geodesic>(o);
  p.step = o.step;
  return Recipe{p, detail::galore_adam(o), Residual{o.scale, FiraForm::Code, o.limiter}};
}

// -- GoLore ------------------------------------------------------------------------------------------------------------

/// Defaults: GaLore's, scale 1 as in GoLore's scripts.
struct GoloreOptions {
  std::int64_t rank = 128;
  std::int64_t refresh_every = 200;
  std::int64_t random_after = 10000;  // published: 0.8 of the run's steps
  double scale = 1;
  Side side = Side::Smaller;
  Transport transport = Transport::Rotate;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-6, weight_decay = 0;
  std::uint64_t seed = 0;
};
/// GoLore: GaLore that changes to random subspaces, where the gradient's leading ones hold mostly noise (ICML 2025).
/// Deviations in projector/golore.hpp.
inline auto golore(const GoloreOptions& o = {}) {
  Golore p = detail::projector_with<Golore>(o);
  p.random_after = o.random_after;
  return Recipe{p, detail::galore_adam(o), BackProject{o.scale}};
}

}  // namespace lowrank
