// Recipe: a published optimizer as three parts, and what each of them is. A recipe is data; the machine makes the optimizer:
// lowrank/recipes.hpp on the CPU, lowrank/cuda/recipes.cuh on a GPU.
//
// Defaults are the paper's, or its code's where the paper has none; every deviation is listed. A combination that nobody
// has published is written the same way: Recipe{Dct{.rank = 64}, Lion{}, Residual{}}.
#pragma once

#include <type_traits>  // std::is_same_v

#include <lowrank/options/lift.hpp>
#include <lowrank/options/projector.hpp>
#include <lowrank/options/rule.hpp>
#include <lowrank/options/whole.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class P, class R, class L = BackProject>
struct Recipe {
  P projector;
  R rule;
  L lift = {};

  /// An Optimizer for W where the library that was included steps: recipe(W) on the CPU, recipe(context, W) on a GPU.
  template <class... Where>
  auto operator()(Where&&... where) const {
    return make_optimizer(*this, where...);
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

// -- full rank ---------------------------------------------------------------------------------------------------------

/// Adam with decoupled weight decay, full rank (Loshchilov and Hutter, arXiv 1711.05101). Reference: torch.optim.AdamW.
/// Deviation: weight_decay is 0 unless asked for (PyTorch: 0.01).
inline auto adamw(const AdamW& o = {}) { return Recipe{Identity{}, o, BackProject{}}; }

/// Lion: the sign of a mixture of gradient and momentum (Chen et al., arXiv 2302.06675). Reference: google/automl, lion.
/// Deviation: weight_decay is 0 unless asked for.
inline auto lion(const Lion& o = {}) { return Recipe{Identity{}, o, BackProject{}}; }

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

/// APOLLO-Mini: rank 1 and one factor for the whole matrix (same paper, section 4.3): optimizer state of SGD.
template <class P = Gaussian>
auto apollo_mini(ApolloOptions o = {.rank = 1, .scale = 128, .granularity = Granularity::Tensor}) {
  return apollo<P>(o);
}

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

// -- Muon --------------------------------------------------------------------------------------------------------------

/// Muon: the orthogonal factor of the momentum, full rank (Jordan et al., 2024). References: KellerJordan/Muon (the
/// defaults here) and microsoft/dion (form Heavy, Spectral, PolarExpress). muon<Subspace>() orthogonalises in a subspace.
/// Deviations: Newton-Schulz runs in the state's scalar (reference: bf16, about 1e-2 away); zero gives zero.
template <class P = Identity>
auto muon(const Orthogonal& o = {}, const P& projector = {}) { return Recipe{projector, o, BackProject{}}; }

// -- whole optimizers: their papers couple the three parts ------------------------------------------------------------------

/// Trion: orthogonalised momentum in the strongest cosine coefficients (Modoranu et al., arXiv 2505.17967). Deviations in
/// whole/trion.hpp.
inline auto trion(const Trion& o = {}) { return Recipe{o, Coupled{}, Coupled{}}; }

/// Dion2: the same on the rows of the momentum (arXiv 2512.16928), a quarter of them as published. Deviations in whole/dion2.hpp.
inline auto dion2(const Dion2& o = {.rank_fraction = 0.25}) { return Recipe{o, Coupled{}, Coupled{}}; }

/// Dion: a low-rank orthogonal update by one power iteration of the momentum (Ahn et al., arXiv 2504.05295). Deviations in
/// whole/dion.hpp.
inline auto dion(const Dion& o = {}) { return Recipe{o, Coupled{}, Coupled{}}; }

/// LDAdam: Adam in a subspace that follows the momentum, with transported moments and generalised error feedback (Robert et
/// al., arXiv 2410.16103). Deviations in whole/ldadam.hpp.
inline auto ldadam(const LdAdam& o = {}) { return Recipe{o, Coupled{}, Coupled{}}; }

/// Online Subspace Descent: GaLore whose basis is trained beside the weight (Liang et al., arXiv 2408.12857). Deviations in
/// whole/online_subspace.hpp.
inline auto online_subspace(const OnlineSubspace& o = {}) { return Recipe{o, Coupled{}, Coupled{}}; }

/// FLORA: Adafactor with a momentum of r random dimensions (Hao et al., arXiv 2402.03293). Deviations in whole/flora.hpp.
inline auto flora(const Flora& o = {}) { return Recipe{o, Coupled{}, Coupled{}}; }

}  // namespace lowrank
