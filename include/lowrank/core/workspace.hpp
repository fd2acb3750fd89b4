// Workspace: memory a computation needs and forgets. An Optimizer on its own has one; the optimizers of a Fleet share one,
// and so do the adapters of a model. It is never part of a state: a copy starts without.
#pragma once

#include <lowrank/core/buffer.hpp>
#include <lowrank/core/parallel.hpp>

namespace lowrank::inline LOWRANK_ABI {

class Workspace {
 public:
  Workspace() = default;
  /// For steps on this many threads.
  explicit Workspace(int threads) : threads_(threads) {}
  Workspace(const Workspace&) {}
  Workspace(Workspace&&) = default;
  Workspace& operator=(const Workspace&) { return *this; }
  Workspace& operator=(Workspace&&) = default;

  /// Threads the workspace is made for: those available when it was first used.
  int threads() {
    if (threads_ == 0) threads_ = detail::available_threads();
    return threads_;
  }
  /// At least this many bytes; grows, never shrinks.
  Buffer<std::byte>& reserve(std::size_t bytes) {
    if (memory_.bytes() < bytes) {
      memory_ = Buffer<std::byte>();  // the old block first: both together are never needed
      memory_ = Buffer<std::byte>(Index(bytes), 1);
    }
    return memory_;
  }
  std::size_t bytes() const { return memory_.bytes(); }

 private:
  Buffer<std::byte> memory_;
  int threads_ = 0;
};

}  // namespace lowrank
