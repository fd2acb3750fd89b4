// Learner: a decoder under adaptation, whatever is trained of it. The parts that differ by type are behind one virtual
// call a step; the library has none.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "examples/finetune/base.hpp"
#include "examples/finetune/settings.hpp"

namespace finetune {

/// With the best rate of a grid by factors of two at the default size: 300 steps of one seed on C++ headers after Eigen's,
/// in results/rates.csv with the losses of its neighbours.
struct Method {
  std::string name;
  double rate;
};
inline const std::vector<Method>& all_methods() {
  static const std::vector<Method> methods{{"full", 4e-3}, {"lora", 16e-3}, {"dora", 16e-3}, {"vera", 80e-3}, {"randlora", 2e-3}};
  return methods;
}

/// Bytes, but for the first two.
struct MemoryUse {
  Index rank = 0, trained = 0;
  std::size_t gradients = 0, optimizer = 0;
  std::size_t adapters = 0, shared = 0;  // adapters: of their own; shared: frozen bases, once for the model
  std::size_t passes = 0;                // that adapters keep from forward to backward, and their workspace
};

/// The held-out loss, in bits per byte, of what was written and read back.
struct Written {
  std::optional<double> peft, gguf;  // full fine-tuning has no adapter
  std::size_t peft_bytes = 0, gguf_bytes = 0;
  double merged = 0, merge_error = 0;  // error: the largest ||rounding|| / ||change|| of a matrix
};

class Learner {
 public:
  Learner() = default;
  Learner(const Learner&) = delete;
  Learner& operator=(const Learner&) = delete;
  virtual ~Learner() = default;

  /// The loss in nats; leaves its gradient.
  virtual double forward_backward(std::span<const pretrain::Byte> bytes) = 0;
  virtual double held_out(const HeldOut& held_out, Index windows) = 0;
  /// One step of AdamW with the gradient clipped to this norm (0: not). False: it was not finite and nothing moved.
  virtual bool step(double lr, double clip) = 0;
  /// Runs one batch to see what the passes need.
  virtual MemoryUse memory(std::span<const pretrain::Byte> bytes) = 0;

  /// What is trained, and the optimizer's state.
  virtual void save(const std::string& stem) const = 0;
  virtual void load(const std::string& stem) = 0;
  /// The adapter as peft/ and adapter.gguf, and merged.safetensors, the weights as pretrain writes them.
  virtual Written write(const std::filesystem::path& folder, const HeldOut& held_out, Index windows) const = 0;
};

/// windows: of the largest batch. numbers: to train, as nearly as a rank allows; full trains all.
std::unique_ptr<Learner> make_learner(const std::string& method, const Base& base, Index windows, Index numbers,
                                      std::uint64_t seed);
/// What LoRA of rank d / 32 trains.
Index default_numbers(const pretrain::ModelConfig& config);

}  // namespace finetune
