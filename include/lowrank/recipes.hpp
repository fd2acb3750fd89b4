// Recipes: published optimizers as three parts each. A recipe function with a weight gives an Optimizer, without one a
// Recipe for a Fleet:
//
//   auto opt = lowrank::galore(W, {.rank = 64});
//   Group{named("*.attn.*"), lowrank::galore({.rank = 64})}
//
// Defaults are the paper's, or its code's where the paper has none; every deviation is listed. A combination that nobody
// has published is written the same way: Recipe{Dct{.rank = 64}, Lion{}, Residual{}}.
#pragma once

#include <lowrank/lift/channel_scale.hpp>
#include <lowrank/lift/error_feedback.hpp>
#include <lowrank/lift/frugal.hpp>
#include <lowrank/lift/residual.hpp>
#include <lowrank/optimizer.hpp>
#include <lowrank/projector/dct.hpp>
#include <lowrank/projector/coordinates.hpp>
#include <lowrank/projector/gaussian.hpp>
#include <lowrank/projector/geodesic.hpp>
#include <lowrank/projector/golore.hpp>
#include <lowrank/projector/identity.hpp>
#include <lowrank/projector/lazy_subspace.hpp>
#include <lowrank/projector/subspace.hpp>
#include <lowrank/rule/adafactor.hpp>
#include <lowrank/rule/adam8bit.hpp>
#include <lowrank/rule/adamw.hpp>
#include <lowrank/rule/orthogonal.hpp>
#include <lowrank/rule/rmsprop.hpp>
#include <lowrank/whole/dion.hpp>
#include <lowrank/whole/dion2.hpp>
#include <lowrank/whole/flora.hpp>
#include <lowrank/whole/ldadam.hpp>
#include <lowrank/whole/online_subspace.hpp>
#include <lowrank/whole/trion.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class P, class R, class L = BackProject>
struct Recipe {
  P projector;
  R rule;
  L lift = {};

  template <class M>
  auto operator()(const M& W) const {
    return Optimizer(W, projector, rule, lift);
  }
  /// The same rule on the whole gradient: what vectors get, which have nothing to project.
  /// A whole optimizer has no rule of its own: AdamW, as its reference code does.
  auto plain() const {
    if constexpr (std::is_same_v<R, Coupled>) return Recipe<Identity, AdamW>{{}, {.weight_decay = projector.weight_decay}};
    else return Recipe<Identity, R>{{}, rule};
  }
};
template <class P, class R>
Recipe(P, R) -> Recipe<P, R>;
template <class P, class R, class L>
Recipe(P, R, L) -> Recipe<P, R, L>;

namespace detail {

/// The Adam of GaLore's code, which Fira's and APOLLO's took over: eps on the raw moment, decay after the update.
inline AdamW galore_adam(const auto& o) {
  return {o.beta1, o.beta2, o.eps, o.weight_decay, Epsilon::BeforeCorrection, DecayOrder::AfterUpdate};
}
/// P with those of the recipe's options that it has.
template <class P>
P projector_with(const auto& o) {
  P p;
  p.rank = o.rank;
  p.refresh_every = o.refresh_every;
  p.side = o.side;
  if constexpr (requires { p.transport; o.transport; }) p.transport = o.transport;
  if constexpr (requires { p.seed; o.seed; }) p.seed = o.seed;
  if constexpr (requires { p.adapt; o.adapt; }) p.adapt = o.adapt;
  return p;
}

}  // namespace detail

// -- AdamW -------------------------------------------------------------------------------------------------------------

/// Adam with decoupled weight decay, full rank (Loshchilov and Hutter, arXiv 1711.05101). Reference: torch.optim.AdamW.
/// Deviation: weight_decay is 0 unless asked for (PyTorch: 0.01).
inline auto adamw(const AdamW& o = {}) { return Recipe{Identity{}, o, BackProject{}}; }
template <class M>
auto adamw(const M& W, const AdamW& o) { return adamw(o)(W); }

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
template <class P = Subspace, class M>
auto galore(const M& W, const GaloreOptions& o) { return galore<P>(o)(W); }

/// GaLore with moments of one byte (reference: jiaweizzhao/GaLore, GaLoreAdamW8bit, with bitsandbytes' kernel). Its defaults:
/// eps 1e-8 after bias correction, weight_decay 0.01 after the update. Deviations: those of galore(); codes of our own, V
/// stochastically rounded; small matrices are not kept in fp32.
template <class P = Subspace>
auto galore_8bit(const GaloreOptions& o = {.eps = 1e-8, .weight_decay = 0.01}) {
  const Adam8bit rule{o.beta1, o.beta2, o.eps, o.weight_decay, Epsilon::AfterCorrection, DecayOrder::AfterUpdate, o.seed};
  return Recipe{detail::projector_with<P>(o), rule, BackProject{o.scale}};
}
template <class P = Subspace, class M>
auto galore_8bit(const M& W, const GaloreOptions& o) { return galore_8bit<P>(o)(W); }

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
template <class M>
auto q_galore(const M& W, const QGaloreOptions& o) { return q_galore(o)(W); }

