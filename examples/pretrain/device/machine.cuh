// What machine.hpp says, on a backend of lowrank/cuda: the GPU's (gpu.cu), and in the tests the one that runs kernels on the CPU.
#pragma once

#include <lowrank/cuda/recipes.cuh>

#include "examples/pretrain/device/machine.hpp"

namespace pretrain::inline LOWRANK_ABI {

template <class R, class B>
class MatrixOn final : public RemoteMatrix {
  using Optimizer = decltype(std::declval<const R&>()(std::declval<B&>(), std::declval<const lowrank::cuda::View<float>&>()));

 public:
  MatrixOn(B& backend, std::ptrdiff_t rows, std::ptrdiff_t cols, const R& recipe)
      : backend_(backend), weight_(make(backend, rows, cols)), gradient_(make(backend, rows, cols)), optimizer_(recipe(backend, view(weight_))) {}

  void begin(const float* weight, const float* gradient, const lowrank::Step& step) override {
    const auto w = view(weight_), g = view(gradient_);
    optimizer_.check(w, g, step);
    backend_.upload(w.data, weight, weight_.bytes());
    backend_.upload(g.data, gradient, gradient_.bytes());
    optimizer_.set(step);
    optimizer_.enqueue(w, g, optimizer_.due() ? lowrank::cuda::Refresh::Yes : lowrank::cuda::Refresh::No);
  }
  Report end(float* weight) override {
    backend_.download(weight, weight_.data(), weight_.bytes());
    const lowrank::cuda::Report r = optimizer_.report();
    return {r.skipped, r.refreshed, r.captured, r.drift, r.grad_norm};
  }

  bool transposed() const override { return optimizer_.transposed(); }
  std::ptrdiff_t rank() const override { return optimizer_.rank(); }
  std::size_t state_bytes() const override { return optimizer_.state_bytes(); }
  std::size_t workspace_bytes() const override { return optimizer_.workspace_bytes(); }
  void visit(FieldVisitor& visitor) override {
    optimizer_.visit([&](const char* name, const auto& x) { visitor.visit(name, RemoteArray(x.data(), x.rows(), x.cols(), x.bytes())); });
  }
  void visit_numbers(FieldVisitor& visitor) override {
    optimizer_.visit_numbers([&](const char* name, auto& x) { visitor.visit(name, x); });
  }

 private:
  using Array = lowrank::cuda::Array<float, B>;

  static Array make(B& backend, std::ptrdiff_t rows, std::ptrdiff_t cols) {
    Array array(cols, rows);  // whose columns are the matrix's rows
    array.allocate(backend);
    return array;
  }
  static lowrank::cuda::View<float> view(const Array& a) { return lowrank::cuda::view(a.data(), a.cols(), a.rows()); }

  B& backend_;
  Array weight_, gradient_;
  Optimizer optimizer_;
};

/// One make() after the other.
template <class B, class Interface, class... R>
class MachineOn;
template <class B, class Interface>
class MachineOn<B, Interface> : public Interface {
 public:
  explicit MachineOn(B& backend) : backend_(backend) {}
  using Interface::make;
  void upload(void* to, const void* from, std::size_t bytes) override { backend_.upload(to, from, bytes); }
  void download(void* to, const void* from, std::size_t bytes) override { backend_.download(to, from, bytes); }

 protected:
  B& backend_;
};
template <class B, class Interface, class R, class... Rest>
class MachineOn<B, Interface, R, Rest...> : public MachineOn<B, Interface, Rest...> {
 public:
  using MachineOn<B, Interface, Rest...>::MachineOn;
  using MachineOn<B, Interface, Rest...>::make;
  std::unique_ptr<RemoteMatrix> make(std::ptrdiff_t rows, std::ptrdiff_t cols, const R& recipe) override {
    return std::make_unique<MatrixOn<R, B>>(this->backend_, rows, cols, recipe);
  }
};

/// Whatever recipes the machine has, on this backend, which must outlive it.
template <class B, class... R>
std::unique_ptr<MachineFor<R...>> machine_on(B& backend, const MachineFor<R...>*) {
  return std::make_unique<MachineOn<B, MachineFor<R...>, R...>>(backend);
}
template <class B>
std::unique_ptr<Machine> machine_on(B& backend) { return machine_on(backend, static_cast<const Machine*>(nullptr)); }

}  // namespace pretrain
