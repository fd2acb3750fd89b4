// Model: the decoder. Bytes in, mean cross entropy out, gradients of every matrix on request.
//
//   x_0 = E[byte];  per layer  x' = x + W_o attend(rotary(W_q n(x)), rotary(W_k n(x)), W_v n(x)),
//                              x  = x' + W_down (silu(W_gate n(x')) * W_up n(x'));    logits = W_head n(x_L)
//
// A batch is w windows of T + 1 bytes: the first T are read, the last T are predicted. Windows do not see one another,
// so threads take tiles of two windows through all layers without meeting. The gradients of the weights sum over all
// tokens: there, threads take blocks of rows of dW = dY X^T. Which thread took what never changes a bit, since products
// inside a parallel region run on one thread. Nothing is allocated after the constructor but Eigen's packing buffers.
// The four products of a layer are a policy, L (linear.hpp).
#pragma once

#include <algorithm>  // std::min
#include <cmath>      // std::sqrt
#include <span>
#include <vector>

#include "examples/pretrain/passes.hpp"
#include "examples/pretrain/random.hpp"
#include "examples/pretrain/threads.hpp"

namespace pretrain {

template <class S, class L = Dense<S>>
class Model {
  using Passes = pretrain::Passes<S, L>;

 public:
  /// Room for batches of up to `windows` windows. The number of OpenMP threads must not grow afterwards.
  Model(const ModelConfig& config, Index windows)
      : passes_(config, windows * config.context, Passes::tiles(windows)), capacity_(windows),
        scratch_(std::size_t(available_threads()), Scratch<S>(config)) {
    weights_.setZero(layout().size());
    gradients_.setZero(L::trained == Trained::None ? 0 : layout().size());
  }

  const ModelConfig& config() const { return passes_.config(); }
  const Layout& layout() const { return passes_.layout(); }
  Index windows() const { return capacity_; }
  L& linear() { return passes_.linear(); }
  const L& linear() const { return passes_.linear(); }
  S* weights() { return weights_.data(); }
  const S* weights() const { return weights_.data(); }
  S* gradients() { return gradients_.data(); }
  const S* gradients() const { return gradients_.data(); }
  void zero_gradients() { gradients_.setZero(); }

  /// Gains 1, everything else normal with standard deviation 0.02; o and down, of which 2 L outputs are summed in the
  /// residual stream, smaller by sqrt(2 L).
  void initialise(std::uint64_t seed) {
    for (std::size_t i = 0; i < layout().matrices().size(); ++i) {
      const MatrixInfo& m = layout().matrices()[i];
      const double deviation = 0.02 / (m.writes_residual ? std::sqrt(2.0 * double(config().layers)) : 1.0);
      const Random random(seed, i);
      for (Index e = 0; e < m.rows * m.cols; ++e)
        weights_(m.offset + e) = m.role == Role::Norm ? S(1) : S(deviation * random.normal(std::uint64_t(e)));
    }
  }

  /// Mean cross entropy in nats per byte. bytes: windows x (T + 1), at most windows() of them.
  double loss(std::span<const Byte> bytes) {
    const Index windows = count(bytes);
    each_tile(windows, [&](const Tile& t, Team) { passes_.forward(weights(), t, bytes.data()); });
    return mean_loss(windows);
  }

  /// The same, and adds its gradient to gradients().
  double forward_backward(std::span<const Byte> bytes) {
    const Index windows = count(bytes), n = windows * config().context;
    each_tile(windows, [&](const Tile& t, Team) {
      passes_.forward(weights(), t, bytes.data());
      passes_.backward_head(weights(), t, bytes.data(), S(1) / S(n));
    });
    if (L::trained != Trained::None) push(layout().head(), passes_.shared().logits, passes_.shared().h);
    for (Index l = config().layers - 1; l >= 0; --l) {
      each_tile(windows, [&](const Tile& t, Team team) { passes_.backward_layer(weights(), l, t, team); });
      if (L::trained == Trained::All) push_layer(l);
      multiply_all(n);
      passes_.shared().d_out.swap(passes_.shared().d_in);
    }
    if (L::trained != Trained::None) add_embedding(bytes, n), add_gains(Passes::tiles(windows));
    return mean_loss(windows);
  }

