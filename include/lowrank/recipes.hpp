// Recipes on the CPU: the functions of lowrank/options/recipe.hpp and lowrank/options/galore.hpp, which have their papers,
// defaults and deviations. With a weight a recipe function gives an Optimizer, without one a Recipe for a Fleet:
//
//   auto opt = lowrank::galore(W, {.rank = 64});
//   Group{named("*.attn.*"), lowrank::galore({.rank = 64})}
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

/// What Recipe::operator() asks for.
template <class P, class R, class L, class M>
auto make_optimizer(const Recipe<P, R, L>& recipe, const M& W) {
  return Optimizer(W, recipe.projector, recipe.rule, recipe.lift);
}

template <class M>
auto adamw(const M& W, const AdamW& o) { return adamw(o)(W); }

template <class P = Subspace, class M>
auto galore(const M& W, const GaloreOptions& o) { return galore<P>(o)(W); }
template <class P = Subspace, class M>
auto galore_8bit(const M& W, const GaloreOptions& o) { return galore_8bit<P>(o)(W); }
template <class M>
auto q_galore(const M& W, const QGaloreOptions& o) { return q_galore(o)(W); }
template <class P = Subspace, class M>
auto galore_adafactor(const M& W, const GaloreOptions& o, const Adafactor& rule = {}) { return galore_adafactor<P>(o, rule)(W); }

template <class P = Subspace, class M>
auto fira(const M& W, const FiraOptions& o) { return fira<P>(o)(W); }
template <class P = Subspace, class M>
auto fira_rmsprop(const M& W, const FiraOptions& o, const RmsProp& rule = {}) { return fira_rmsprop<P>(o, rule)(W); }
template <class M>
auto subtrack(const M& W, const SubtrackOptions& o) { return subtrack(o)(W); }

template <class P = Gaussian, class M>
auto apollo(const M& W, const ApolloOptions& o) { return apollo<P>(o)(W); }
template <class P = Gaussian, class M>
auto apollo_mini(const M& W) { return apollo_mini<P>()(W); }

template <class L = BackProject, class M>
auto dct_adamw(const M& W, const DctAdamwOptions& o, const L& lift = {}) { return dct_adamw(o, lift)(W); }

template <class P = Subspace, class M>
auto frugal(const M& W, const FrugalOptions& o) { return frugal<P>(o)(W); }

template <class M>
auto golore(const M& W, const GoloreOptions& o) { return golore(o)(W); }

template <class P = Identity, class M>
auto muon(const M& W, const Orthogonal& o, const P& projector = {}) { return muon(o, projector)(W); }

template <class M>
auto trion(const M& W, const Trion& o) { return trion(o)(W); }
template <class M>
auto dion2(const M& W, const Dion2& o) { return dion2(o)(W); }
template <class M>
auto dion(const M& W, const Dion& o) { return dion(o)(W); }
template <class M>
auto ldadam(const M& W, const LdAdam& o) { return ldadam(o)(W); }
template <class M>
auto online_subspace(const M& W, const OnlineSubspace& o) { return online_subspace(o)(W); }
template <class M>
auto flora(const M& W, const Flora& o) { return flora(o)(W); }

}  // namespace lowrank
