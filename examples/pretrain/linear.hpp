// Linear layers: what the four products of a layer go through, [q; k; v], o, [gate; up] and down. A policy of Passes and
// Model; Dense is the weight itself, others put an adapter on it or something else in its place.
//
//   forward(w, at, x, y)        y <- W x
//   add(w, at, x, y)            y <- y + W x
//   backward(w, at, x, dy, dx)  dx <- W^T dy, and what the policy trains gets its gradient
//
// w: the arena of weights; at: where W lies in it and which one it is (layout.hpp). A policy of Reach::Tile is called for
// one tile at a time, by all threads at once. One of Reach::Batch is called by one thread for all tokens of the batch, so
// that it may share its work out to threads itself; forward comes before backward, each once a batch.
#pragma once

#include "examples/pretrain/layers.hpp"

namespace pretrain {

enum class Reach { Tile, Batch };
/// Which matrices of the arena get a gradient in the arena of gradients. Others: embedding, norms and head, not those of
/// the four products.
enum class Trained { All, Others, None };

template <class S>
struct Dense {
  static constexpr Reach reach = Reach::Tile;
  static constexpr Trained trained = Trained::All;

  explicit Dense(const Layout&) {}

  static Weight<S> weight(const S* w, const Layout::Linear& at) { return {w + at.offset, at.rows, at.cols}; }

  void forward(const S* w, const Layout::Linear& at, const Block<S>& x, Block<S> y) const {
    y.noalias() = weight(w, at) * x;
  }
  void add(const S* w, const Layout::Linear& at, const Block<S>& x, Block<S> y) const {
    y.noalias() += weight(w, at) * x;
  }
  /// dW = dy x^T sums over all tokens and is the Model's.
  void backward(const S* w, const Layout::Linear& at, const Block<S>&, const Block<S>& dy, Block<S> dx) const {
    dx.noalias() = weight(w, at).transpose() * dy;
  }
};

}  // namespace pretrain
