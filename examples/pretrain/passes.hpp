// The decoder on one tile: some whole windows, all layers. Tiles touch disjoint columns of the activations, so threads
// need no order among them.
#pragma once

#include "examples/pretrain/activations.hpp"

namespace pretrain {

/// Tokens [first, first + n), whole windows.
struct Tile {
  Index index, first, n;
};

template <class S>
class Passes {
 public:
  Passes(const ModelConfig& config, Index tokens, Index tiles)
      : config_(config), layout_(config), rotary_(config), shared_(config, tokens, tiles),
        layers_(std::size_t(config.layers), LayerActivations<S>(config, tokens)) {}

  const ModelConfig& config() const { return config_; }
  const Layout& layout() const { return layout_; }
  const LayerActivations<S>& layer(Index l) const { return layers_[std::size_t(l)]; }
  const SharedActivations<S>& shared() const { return shared_; }
  SharedActivations<S>& shared() { return shared_; }
  Index size() const { return shared_.size() + config_.layers * layers_[0].size(); }

  /// Byte of token i; the byte to predict follows it. Windows are T + 1 bytes apart.
  const Byte* at_token(const Byte* bytes, Index i) const { return bytes + i + i / config_.context; }

  /// Leaves the sum of the losses of its tokens in shared().losses and the softmax in shared().logits.
  void forward(const S* w, const Tile& t, const Byte* bytes) {
    const Index d = config_.d_model;
    const Weight<S> embed(w + layout_.embed(), ModelConfig::vocab, d);
    for (Index i = t.first; i < t.first + t.n; ++i) layers_[0].x.col(i) = embed.row(*at_token(bytes, i)).transpose();
    for (Index l = 0; l < config_.layers; ++l)
      forward_layer(w, l, t, l + 1 < config_.layers ? layers_[std::size_t(l + 1)].x : shared_.x);
    const auto in = [&t](auto& x) { return columns(x, t.first, t.n); };
    rms_norm(in(shared_.x), w + layout_.norm(), in(shared_.h), shared_.inv_rms.data() + t.first);
    in(shared_.logits).noalias() = Weight<S>(w + layout_.head(), ModelConfig::vocab, d) * in(shared_.h);
    double sum = 0;
    for (Index first = t.first; first < t.first + t.n; first += config_.context)
      sum += cross_entropy(columns(shared_.logits, first, config_.context), at_token(bytes, first) + 1);
    shared_.losses[std::size_t(t.index)] = sum;
  }

  /// From the loss, each token with this weight, to d_out of the last layer.
  void backward_head(const S* w, const Tile& t, const Byte* bytes, S token_weight, Scratch<S>& scratch) {
    shared_.d_gains.middleCols(t.index * norms(), norms()).setZero();
    for (Index first = t.first; first < t.first + t.n; first += config_.context)
      cross_entropy_backward(columns(shared_.logits, first, config_.context), at_token(bytes, first) + 1, token_weight);
    const auto in = [&t](auto& x) { return columns(x, t.first, t.n); };
    const Weight<S> head(w + layout_.head(), ModelConfig::vocab, config_.d_model);
    auto d_normed = columns(scratch.d_normed, 0, t.n);
    d_normed.noalias() = head.transpose() * in(shared_.logits);
    in(shared_.d_out).setZero();
    rms_norm_backward(in(shared_.x), w + layout_.norm(), shared_.inv_rms.data() + t.first, d_normed, in(shared_.d_out),
                      d_gain(norms() - 1, t));
  }

  /// From d_out to d_in of layer l; leaves d_gate_up, d_mid and d_qkv for the gradients of the weights.
  void backward_layer(const S* w, Index l, const Tile& t, Scratch<S>& scratch) {
    const Index d = config_.d_model, f = config_.d_ff;
    const Layout::Layer& at = layout_.layer(l);
    LayerActivations<S>& a = layers_[std::size_t(l)];
    const auto in = [&t](auto& x) { return columns(x, t.first, t.n); };
    auto d_normed = columns(scratch.d_normed, 0, t.n);

    rows(in(shared_.d_gate_up), f, f).noalias() = Weight<S>(w + at.down, d, f).transpose() * in(shared_.d_out);
    swiglu_backward(in(a.gate_up), in(shared_.d_gate_up), scratch.sigma.data());
    d_normed.noalias() = Weight<S>(w + at.gate_up, 2 * f, d).transpose() * in(shared_.d_gate_up);
    in(shared_.d_mid) = in(shared_.d_out);
    rms_norm_backward(in(a.x_mid), w + at.mlp_norm, a.inv_rms_mid.data() + t.first, d_normed, in(shared_.d_mid),
                      d_gain(2 * l + 1, t));

    d_normed.noalias() = Weight<S>(w + at.o, d, d).transpose() * in(shared_.d_mid);
    for_each_head(t, [&](Index first, Index head) {
      attend_backward(of_head(a.qkv, 0, head, first), of_head(a.qkv, 1, head, first), of_head(a.qkv, 2, head, first),
                      probabilities(a.p, head, first), of_head(scratch.d_normed, 0, head, first - t.first), scratch.ds,
                      of_head(shared_.d_qkv, 0, head, first), of_head(shared_.d_qkv, 1, head, first),
                      of_head(shared_.d_qkv, 2, head, first));
    });
    rotary_.template apply<Turn::Back>(rows(in(shared_.d_qkv), 0, 2 * d));
    d_normed.noalias() = Weight<S>(w + at.qkv, 3 * d, d).transpose() * in(shared_.d_qkv);
    in(shared_.d_in) = in(shared_.d_mid);
    rms_norm_backward(in(a.x), w + at.attn_norm, a.inv_rms.data() + t.first, d_normed, in(shared_.d_in),
                      d_gain(2 * l, t));
  }

 private:
  void forward_layer(const S* w, Index l, const Tile& t, Matrix<S>& out) {
    const Index d = config_.d_model, f = config_.d_ff;
    const Layout::Layer& at = layout_.layer(l);
    LayerActivations<S>& a = layers_[std::size_t(l)];
    const auto in = [&t](auto& x) { return columns(x, t.first, t.n); };

    rms_norm(in(a.x), w + at.attn_norm, in(a.h), a.inv_rms.data() + t.first);
    in(a.qkv).noalias() = Weight<S>(w + at.qkv, 3 * d, d) * in(a.h);
    rotary_.template apply<Turn::Forward>(rows(in(a.qkv), 0, 2 * d));
    for_each_head(t, [&](Index first, Index head) {
      attend(of_head(a.qkv, 0, head, first), of_head(a.qkv, 1, head, first), of_head(a.qkv, 2, head, first),
             probabilities(a.p, head, first), of_head(a.attended, 0, head, first));
    });
    in(a.x_mid) = in(a.x);
    in(a.x_mid).noalias() += Weight<S>(w + at.o, d, d) * in(a.attended);

    rms_norm(in(a.x_mid), w + at.mlp_norm, in(a.h_mid), a.inv_rms_mid.data() + t.first);
    in(a.gate_up).noalias() = Weight<S>(w + at.gate_up, 2 * f, d) * in(a.h_mid);
    swiglu(in(a.gate_up), in(a.act));
    in(out) = in(a.x_mid);
    in(out).noalias() += Weight<S>(w + at.down, d, f) * in(a.act);
  }

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
  Rotary<S> rotary_;
  SharedActivations<S> shared_;
  std::vector<LayerActivations<S>> layers_;
};

}  // namespace pretrain
