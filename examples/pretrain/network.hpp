// Network: the decoder as a run sees it, whatever its linear layers are.
#pragma once

#include <memory>
#include <span>

#include "examples/pretrain/layout.hpp"

namespace pretrain {

class Replaced;

/// What the attention and MLP matrices are: themselves, or made of other numbers.
enum class Weights { Dense, Replaced };

class Network {
 public:
  Network() = default;
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;
  virtual ~Network() = default;

  virtual const Layout& layout() const = 0;
  virtual float* weights() = 0;
  virtual const float* weights() const = 0;
  virtual float* gradients() = 0;
  virtual std::size_t activation_bytes() const = 0;
  /// Null when the weights are dense.
  virtual Replaced* replaced() = 0;

  /// First weights of a seed.
  virtual void initialise(std::uint64_t seed) = 0;
  virtual void zero_gradients() = 0;
  /// Mean cross entropy in nats per byte, and adds its gradient; step: the number that a layer's random choices hang on.
  virtual double forward_backward(std::span<const Byte> bytes, Index step) = 0;
  virtual double loss(std::span<const Byte> bytes) = 0;
};

/// One of each kind, made when it is first asked for: their activations are large.
class Networks {
 public:
  Networks(const ModelConfig& config, Index windows) : config_(config), windows_(windows) {}

  Network& of(Weights weights) {
    std::unique_ptr<Network>& network = weights == Weights::Dense ? dense_ : replaced_;
    if (!network) network = make(weights);
    return *network;
  }

 private:
  std::unique_ptr<Network> make(Weights weights) const;

  ModelConfig config_;
  Index windows_;
  std::unique_ptr<Network> dense_, replaced_;
};

}  // namespace pretrain
