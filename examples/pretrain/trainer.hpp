// Trainer: an optimizer of the whole model, whatever its type.
#pragma once

#include <filesystem>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include <lowrank/io/safetensors.hpp>

#include "examples/pretrain/basis.hpp"
#include "examples/pretrain/network.hpp"
#include "examples/pretrain/settings.hpp"

namespace pretrain {

struct Method;

/// One training run.
struct RunSpec {
  std::string method;
  double rate, lr;  // scale included; what the step gets
  std::uint64_t seed;
  double clip;

  bool operator==(const RunSpec&) const = default;
};

/// Bytes a trainer holds for all matrices together, counted in its state and, beside it, by the formula.
struct MemoryUse {
  std::size_t weights = 0, gradients = 0;
  std::size_t basis = 0, moments = 0, error = 0, numbers = 0;  // the state: bases or indices, ..., limiter norms
  std::size_t formula = 0, workspace = 0;

  std::size_t state() const { return basis + moments + error + numbers; }
};

/// The parts that differ by type are behind one virtual call a step; the library has none.
class Trainer {
 public:
  struct Outcome {
    Index skipped = 0, refreshed = 0;
  };

  Trainer() = default;
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;
  virtual ~Trainer() = default;

  /// Before the forward pass of step t, counted from 0.
  virtual void begin_step(Index) {}
  /// factor: of the peak rates, by the schedule. The gradient is clipped to this norm; 0: not.
  virtual Outcome step(double factor, double clip) = 0;
  virtual MemoryUse memory() = 0;
  /// Of the last step, in the model's order; none of a method that projects nothing or keeps no basis.
  virtual std::vector<Basis> bases() const { return {}; }
  /// What there is in the place of attention and MLP matrices, by name; empty: themselves.
  virtual std::vector<lowrank::io::Tensor> replacements() const { return {}; }
  virtual void print_plan(std::ostream& out) const = 0;
  virtual void save(const std::filesystem::path& path) const = 0;
  virtual void load(const std::filesystem::path& path) = 0;
};

/// What a trainer is made for. The network must outlive it.
struct Task {
  const Method& method;
  const RunSpec& spec;
  const Settings& settings;
  Network& network;
};

/// Attention and MLP matrices get the method, everything else AdamW at its own rate.
/// A method that replaces weights begins with what the network has in them, and its layers are the network's until another
/// trainer is made. Throws std::invalid_argument for options the method does not have or allow.
std::unique_ptr<Trainer> make_trainer(const RunSpec& spec, const Settings& settings, Network& network);

}  // namespace pretrain
