// Kinds of layers: what is made in the place of a matrix, its options by name, and what happens between two steps. The hooks
// of LayerKind do nothing; a kind has its own where its paper has more than gradients.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include <lowrank/adapter/lost.hpp>
#include <lowrank/adapter/low_rank.hpp>
#include <lowrank/adapter/maestro.hpp>
#include <lowrank/adapter/relora.hpp>
#include <lowrank/adapter/sltrain.hpp>
#include <lowrank/adapter/sst.hpp>

#include "examples/pretrain/layout.hpp"

namespace pretrain {

using DenseWeight = lowrank::View<float>;  // the matrix as it was initialised

struct LayerKind {
  static constexpr bool keeps_weight = false;  // the dense matrix is a part of the layer
  /// All layers, before the forward pass of step t (from 0) and after its backward pass.
  void begin(auto&&, Index) {}
  void add_gradients(auto&&) {}
  /// Of the learning rate of step t.
  double rate(Index) const { return 1; }
  /// One layer after the optimizer's step t (from 1).
  void end(auto& layer, const DenseWeight&, Index t, const auto& editors, lowrank::Workspace&) { layer.on_step(std::uint64_t(t), editors); }
  /// Numbers that a file needs; not const: they are being read.
  void visit_kept(auto&&) const {}
};

/// The options of layer `index`, which draws from a stream of its own.
template <class Options>
Options seeded(Options o, std::uint64_t index) {
  o.seed += index;
  return o;
}

struct LowRankKind : LayerKind {
  using Layer = lowrank::LowRank<float>;
  lowrank::LowRankOptions o;

  void visit(auto&& f) { f("rank", o.rank), f("seed", o.seed); }
  Layer make(const DenseWeight& w, std::uint64_t index) const {
    return Layer(w.rows, w.cols, seeded(o, index));
  }
};

struct SlTrainKind : LayerKind {
  using Layer = lowrank::SlTrain<float>;
  lowrank::SlTrainOptions o;

  void visit(auto&& f) { f("rank", o.rank), f("alpha", o.alpha), f("density", o.density), f("seed", o.seed); }
  Layer make(const DenseWeight& w, std::uint64_t index) const {
    return Layer(w.rows, w.cols, seeded(o, index));
  }
};

struct LostKind : LayerKind {
  using Layer = lowrank::Lost<float>;
  lowrank::LostOptions o;

  void visit(auto&& f) { f("rank", o.rank), f("density", o.density), f("mix", o.mix), f("residual_rank", o.residual_rank); }
  Layer make(const DenseWeight& w, std::uint64_t) const { return Layer(w, o); }
};

struct SstKind : LayerKind {
  using Layer = lowrank::Sst<float>;
  lowrank::SstOptions o;

  void visit(auto&& f) {
    f("rank", o.rank), f("refresh_every", o.iteration), f("round", o.round), f("uniform", o.uniform), f("seed", o.seed);
  }
  Layer make(const DenseWeight& w, std::uint64_t index) const {
    return Layer(w, seeded(o, index));
  }
};

struct ReLoraKind : LayerKind {
  using Layer = lowrank::ReLora<float>;
  static constexpr bool keeps_weight = true;
  lowrank::ReLoraOptions o;
  std::uint64_t ramp = 10;  // steps in which the rate rises again after a restart

  void visit(auto&& f) {
    f("rank", o.lora.rank), f("alpha", o.lora.alpha), f("dropout", o.lora.dropout), f("refresh_every", o.every);
    f("ramp", ramp), f("share", o.share), f("seed", o.lora.seed);
  }
  Layer make(const DenseWeight& w, std::uint64_t index) const {
    auto mine = o;
    mine.lora.seed += index;
    return Layer(w.rows, w.cols, mine);
  }
  /// The run's own schedule is multiplied by this: as lowrank::ReLoraRate, whose cosine is over all steps.
  double rate(Index t) const {
    const std::uint64_t since = std::uint64_t(t) % o.every;
    return std::uint64_t(t) < o.every || since >= ramp ? 1 : double(since + 1) / double(ramp + 1);
  }
  void end(Layer& layer, const DenseWeight& w, Index t, const auto& editors, lowrank::Workspace& workspace) {
    if (layer.due(std::uint64_t(t))) (void)layer.restart(w, std::uint64_t(t), editors, workspace);
    layer.on_step(std::uint64_t(t), editors);
  }
};

struct MaestroKind : LayerKind {
  using Layer = lowrank::Maestro<float>;
  double lasso = 1e-6, epsilon = 1e-5;  // its scripts'
  Index shrink_every = 100;             // steps; published: an epoch
  std::uint64_t seed = 0;

  void visit(auto&& f) { f("lasso", lasso), f("epsilon", epsilon), f("refresh_every", shrink_every), f("seed", seed); }
  Layer make(const DenseWeight& w, std::uint64_t) const { return Layer(w); }

  /// One layer at a narrower width, in the sampler's order; evaluation wants all of them whole.
  void begin(auto&& layers, Index t) {
    if (!sampler_) {
      std::vector<Index> ranks;
      layers([&](Layer& layer) { ranks.push_back(layer.kept()); });
      sampler_.emplace(ranks, seed + std::uint64_t(t - drawn_));  // after a shrinking, a new order
      for (Index i = 0; i < drawn_; ++i) (void)(*sampler_)();     // after reading a file
    }
    const auto choice = (*sampler_)();
    ++drawn_;
    std::size_t i = 0;
    layers([&](Layer& layer) {
      if (i++ == choice.layer) layer.set_width(choice.width);
    });
  }
  void add_gradients(auto&& layers) {
    layers([&](Layer& layer) {
      layer.set_width(layer.kept());
      layer.add_lasso(lasso);
    });
  }
  void end(Layer& layer, const DenseWeight&, Index t, const auto& editors, lowrank::Workspace&) {
    if (t % shrink_every != 0) return;
    (void)layer.shrink(epsilon, editors);
    sampler_.reset(), drawn_ = 0;
  }
  void visit_kept(auto&& f) const { f("drawn", drawn_); }
  void visit_kept(auto&& f) {
    f("drawn", drawn_);
    sampler_.reset();
  }

 private:
  std::optional<lowrank::RankSampler> sampler_;
  Index drawn_ = 0;
};

}  // namespace pretrain
