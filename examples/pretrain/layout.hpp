// Layout: the shape of the decoder, and where each of its matrices lies in one arena of weights (and, at the same
// offset, in one arena of gradients).
//
// Every matrix is row-major, outputs x inputs, and contiguous. Query, key and value follow one another, and so do gate
// and up: [q; k; v] is then one 3d x d matrix and [gate; up] one 2f x d matrix, so that five products become two
// without a copy. Blocks start at multiples of 16 values; the few values between two blocks stay zero.
#pragma once

#include <cstdint>    // std::uint8_t
#include <stdexcept>  // std::invalid_argument
#include <string>
#include <vector>

#include <Eigen/Core>

namespace pretrain {

using Eigen::Index;
using Byte = std::uint8_t;

/// d = d_model, f = d_ff, T = context, h = d / heads. The head is not tied to the embedding.
struct ModelConfig {
  Index d_model = 128, layers = 3, heads = 4, d_ff = 344, context = 128;
  static constexpr Index vocab = 256;  // the text is bytes

  Index head_dim() const { return d_model / heads; }
};

/// Two thirds of 4 d, the width at which SwiGLU has as many weights as a plain MLP of width 4 d; rounded up to 8.
inline Index swiglu_width(Index d_model) { return (8 * d_model / 3 + 7) / 8 * 8; }

/// Throws std::invalid_argument unless the heads divide d_model into parts of even size (rotary pairs them up).
inline void check(const ModelConfig& c) {
  if (c.d_model < 1 || c.layers < 1 || c.heads < 1 || c.d_ff < 1 || c.context < 1)
    throw std::invalid_argument("every dimension of the model must be at least 1");
  if (c.d_model % c.heads != 0 || c.head_dim() % 2 != 0)
    throw std::invalid_argument("d_model = " + std::to_string(c.d_model) + " must be an even multiple of heads = " +
                                std::to_string(c.heads));
}

/// What a matrix is for, which decides how it starts and which optimizer it gets.
enum class Role { Embedding, Norm, Attention, Mlp, Head };

struct MatrixInfo {
  std::string name;
  Index rows, cols, offset;
  Role role;
  bool writes_residual = false;  // o and down: their output is added to the residual stream
};

class Layout {
 public:
  /// What one product multiplies by: matrices that share their input, one below the other.
  struct Linear {
    Index offset, rows, cols;
    std::size_t index;         // 4 l + {0 qkv, 1 o, 2 gate_up, 3 down}
    std::size_t first, count;  // which of matrices()
  };
  struct Layer {
    Index attn_norm, mlp_norm;  // offsets
    Linear qkv, o, gate_up, down;
  };

  explicit Layout(const ModelConfig& config) {
    check(config);
    const Index d = config.d_model, f = config.d_ff, v = ModelConfig::vocab;
    embed_ = add("embed.weight", v, d, Role::Embedding);
    for (Index l = 0; l < config.layers; ++l) {
      const std::string p = "layers." + std::to_string(l) + ".";
      Layer layer{};
      layer.attn_norm = add(p + "attn_norm.weight", 1, d, Role::Norm);
      add(p + "attn.q.weight", d, d, Role::Attention);
      append(p + "attn.k.weight", d, d, Role::Attention);
      append(p + "attn.v.weight", d, d, Role::Attention);
      layer.qkv = last(3, 4 * std::size_t(l));
      add(p + "attn.o.weight", d, d, Role::Attention);
      matrices_.back().writes_residual = true;
      layer.o = last(1, layer.qkv.index + 1);
      layer.mlp_norm = add(p + "mlp_norm.weight", 1, d, Role::Norm);
      add(p + "mlp.gate.weight", f, d, Role::Mlp);
      append(p + "mlp.up.weight", f, d, Role::Mlp);
      layer.gate_up = last(2, layer.qkv.index + 2);
      add(p + "mlp.down.weight", d, f, Role::Mlp);
      matrices_.back().writes_residual = true;
      layer.down = last(1, layer.qkv.index + 3);
      layers_.push_back(layer);
    }
    norm_ = add("norm.weight", 1, d, Role::Norm);
    head_ = add("head.weight", v, d, Role::Head);
  }

  Index embed() const { return embed_; }
  Index norm() const { return norm_; }
  Index head() const { return head_; }
  const Layer& layer(Index l) const { return layers_[std::size_t(l)]; }
  Index layers() const { return Index(layers_.size()); }
  const std::vector<MatrixInfo>& matrices() const { return matrices_; }
  /// Values in an arena, padding included.
  Index size() const { return size_; }
  /// Weights of the model, padding excluded.
  Index parameters() const {
    Index n = 0;
    for (const MatrixInfo& m : matrices_) n += m.rows * m.cols;
    return n;
  }

 private:
  Index add(std::string name, Index rows, Index cols, Role role) {
    size_ = (size_ + 15) / 16 * 16;
    return append(std::move(name), rows, cols, role);
  }
  Index append(std::string name, Index rows, Index cols, Role role) {
    const Index at = size_;
    matrices_.push_back({std::move(name), rows, cols, at, role});
    size_ += rows * cols;
    return at;
  }
  /// The last `count` matrices as one.
  Linear last(std::size_t count, std::size_t index) const {
    const std::size_t first = matrices_.size() - count;
    Linear all{matrices_[first].offset, 0, matrices_[first].cols, index, first, count};
    for (std::size_t i = first; i < matrices_.size(); ++i) all.rows += matrices_[i].rows;
    return all;
  }

  std::vector<MatrixInfo> matrices_;
  std::vector<Layer> layers_;
  Index embed_ = 0, norm_ = 0, head_ = 0, size_ = 0;
};

}  // namespace pretrain