  /// Everything between the weights and the loss, in bytes.
  std::size_t activation_bytes() const {
    return std::size_t(passes_.size() + Index(scratch_.size()) * scratch_[0].size()) * sizeof(S);
  }

 private:
  using Team = typename Passes::Team;
  static constexpr Index row_block = 128;

  /// dW += dY X^T for some rows of a matrix; dy points at those rows of dY.
  struct Product {
    S* dw;
    const S* dy;
    Index rows, dy_stride;
    const Matrix<S>* x;
  };

  void push(Index offset, const Matrix<S>& dy, const Matrix<S>& x) {
    for (Index row = 0; row < dy.rows(); row += row_block)
      products_.push_back({gradients() + offset + row * x.rows(), dy.data() + row,
                           std::min(row_block, dy.rows() - row), dy.rows(), &x});
  }
  void push_layer(Index l) {
    const Layout::Layer& at = layout().layer(l);
    const LayerActivations<S>& a = passes_.layer(l);
    const SharedActivations<S>& shared = passes_.shared();
    push(at.down.offset, shared.d_out, a.act);
    push(at.gate_up.offset, shared.d_gate_up, a.h_mid);
    push(at.qkv.offset, shared.d_qkv, a.h);
    push(at.o.offset, shared.d_mid, a.attended);
  }
  void multiply_all(Index tokens) {
    for_each(Index(products_.size()), [&](Index i, int) { multiply(products_[std::size_t(i)], tokens); });
    products_.clear();
  }
  void multiply(const Product& p, Index tokens) const {
    const Eigen::OuterStride<> stride(p.dy_stride);
    const Eigen::Map<const Matrix<S>, 0, Eigen::OuterStride<>> dy(p.dy, p.rows, tokens, stride);
    WeightGradient<S>(p.dw, p.rows, p.x->rows()).noalias() += dy * p.x->leftCols(tokens).transpose();
  }

  /// d_out is the gradient of x_0; bytes repeat, so this sum keeps the order of the tokens.
  void add_embedding(std::span<const Byte> bytes, Index tokens) {
    WeightGradient<S> d_embed(gradients() + layout().embed(), ModelConfig::vocab, config().d_model);
    for (Index t = 0; t < tokens; ++t)
      d_embed.row(*passes_.at_token(bytes.data(), t)) += passes_.shared().d_out.col(t).transpose();
  }
  void add_gains(Index tiles) {
    const Index norms = 2 * config().layers + 1;
    for (Index i = 0; i < tiles * norms; ++i) {
      const Index norm = i % norms, l = norm / 2;
      const Index offset = norm == norms - 1 ? layout().norm()
                           : norm % 2 == 0   ? layout().layer(l).attn_norm
                                             : layout().layer(l).mlp_norm;
      gradients_.segment(offset, config().d_model) += passes_.shared().d_gains.col(i);
    }
  }

  /// f(tile, team): all threads at small tiles, or one at the whole batch.
  template <class F>
  void each_tile(Index windows, const F& f) {
    if constexpr (L::reach == Reach::Batch)
      f(Tile{0, 0, windows * config().context}, Team(scratch_));
    else
      for_each(Passes::tiles(windows), [&](Index i, int slot) {
        f(passes_.tile(i, windows), Team(scratch_).subspan(std::size_t(slot), 1));
      });
  }
  Index count(std::span<const Byte> bytes) const {
    const Index stride = config().context + 1, n = Index(bytes.size()) / stride;
    if (n < 1 || n > capacity_ || n * stride != Index(bytes.size()))
      throw std::invalid_argument("a batch must be 1 to " + std::to_string(capacity_) + " windows of " +
                                  std::to_string(stride) + " bytes, got " + std::to_string(bytes.size()) + " bytes");
    return n;
  }
  double mean_loss(Index windows) const {
    double sum = 0;
    for (Index i = 0; i < Passes::tiles(windows); ++i) sum += passes_.shared().losses[std::size_t(i)];
    return sum / double(windows * config().context);
  }

  Passes passes_;
  Index capacity_;
  Vector<S> weights_, gradients_;
  std::vector<Scratch<S>> scratch_;  // one a thread
  std::vector<Product> products_;
};

}  // namespace pretrain