/// GaLore with Adafactor (reference: jiaweizzhao/GaLore, GaLoreAdafactor, relative_step and scale_parameter off, as its
/// scripts and the HF Trainer set them). Deviations: those of galore(); the first moment averages directions before the
/// learning rate, so that a schedule does not linger in it.
template <class P = Subspace>
auto galore_adafactor(const GaloreOptions& o = {}, const Adafactor& rule = {}) {
  Adafactor r = rule;
  r.weight_decay = o.weight_decay;
  return Recipe{detail::projector_with<P>(o), r, BackProject{o.scale}};
}
template <class P = Subspace, class M>
auto galore_adafactor(const M& W, const GaloreOptions& o, const Adafactor& rule = {}) { return galore_adafactor<P>(o, rule)(W); }

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
template <class P = Subspace, class M>
auto fira(const M& W, const FiraOptions& o) { return fira<P>(o)(W); }

/// Fira with RMSProp (reference: xichen-fy/Fira, FiraRMSprop). Deviation: weight_decay acts (there it is ignored).
template <class P = Subspace>
auto fira_rmsprop(const FiraOptions& o = {}, const RmsProp& rule = {}) {
  RmsProp r = rule;
  r.weight_decay = o.weight_decay;
  return Recipe{detail::projector_with<P>(o), r, Residual{o.scale, o.form, o.limiter}};
}
template <class P = Subspace, class M>
auto fira_rmsprop(const M& W, const FiraOptions& o, const RmsProp& rule = {}) { return fira_rmsprop<P>(o, rule)(W); }

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
template <class M>
auto subtrack(const M& W, const SubtrackOptions& o) { return subtrack(o)(W); }

// -- APOLLO ------------------------------------------------------------------------------------------------------------

/// Defaults: the class APOLLOAdamW, rank of its README's 256 halved as in the HF Trainer.
struct ApolloOptions {
  std::int64_t rank = 128;
  std::int64_t refresh_every = 200;
  double scale = 1;  // the paper's alpha squared: enters as sqrt(scale)
  Granularity granularity = Granularity::Channel;
  ScaleOrder scale_order = ScaleOrder::AfterLimiter;
  Limiter limiter = {};
  Side side = Side::Smaller;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-6, weight_decay = 0;
  std::uint64_t seed = 0;
};
/// APOLLO: the whole gradient, scaled per channel by what Adam does in a random subspace (Zhu et al., arXiv 2412.05270).
/// Reference: zhuhanqing/APOLLO, APOLLOAdamW. apollo<Subspace>() and apollo<Dct>() use other projections.
/// Deviations: P is drawn again from its seed instead of stored, as the paper says (the code keeps d r numbers), from our
/// own generator; no bias correction inside the norm ratio, as in the code (the paper has it nowhere).
template <class P = Gaussian>
auto apollo(const ApolloOptions& o = {}) {
  return Recipe{detail::projector_with<P>(o), detail::galore_adam(o),
                ChannelScale{o.scale, o.granularity, o.scale_order, o.limiter}};
}
template <class P = Gaussian, class M>
auto apollo(const M& W, const ApolloOptions& o) { return apollo<P>(o)(W); }

/// APOLLO-Mini: rank 1 and one factor for the whole matrix (same paper, section 4.3): optimizer state of SGD.
template <class P = Gaussian>
auto apollo_mini(ApolloOptions o = {.rank = 1, .scale = 128, .granularity = Granularity::Tensor}) {
  return apollo<P>(o);
}
template <class P = Gaussian, class M>
auto apollo_mini(const M& W) { return apollo_mini<P>()(W); }

// -- DCT-AdamW ---------------------------------------------------------------------------------------------------------

/// Defaults: the class DCTAdamW; weight_decay and rank, which it demands, as in its scripts.
struct DctAdamwOptions {
  std::int64_t rank = 128;
  std::int64_t refresh_every = 1;
  DctBasis basis = DctBasis::Cosines;
  Score score = Score::L1;
  Transport transport = Transport::Rotate;
  Side side = Side::Smaller;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  AdaptiveRank adapt = {};
};
/// DCT-AdamW: Adam on the r strongest coefficients of the gradient's cosine transform, chosen anew every step (Modoranu et
/// al., arXiv 2505.17967). Reference: IST-DASLab's DCTAdamW. dct_adamw<ErrorFeedback>() is its use_ef, with
/// dct_adamw({...}, ErrorFeedback{.storage = Storage::Int4}) in 4 bits.
/// Deviations: Transposed is the basis the reference's default path uses, Cosines the one its fast path does (they differ);
/// indices are kept in ascending order, and coordinates that survive keep their moments (rotate, off in the reference);
/// any size, each with its own transform; error feedback is kept in the transform's domain, in 32 bits unless asked.
template <class L = BackProject>
auto dct_adamw(const DctAdamwOptions& o = {}, const L& lift = {}) {
  Dct p = detail::projector_with<Dct>(o);
  p.basis = o.basis;
  p.score = o.score;
  return Recipe{p, AdamW{o.beta1, o.beta2, o.eps, o.weight_decay}, lift};
}
template <class L = BackProject, class M>
auto dct_adamw(const M& W, const DctAdamwOptions& o, const L& lift = {}) { return dct_adamw(o, lift)(W); }

