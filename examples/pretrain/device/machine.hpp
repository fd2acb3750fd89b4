// Machine: another machine that the optimizers of pretrain can live on, as the host's compiler sees it. The GPU's side (machine.cuh)
// is compiled by nvcc, which reads no Eigen, the trainer's side by a compiler that reads no CUDA; this page is what both read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>  // std::move

#include <lowrank/options.hpp>

namespace pretrain::inline LOWRANK_ABI {

/// One array of a state, in that machine's memory.
class RemoteArray {
 public:
  RemoteArray(void* data, std::ptrdiff_t rows, std::ptrdiff_t cols, std::size_t bytes) : data_(data), rows_(rows), cols_(cols), bytes_(bytes) {}
  void* data() const { return data_; }
  std::ptrdiff_t rows() const { return rows_; }
  std::ptrdiff_t cols() const { return cols_; }
  std::size_t bytes() const { return bytes_; }

 private:
  void* data_;
  std::ptrdiff_t rows_, cols_;
  std::size_t bytes_;
};

/// Looks at a state, field by field. A number that it changes is changed there.
class FieldVisitor {
 public:
  virtual void visit(const char* name, const RemoteArray& array) = 0;
  virtual void visit(const char* name, std::uint64_t& number) = 0;
  virtual void visit(const char* name, double& number) = 0;
  virtual void visit(const char* name, float& number) = 0;

 protected:
  ~FieldVisitor() = default;
};

/// A matrix there: its weight, its gradient and its optimizer. Both are rows x cols, row-major, float.
class RemoteMatrix {
 public:
  struct Report {
    bool skipped, refreshed;
    double captured, drift, grad_norm;
  };

  virtual ~RemoteMatrix() = default;
  /// Asks for one step with this weight and gradient, and does not wait.
  virtual void begin(const float* weight, const float* gradient, const lowrank::Step& step) = 0;
  /// Waits; the weight after the step.
  virtual Report end(float* weight) = 0;

  virtual bool transposed() const = 0;
  virtual std::ptrdiff_t rank() const = 0;
  virtual std::size_t state_bytes() const = 0;
  virtual std::size_t workspace_bytes() const = 0;
  virtual void visit(FieldVisitor& visitor) = 0;
  virtual void visit_numbers(FieldVisitor& visitor) = 0;
};

template <class R>
class MakesMatrix {
 public:
  /// Throws std::invalid_argument for options that this machine does not have.
  virtual std::unique_ptr<RemoteMatrix> make(std::ptrdiff_t rows, std::ptrdiff_t cols, const R& recipe) = 0;

 protected:
  ~MakesMatrix() = default;
};

/// R: every recipe it has.
template <class... R>
class MachineFor : public MakesMatrix<R>... {
 public:
  using MakesMatrix<R>::make...;
  virtual ~MachineFor() = default;
  virtual void upload(void* to, const void* from, std::size_t bytes) = 0;
  virtual void download(void* to, const void* from, std::size_t bytes) = 0;
};

using Machine = MachineFor<decltype(lowrank::adamw()), lowrank::Recipe<lowrank::Identity, lowrank::AdamBf16>, lowrank::Recipe<lowrank::Identity, lowrank::Adam8bit>,
                           decltype(lowrank::galore()), decltype(lowrank::galore_8bit()), decltype(lowrank::fira()), decltype(lowrank::fira<lowrank::Dct>()),
                           decltype(lowrank::apollo()), decltype(lowrank::apollo<lowrank::Subspace>()), decltype(lowrank::dct_adamw()),
                           decltype(lowrank::dct_adamw<lowrank::ErrorFeedback>()), decltype(lowrank::muon()), decltype(lowrank::trion()), decltype(lowrank::dion())>;

/// The first GPU. Throws std::runtime_error where there is none.
std::unique_ptr<Machine> gpu();

}  // namespace pretrain
