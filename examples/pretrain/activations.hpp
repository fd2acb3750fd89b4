// What a batch of n tokens leaves behind on its way through the decoder, and the gradients on their way back. All of it
// is allocated once. Legend as in layout.hpp: d, f, T, heads; columns are tokens.
#pragma once

#include "examples/pretrain/attention.hpp"
#include "examples/pretrain/layers.hpp"

namespace pretrain {

/// One layer, kept from the forward pass to the backward pass.
template <class S>
struct LayerActivations {
  Matrix<S> x, h;          // d x n: input, normalised input
  Matrix<S> qkv;           // 3d x n, rotated
  Matrix<S> p;             // T x (n heads): one T x T block of probabilities per window and head
  Matrix<S> attended;      // d x n
  Matrix<S> x_mid, h_mid;  // d x n: after attention, normalised
  Matrix<S> gate_up, act;  // 2f x n, f x n
  Vector<S> inv_rms, inv_rms_mid;

  LayerActivations(const ModelConfig& c, Index n)
      : x(c.d_model, n), h(c.d_model, n), qkv(3 * c.d_model, n), p(c.context, n * c.heads), attended(c.d_model, n),
        x_mid(c.d_model, n), h_mid(c.d_model, n), gate_up(2 * c.d_ff, n), act(c.d_ff, n), inv_rms(n), inv_rms_mid(n) {}

  Index size() const {
    return 5 * x.size() + qkv.size() + p.size() + gate_up.size() + act.size() + 2 * inv_rms.size();
  }
};

/// After the last layer, and the gradients, which all layers share.
template <class S>
struct SharedActivations {
  Matrix<S> x, h, logits;          // d x n, d x n, vocab x n (logits, then their softmax, then their gradient)
  Matrix<S> d_out, d_mid, d_in;    // d x n: with respect to the output, the middle and the input of a layer
  Matrix<S> d_branch;              // d x n: to a normalised input, or to what attention gives
  Matrix<S> d_qkv, d_gate_up;      // 3d x n, 2f x n
  Matrix<S> d_gains;               // d x (norms * tiles): every tile its own sum over tokens
  Vector<S> inv_rms;
  std::vector<double> losses;      // one a tile

  SharedActivations(const ModelConfig& c, Index n, Index tiles)
      : x(c.d_model, n), h(c.d_model, n), logits(ModelConfig::vocab, n), d_out(c.d_model, n), d_mid(c.d_model, n),
        d_in(c.d_model, n), d_branch(c.d_model, n), d_qkv(3 * c.d_model, n), d_gate_up(2 * c.d_ff, n),
        d_gains(c.d_model, (2 * c.layers + 1) * tiles), inv_rms(n), losses(std::size_t(tiles)) {}

  Index size() const {
    return 6 * x.size() + logits.size() + d_qkv.size() + d_gate_up.size() + d_gains.size() + inv_rms.size();
  }
};

/// What a thread needs for itself while it works on a tile.
template <class S>
struct Scratch {
  Matrix<S> ds;     // T x query_block
  Vector<S> sigma;  // f

  explicit Scratch(const ModelConfig& c) : ds(c.context, std::min(query_block, c.context)), sigma(c.d_ff) {}

  Index size() const { return ds.size() + sigma.size(); }
};

}  // namespace pretrain