// -- FRUGAL ------------------------------------------------------------------------------------------------------------

/// Defaults: FRUGAL's AdamW; rank in the place of its density of 0.25.
struct FrugalOptions {
  std::int64_t rank = 128;
  std::int64_t refresh_every = 200;
  double scale = 1;  // of the remainder's learning rate; 0.1 for fine-tuning
  Remainder remainder = Remainder::Sign;
  Side side = Side::Smaller;
  Transport transport = Transport::Reset;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01;
  std::uint64_t seed = 0;
};
/// FRUGAL: Adam inside the subspace, sign descent outside (Zmushko et al., arXiv 2411.07837). Reference: fzmushko/FRUGAL;
/// frugal<RandomOrthogonal>() and frugal<Coordinates>() are its other projections, frugal<Dct>() is nobody's yet.
/// Deviation: the default subspace comes from block iteration, as in galore().
template <class P = Subspace>
auto frugal(const FrugalOptions& o = {}) {
  return Recipe{detail::projector_with<P>(o), AdamW{o.beta1, o.beta2, o.eps, o.weight_decay}, Frugal{o.scale, o.remainder}};
}
template <class P = Subspace, class M>
auto frugal(const M& W, const FrugalOptions& o) { return frugal<P>(o)(W); }

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
template <class M>
auto golore(const M& W, const GoloreOptions& o) { return golore(o)(W); }

// -- Muon --------------------------------------------------------------------------------------------------------------

/// Muon: the orthogonal factor of the momentum, full rank (Jordan et al., 2024). References: KellerJordan/Muon (the
/// defaults here) and microsoft/dion (form Heavy, Spectral, PolarExpress). muon<Subspace>() orthogonalises in a subspace.
/// Deviations: Newton-Schulz runs in the state's scalar (reference: bf16, about 1e-2 away); zero gives zero.
template <class P = Identity>
auto muon(const Orthogonal& o = {}, const P& projector = {}) { return Recipe{projector, o, BackProject{}}; }
template <class P = Identity, class M>
auto muon(const M& W, const Orthogonal& o, const P& projector = {}) { return muon(o, projector)(W); }

// -- whole optimizers: their papers couple the three parts ------------------------------------------------------------------

/// Trion: orthogonalised momentum in the strongest cosine coefficients (Modoranu et al., arXiv 2505.17967). Deviations in
/// whole/trion.hpp.
inline auto trion(const Trion& o = {}) { return Recipe{o, Coupled{}, Coupled{}}; }
template <class M>
auto trion(const M& W, const Trion& o) { return trion(o)(W); }

/// Dion2: the same on the rows of the momentum (arXiv 2512.16928), a quarter of them as published. Deviations in whole/dion2.hpp.
inline auto dion2(const Dion2& o = {.rank_fraction = 0.25}) { return Recipe{o, Coupled{}, Coupled{}}; }
template <class M>
auto dion2(const M& W, const Dion2& o) { return dion2(o)(W); }

/// Dion: a low-rank orthogonal update by one power iteration of the momentum (Ahn et al., arXiv 2504.05295). Deviations in
/// whole/dion.hpp.
inline auto dion(const Dion& o = {}) { return Recipe{o, Coupled{}, Coupled{}}; }
template <class M>
auto dion(const M& W, const Dion& o) { return dion(o)(W); }

/// LDAdam: Adam in a subspace that follows the momentum, with transported moments and generalised error feedback (Robert et
/// al., arXiv 2410.16103). Deviations in whole/ldadam.hpp.
inline auto ldadam(const LdAdam& o = {}) { return Recipe{o, Coupled{}, Coupled{}}; }
template <class M>
auto ldadam(const M& W, const LdAdam& o) { return ldadam(o)(W); }

/// Online Subspace Descent: GaLore whose basis is trained beside the weight (Liang et al., arXiv 2408.12857). Deviations in
/// whole/online_subspace.hpp.
inline auto online_subspace(const OnlineSubspace& o = {}) { return Recipe{o, Coupled{}, Coupled{}}; }
template <class M>
auto online_subspace(const M& W, const OnlineSubspace& o) { return online_subspace(o)(W); }

/// FLORA: Adafactor with a momentum of r random dimensions (Hao et al., arXiv 2402.03293). Deviations in whole/flora.hpp.
inline auto flora(const Flora& o = {}) { return Recipe{o, Coupled{}, Coupled{}}; }
template <class M>
auto flora(const M& W, const Flora& o) { return flora(o)(W); }

}  // namespace lowrank
