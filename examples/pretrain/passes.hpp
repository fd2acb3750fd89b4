// The decoder on one tile: some whole windows, all layers. Tiles touch disjoint columns of the activations, so threads
// need no order among them. Where the linear layers take the whole batch at once, the tile is the batch, and what lies
// between two products is shared out to the threads in small ones.
#pragma once

#include <span>

#include "examples/pretrain/activations.hpp"
#include "examples/pretrain/linear.hpp"
#include "examples/pretrain/threads.hpp"

namespace pretrain {

/// Tokens [first, first + n), whole windows.
struct Tile {
  Index index, first, n;
};

template <class S, class L = Dense<S>>
class Passes {
 public:
  /// The scratch memory of who works on a tile: of one thread, or of all.
  using Team = std::span<Scratch<S>>;

  Passes(const ModelConfig& config, Index tokens, Index tiles)
      : config_(config), layout_(config), linear_(layout_), rotary_(config), shared_(config, tokens, tiles),
        layers_(std::size_t(config.layers), LayerActivations<S>(config, tokens)) {}

  const ModelConfig& config() const { return config_; }
  const Layout& layout() const { return layout_; }
  L& linear() { return linear_; }
  const L& linear() const { return linear_; }
  const LayerActivations<S>& layer(Index l) const { return layers_[std::size_t(l)]; }
  const SharedActivations<S>& shared() const { return shared_; }
  SharedActivations<S>& shared() { return shared_; }
  Index size() const { return shared_.size() + config_.layers * layers_[0].size(); }

  /// Small tiles are two windows.
  static Index tiles(Index windows) { return (windows + tile_windows - 1) / tile_windows; }
  Tile tile(Index i, Index windows) const {
    const Index first = i * tile_windows;
    return {i, first * config_.context, std::min(tile_windows, windows - first) * config_.context};
  }

  /// Byte of token i; the byte to predict follows it. Windows are T + 1 bytes apart.
  const Byte* at_token(const Byte* bytes, Index i) const { return bytes + i + i / config_.context; }

  /// Leaves the sum of the losses of its tokens in shared().losses and the softmax in shared().logits.
  void forward(const S* w, const Tile& all, const Byte* bytes) {
    const Index d = config_.d_model;
    const Weight<S> embed(w + layout_.embed(), ModelConfig::vocab, d), head(w + layout_.head(), ModelConfig::vocab, d);
    each(all, [&](const Tile& t, std::size_t) {
      for (Index i = t.first; i < t.first + t.n; ++i) layers_[0].x.col(i) = embed.row(*at_token(bytes, i)).transpose();
    });
    for (Index l = 0; l < config_.layers; ++l)
      forward_layer(w, l, all, l + 1 < config_.layers ? layers_[std::size_t(l + 1)].x : shared_.x);
    each(all, [&](const Tile& t, std::size_t) {
      rms_norm(of(shared_.x, t), w + layout_.norm(), of(shared_.h, t), shared_.inv_rms.data() + t.first);
      of(shared_.logits, t).noalias() = head * of(shared_.h, t);
      double sum = 0;
      for (Index first = t.first; first < t.first + t.n; first += config_.context)
        sum += cross_entropy(columns(shared_.logits, first, config_.context), at_token(bytes, first) + 1);
      shared_.losses[std::size_t(t.index)] = sum;
    });
  }

  /// From the loss, each token with this weight, to d_out of the last layer.
  void backward_head(const S* w, const Tile& all, const Byte* bytes, S token_weight) {
    const Weight<S> head(w + layout_.head(), ModelConfig::vocab, config_.d_model);
    each(all, [&](const Tile& t, std::size_t) {
      shared_.d_gains.middleCols(t.index * norms(), norms()).setZero();
      for (Index first = t.first; first < t.first + t.n; first += config_.context)
        cross_entropy_backward(columns(shared_.logits, first, config_.context), at_token(bytes, first) + 1, token_weight);
      of(shared_.d_branch, t).noalias() = head.transpose() * of(shared_.logits, t);
      of(shared_.d_out, t).setZero();
      rms_norm_backward(of(shared_.x, t), w + layout_.norm(), shared_.inv_rms.data() + t.first, of(shared_.d_branch, t),
                        of(shared_.d_out, t), d_gain(norms() - 1, t));
    });
  }

