// Backend: the machine a step runs on, seen by everything above it. Two conform: Context (context.cuh), which is a CUDA stream with
// cuBLAS and cuSOLVER, and the recorder in the tests, which runs the same kernels and naive products on the CPU.
//
//   launch(kernel, grid)                        runs kernel(block) for every block; in order with all else
//   gemm<S>(A, B, C, m, n, depth, scale)        C (m x n) <- alpha A B + beta C; A and B are Operands, C column-major or its transpose
//   gemm_batch<S>(A, B, C, count, m, n, depth, scale)       as many of them, of one alpha and beta: data points at addresses on the device
//   cholesky(n, A, ld, info)                    A = L L^T in its lower triangle, double; *info = 0 unless a pivot was not positive
//   divide(m, n, L, ldl, Y, ldy)                Y (m x n) <- Y L^-T, double
//   eigh(n, A, w)                               A (n x n, double) <- its eigenvectors, w <- eigenvalues, ascending
//   upload(to, from, bytes), download(to, from, bytes)      between the CPU and the device; download waits for what was asked for
//   copy(to, from, bytes), clear(to, bytes)     on the device
//   allocate(bytes), release(pointer)           through the caller's allocator
//   workspace(bytes)                            memory for one step, shared by all that run on this backend, one after the other
//
// The backend outlives what is made on it. Nothing is allocated once every shape has been stepped.
#pragma once

#include <cstddef>
#include <utility>  // std::exchange

#include <lowrank/cuda/view.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// A matrix in device memory as a product reads or writes it: element (i, j) at data[i + j ld], or at data[j + i ld] (transposed).
template <class S>
struct Operand {
  S* data;
  Index ld;
  bool transposed = false;

  Operand turned() const { return {data, ld, !transposed}; }
  template <class T>
    requires std::is_same_v<T, const S>
  operator Operand<T>() const { return {data, ld, transposed}; }
};
template <class S>
Operand<S> columns(S* data, Index ld) { return {data, ld, false}; }
template <class S>
Operand<S> transposed(S* data, Index ld) { return {data, ld, true}; }
/// One stride of the view is 1.
template <class S>
Operand<S> operand(const View<S>& v) { return v.row_stride == 1 ? columns(v.data, v.col_stride) : transposed(v.data, v.row_stride); }

/// alpha and beta of a product: numbers, or the address of the two on the device, one after the other; common: they are the same
/// for all matrices that step together.
template <class S>
struct Scale {
  S alpha = 1, beta = 0;
  const S* device = nullptr;
  bool common = device == nullptr;
};

template <class B>
concept Backend = requires(B& b, void* to, const void* from, double* x, int* info, Operand<const double> A, Operand<double> C,
                             Operand<const double* const> As, Operand<double* const> Cs, Each<Fill<double>> kernel) {
  b.launch(kernel, Grid{});
  b.gemm(A, A, C, Index(), Index(), Index(), Scale<double>{});
  b.gemm_batch(As, As, Cs, Index(), Index(), Index(), Index(), Scale<double>{});
  b.cholesky(Index(), x, Index(), info);
  b.divide(Index(), Index(), x, Index(), x, Index());
  b.eigh(Index(), x, x);
  b.upload(to, from, std::size_t());
  b.download(to, from, std::size_t());
  b.copy(to, from, std::size_t());
  b.clear(to, std::size_t());
  to = b.allocate(std::size_t());
  b.release(to);
  to = b.workspace(std::size_t());
};

/// Launches a kernel on the grid that it asks for, or an operation on so many numbers, one a thread.
template <class B, class K>
void launch(B& backend, const K& kernel) {
  if constexpr (requires { kernel.size(); }) launch(backend, Each<K>{kernel});
  else if (const Grid grid = kernel.grid(); grid.blocks > 0) backend.launch(kernel, grid);
}

/// rows x cols values in device memory, column-major, zero when made. The shape is there from the start, the memory after allocate().
template <class T, class B>
class Array {
 public:
  Array() = default;
  Array(Index rows, Index cols) : rows_(rows), cols_(cols) {}
  Array(Array&& other) noexcept
      : backend_(other.backend_), data_(std::exchange(other.data_, nullptr)), rows_(other.rows_), cols_(other.cols_) {}
  Array& operator=(Array&& other) noexcept {
    std::swap(backend_, other.backend_), std::swap(data_, other.data_), std::swap(rows_, other.rows_), std::swap(cols_, other.cols_);
    return *this;
  }
  ~Array() {
    if (data_ != nullptr) backend_->release(data_);
  }

  void allocate(B& backend) {
    if (data_ != nullptr || size() == 0) return;
    backend_ = &backend;
    data_ = static_cast<T*>(backend.allocate(bytes()));
    backend.clear(data_, bytes());
  }
  T* data() const { return data_; }
  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Index size() const { return rows_ * cols_; }
  std::size_t bytes() const { return std::size_t(size()) * sizeof(T); }

 private:
  B* backend_ = nullptr;
  T* data_ = nullptr;
  Index rows_ = 0, cols_ = 0;
};

/// Cuts a block of device memory into pieces of 256 bytes' alignment. Without memory it only counts, so one layout function says
/// how much a step needs and where each piece lies.
class Arena {
 public:
  Arena() = default;
  explicit Arena(void* memory) : base_(static_cast<unsigned char*>(memory)) {}

  template <class T>
  T* take(Index n) {
    const std::size_t at = used_;
    used_ += (std::size_t(n) * sizeof(T) + 255) / 256 * 256;
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + at);
  }
  std::size_t used() const { return used_; }

 private:
  unsigned char* base_ = nullptr;
  std::size_t used_ = 0;
};

}  // namespace cuda
}  // namespace lowrank
