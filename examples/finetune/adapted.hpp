// Adapted: the linear layers of a frozen decoder with an adapter on each of their matrices. y <- (W + change) x, and in
// backward the adapters' gradients; no gradient of a weight is ever formed.
#pragma once

#include <string>
#include <utility>  // std::move
#include <vector>

#include <lowrank/adapter/adapter.hpp>

#include "examples/pretrain/linear.hpp"

namespace finetune {

using pretrain::Block;
using pretrain::Index;
using pretrain::Layout;
using pretrain::MatrixInfo;

/// The name without the ".weight" at its end: what PEFT calls a module.
inline std::string module_of(const MatrixInfo& m) { return m.name.substr(0, m.name.rfind('.')); }

/// A matrix of an arena of weights as the library sees it.
template <class S>
lowrank::View<S> weight_view(S* weights, const MatrixInfo& m) {
  return lowrank::view(weights + m.offset, m.rows, m.cols);
}

template <class S, lowrank::Adapter A>
class Adapted {
 public:
  static constexpr pretrain::Reach reach = pretrain::Reach::Batch;
  static constexpr pretrain::Trained trained = pretrain::Trained::None;

  explicit Adapted(const Layout& layout) : matrices_(layout.matrices()), pieces_(std::size_t(4 * layout.layers())) {}

  /// make(MatrixInfo) is the adapter of a matrix. Before the first forward; again to put others in their place.
  template <class Make>
  void install(const Layout& layout, const Make& make) {
    for (Index l = 0; l < layout.layers(); ++l) {
      const Layout::Layer& at = layout.layer(l);
      for (const Layout::Linear* linear : {&at.qkv, &at.o, &at.gate_up, &at.down}) {
        auto& pieces = pieces_[linear->index];
        pieces.clear();
        for (std::size_t i = linear->first; i < linear->first + linear->count; ++i)
          pieces.push_back({matrices_[i], make(matrices_[i]), {}});
      }
    }
  }
  /// f(MatrixInfo, adapter) in the order of the model.
  template <class F>
  void each(const F& f) {
    for (auto& pieces : pieces_)
      for (Piece& p : pieces) f(p.matrix, p.adapter);
  }
  template <class F>
  void each(const F& f) const {
    for (const auto& pieces : pieces_)
      for (const Piece& p : pieces) f(p.matrix, p.adapter);
  }

  void forward(const S* w, const Layout::Linear& at, const Block<S>& x, Block<S> y) {
    Index first = 0;
    for (Piece& p : pieces_[at.index]) {
      p.adapter.forward(weight_view(w, p.matrix), x, pretrain::rows(y, first, p.matrix.rows), p.trace, workspace_);
      first += p.matrix.rows;
    }
  }
  void add(const S* w, const Layout::Linear& at, const Block<S>& x, Block<S> y) {
    const Block<S> term = room(y.rows(), y.cols());
    forward(w, at, x, term);
    y += term;
  }
  /// dx is the sum over the matrices that read x.
  void backward(const S* w, const Layout::Linear& at, const Block<S>& x, const Block<S>& dy, Block<S> dx) {
    Index first = 0;
    for (Piece& p : pieces_[at.index]) {
      Block<S> to = first == 0 ? dx : room(dx.rows(), dx.cols());
      p.adapter.backward(weight_view(w, p.matrix), x, pretrain::rows(dy, first, p.matrix.rows), to, p.trace, workspace_);
      if (first > 0) dx += to;
      first += p.matrix.rows;
    }
  }

  /// What the passes keep from forward to backward and need meanwhile; known after the first batch.
  std::size_t pass_bytes() const {
    std::size_t bytes = workspace_.bytes() + std::size_t(room_.size()) * sizeof(S);
    for (const auto& pieces : pieces_)
      for (const Piece& p : pieces) bytes += p.trace.bytes();
    return bytes;
  }

 private:
  struct Piece {
    MatrixInfo matrix;
    A adapter;
    lowrank::Trace<S> trace;
  };

  Block<S> room(Index rows, Index cols) {
    if (room_.size() < rows * cols) room_.resize(rows * cols);
    return {room_.data(), rows, cols, Eigen::OuterStride<>(rows)};
  }

  std::vector<MatrixInfo> matrices_;
  std::vector<std::vector<Piece>> pieces_;  // by Layout::Linear::index
  lowrank::Workspace workspace_;
  pretrain::Vector<S> room_;
};

}  // namespace finetune