  /// From d_out to d_in of layer l; leaves d_gate_up, d_mid and d_qkv for the gradients of the weights.
  void backward_layer(const S* w, Index l, const Tile& all, Team team) {
    const Index d = config_.d_model, f = config_.d_ff;
    const Layout::Layer& at = layout_.layer(l);
    LayerActivations<S>& a = layers_[std::size_t(l)];

    linear_.backward(w, at.down, of(a.act, all), of(shared_.d_out, all), rows(of(shared_.d_gate_up, all), f, f));
    each(all, [&](const Tile& t, std::size_t slot) {
      swiglu_backward(of(a.gate_up, t), of(shared_.d_gate_up, t), team[slot].sigma.data());
    });
    linear_.backward(w, at.gate_up, of(a.h_mid, all), of(shared_.d_gate_up, all), of(shared_.d_branch, all));
    each(all, [&](const Tile& t, std::size_t) {
      of(shared_.d_mid, t) = of(shared_.d_out, t);
      rms_norm_backward(of(a.x_mid, t), w + at.mlp_norm, a.inv_rms_mid.data() + t.first, of(shared_.d_branch, t),
                        of(shared_.d_mid, t), d_gain(2 * l + 1, t));
    });

    linear_.backward(w, at.o, of(a.attended, all), of(shared_.d_mid, all), of(shared_.d_branch, all));
    each(all, [&](const Tile& t, std::size_t slot) {
      for_each_head(t, [&](Index first, Index head) {
        attend_backward(of_head(a.qkv, 0, head, first), of_head(a.qkv, 1, head, first), of_head(a.qkv, 2, head, first),
                        probabilities(a.p, head, first), of_head(shared_.d_branch, 0, head, first), team[slot].ds,
                        of_head(shared_.d_qkv, 0, head, first), of_head(shared_.d_qkv, 1, head, first),
                        of_head(shared_.d_qkv, 2, head, first));
      });
      rotary_.template apply<Turn::Back>(rows(of(shared_.d_qkv, t), 0, 2 * d));
    });
    linear_.backward(w, at.qkv, of(a.h, all), of(shared_.d_qkv, all), of(shared_.d_branch, all));
    each(all, [&](const Tile& t, std::size_t) {
      of(shared_.d_in, t) = of(shared_.d_mid, t);
      rms_norm_backward(of(a.x, t), w + at.attn_norm, a.inv_rms.data() + t.first, of(shared_.d_branch, t),
                        of(shared_.d_in, t), d_gain(2 * l, t));
    });
  }

 private:
  static constexpr Index tile_windows = 2;

  void forward_layer(const S* w, Index l, const Tile& all, Matrix<S>& out) {
    const Layout::Layer& at = layout_.layer(l);
    LayerActivations<S>& a = layers_[std::size_t(l)];

    each(all, [&](const Tile& t, std::size_t) {
      rms_norm(of(a.x, t), w + at.attn_norm, of(a.h, t), a.inv_rms.data() + t.first);
    });
    linear_.forward(w, at.qkv, of(a.h, all), of(a.qkv, all));
    each(all, [&](const Tile& t, std::size_t) {
      rotary_.template apply<Turn::Forward>(rows(of(a.qkv, t), 0, 2 * config_.d_model));
      for_each_head(t, [&](Index first, Index head) {
        attend(of_head(a.qkv, 0, head, first), of_head(a.qkv, 1, head, first), of_head(a.qkv, 2, head, first),
               probabilities(a.p, head, first), of_head(a.attended, 0, head, first));
      });
      of(a.x_mid, t) = of(a.x, t);
    });
    linear_.add(w, at.o, of(a.attended, all), of(a.x_mid, all));

    each(all, [&](const Tile& t, std::size_t) {
      rms_norm(of(a.x_mid, t), w + at.mlp_norm, of(a.h_mid, t), a.inv_rms_mid.data() + t.first);
    });
    linear_.forward(w, at.gate_up, of(a.h_mid, all), of(a.gate_up, all));
    each(all, [&](const Tile& t, std::size_t) {
      swiglu(of(a.gate_up, t), of(a.act, t));
      of(out, t) = of(a.x_mid, t);
    });
    linear_.add(w, at.down, of(a.act, all), of(out, all));
  }

  /// f(tile, slot) on the tile itself, or on small tiles of the batch; slot: whose scratch memory of the team.
  template <class F>
  void each(const Tile& all, const F& f) const {
    if constexpr (L::reach == Reach::Tile) {
      f(all, std::size_t(0));
    } else {
      const Index windows = all.n / config_.context;
      for_each(tiles(windows), [&](Index i, int slot) { f(tile(i, windows), std::size_t(slot)); });
    }
  }
  static Block<S> of(Matrix<S>& x, const Tile& t) { return columns(x, t.first, t.n); }
  template <class F>
  void for_each_head(const Tile& t, const F& f) const {
    for (Index first = t.first; first < t.first + t.n; first += config_.context)
      for (Index head = 0; head < config_.heads; ++head) f(first, head);
  }
  /// One head of one window: the part (0 query, 1 key, 2 value) of a 3d x n activation, or part 0 of a d x n one.
  Block<S> of_head(Matrix<S>& x, Index part, Index head, Index first) const {
    return rows(columns(x, first, config_.context), part * config_.d_model + head * config_.head_dim(),
                config_.head_dim());
  }
  Eigen::Map<Matrix<S>> probabilities(Matrix<S>& p, Index head, Index first) const {
    return {p.data() + (first * config_.heads + head * config_.context) * p.rows(), config_.context, config_.context};
  }
  /// Norms are counted in the order they are met: 2 l, 2 l + 1 in layer l, then the last one.
  Index norms() const { return 2 * config_.layers + 1; }
  S* d_gain(Index norm, const Tile& t) { return shared_.d_gains.col(t.index * norms() + norm).data(); }

  ModelConfig config_;
  Layout layout_;
  L linear_;
  Rotary<S> rotary_;
  SharedActivations<S> shared_;
  std::vector<LayerActivations<S>> layers_;
};

}  // namespace pretrain
