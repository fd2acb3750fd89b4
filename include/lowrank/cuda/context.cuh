// Context: a CUDA stream of the caller's with what a step needs on it: cuBLAS and cuSOLVER handles, made when they are first used,
// memory from the caller's allocator, and one workspace. One per thread; it must outlive what was made on it.
//
//   lowrank::cuda::Context context(stream);                                  // memory from cudaMalloc
//   lowrank::cuda::Context pooled(stream, lowrank::cuda::StreamOrdered{});   // from cudaMallocAsync
//
// An allocator is a value with allocate(bytes, stream) and release(pointer, stream).
// Links against cudart, cublas and cusolver (CMake: lowrank::cuda). Kernels need nvcc; everything else is plain C++.
#pragma once

#include <algorithm>  // std::max
#include <string>

#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <cusolverDn.h>

#include <lowrank/cuda/backend.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

namespace detail {
inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw std::runtime_error(std::string("lowrank::cuda: ") + what + ": " + cudaGetErrorString(status));
}
inline void check(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS) throw std::runtime_error(std::string("lowrank::cuda: ") + what + ": " + cublasGetStatusString(status));
}
inline void check(cusolverStatus_t status, const char* what) {
  if (status != CUSOLVER_STATUS_SUCCESS) throw std::runtime_error(std::string("lowrank::cuda: ") + what + ": cuSOLVER status " + std::to_string(int(status)));
}
}  // namespace detail

/// Memory from cudaMalloc, which waits for the device.
struct Plain {
  void* allocate(std::size_t bytes, cudaStream_t) const {
    void* p = nullptr;
    detail::check(cudaMalloc(&p, bytes), "cudaMalloc");
    return p;
  }
  void release(void* p, cudaStream_t) const { cudaFree(p); }
};
/// Memory from the stream's pool, which waits for nothing.
struct StreamOrdered {
  void* allocate(std::size_t bytes, cudaStream_t stream) const {
    void* p = nullptr;
    detail::check(cudaMallocAsync(&p, bytes, stream), "cudaMallocAsync");
    return p;
  }
  void release(void* p, cudaStream_t stream) const { cudaFreeAsync(p, stream); }
};

/// Products of floats: as written, or through the tensor cores with inputs of 10 bits.
enum class Products { Exact, Tf32 };

template <class Memory = Plain>
class Context {
 public:
  explicit Context(cudaStream_t stream = nullptr, Memory memory = {}, Products products = Products::Exact)
      : stream_(stream), memory_(memory), products_(products) {}
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  ~Context() {
    if (blas_ != nullptr) cublasDestroy(blas_);
    if (solver_ != nullptr) cusolverDnDestroy(solver_);
    for (const Room* room : {&workspace_, &blas_room_, &solver_room_})
      if (room->data != nullptr) memory_.release(room->data, stream_);
  }

  cudaStream_t stream() const { return stream_; }

#if defined(__CUDACC__)
  template <class K>
  void launch(const K& kernel, Grid grid) {
    if (grid.shared > 48 * 1024)
      detail::check(cudaFuncSetAttribute(run<K>, cudaFuncAttributeMaxDynamicSharedMemorySize, int(grid.shared)), "shared memory of a kernel");
    run<K><<<unsigned(grid.blocks), K::threads, grid.shared, stream_>>>(kernel);
    detail::check(cudaGetLastError(), "launch of a kernel");
  }
#else
  template <class K>
  void launch(const K&, Grid) {
    static_assert(sizeof(K) == 0, "steps on a device are compiled with nvcc: move this call into a .cu file");
  }
#endif

  template <class S, class SA, class SB>
  void gemm(Operand<SA> A, Operand<SB> B, Operand<S> C, Index m, Index n, Index depth, Scale<S> scale) {
    if (C.transposed) return gemm(B.turned(), A.turned(), C.turned(), n, m, depth, scale);
    const auto op = [](bool turn) { return turn ? CUBLAS_OP_T : CUBLAS_OP_N; };
    const auto [alpha, beta] = factors(scale);
    if constexpr (std::is_same_v<S, double>)
      detail::check(cublasDgemm_64(blas_, op(A.transposed), op(B.transposed), m, n, depth, alpha, A.data, A.ld, B.data, B.ld, beta, C.data, C.ld), "cublasDgemm");
    else
      detail::check(cublasSgemm_64(blas_, op(A.transposed), op(B.transposed), m, n, depth, alpha, A.data, A.ld, B.data, B.ld, beta, C.data, C.ld), "cublasSgemm");
  }

  template <class S>
  void gemm_batch(Operand<const S* const> A, Operand<const S* const> B, Operand<S* const> C, Index count, Index m, Index n, Index depth, Scale<S> scale) {
    if (C.transposed) return gemm_batch(B.turned(), A.turned(), C.turned(), count, n, m, depth, scale);
    const auto op = [](bool turn) { return turn ? CUBLAS_OP_T : CUBLAS_OP_N; };
    const auto [alpha, beta] = factors(scale);
    if constexpr (std::is_same_v<S, double>)
      detail::check(cublasDgemmBatched_64(blas_, op(A.transposed), op(B.transposed), m, n, depth, alpha, A.data, A.ld, B.data, B.ld, beta, C.data, C.ld, count), "cublasDgemmBatched");
    else
      detail::check(cublasSgemmBatched_64(blas_, op(A.transposed), op(B.transposed), m, n, depth, alpha, A.data, A.ld, B.data, B.ld, beta, C.data, C.ld, count), "cublasSgemmBatched");
  }

  void cholesky(Index n, double* A, Index ld, int* info) {
    int room = 0;
    detail::check(cusolverDnDpotrf_bufferSize(solver(), CUBLAS_FILL_MODE_LOWER, int(n), A, int(ld), &room), "cusolverDnDpotrf_bufferSize");
    auto* work = static_cast<double*>(solver_room_.reserve(*this, std::size_t(room) * sizeof(double)));
    detail::check(cusolverDnDpotrf(solver_, CUBLAS_FILL_MODE_LOWER, int(n), A, int(ld), work, room, info), "cusolverDnDpotrf");
  }
  void divide(Index m, Index n, const double* L, Index ldl, double* Y, Index ldy) {
    const double one = 1;
    detail::check(cublasSetPointerMode(blas(), CUBLAS_POINTER_MODE_HOST), "cublasSetPointerMode");
    detail::check(cublasDtrsm_64(blas_, CUBLAS_SIDE_RIGHT, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_T, CUBLAS_DIAG_NON_UNIT, m, n, &one, L, ldl, Y, ldy), "cublasDtrsm");
  }
  void eigh(Index n, double* A, double* w) {
    int room = 0;
    detail::check(cusolverDnDsyevd_bufferSize(solver(), CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, int(n), A, int(n), w, &room), "cusolverDnDsyevd_bufferSize");
    auto* work = static_cast<double*>(solver_room_.reserve(*this, (std::size_t(room) + 1) * sizeof(double)));
    auto* info = reinterpret_cast<int*>(work + room);
    detail::check(cusolverDnDsyevd(solver_, CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, int(n), A, int(n), w, work, room, info), "cusolverDnDsyevd");
  }

  void upload(void* to, const void* from, std::size_t bytes) { detail::check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream_), "copy to the device"); }
  void download(void* to, const void* from, std::size_t bytes) {
    detail::check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream_), "copy from the device");
    detail::check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  }
  void copy(void* to, const void* from, std::size_t bytes) { detail::check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream_), "copy on the device"); }
  void clear(void* to, std::size_t bytes) { detail::check(cudaMemsetAsync(to, 0, bytes, stream_), "cudaMemsetAsync"); }

  void* allocate(std::size_t bytes) { return memory_.allocate(bytes, stream_); }
  void release(void* p) { memory_.release(p, stream_); }
  void* workspace(std::size_t bytes) { return workspace_.reserve(*this, bytes); }
  std::size_t workspace_bytes() const { return workspace_.bytes; }

 private:
  /// Grows, never shrinks.
  struct Room {
    void* data = nullptr;
    std::size_t bytes = 0;

    void* reserve(Context& context, std::size_t wanted) {
      if (bytes < wanted) {
        if (data != nullptr) context.memory_.release(std::exchange(data, nullptr), context.stream_);
        bytes = 0;
        data = context.memory_.allocate(wanted, context.stream_);
        bytes = wanted;
      }
      return data;
    }
  };

  /// Where cuBLAS finds a product's factors, of which it is told the kind; `scale` is the caller's until the product is launched.
  template <class S>
  std::pair<const S*, const S*> factors(const Scale<S>& scale) {
    const bool host = scale.device == nullptr;
    detail::check(cublasSetPointerMode(blas(), host ? CUBLAS_POINTER_MODE_HOST : CUBLAS_POINTER_MODE_DEVICE), "cublasSetPointerMode");
    return host ? std::pair(&scale.alpha, &scale.beta) : std::pair(scale.device, scale.device + 1);
  }
  cublasHandle_t blas() {
    if (blas_ == nullptr) {
      detail::check(cublasCreate(&blas_), "cublasCreate");
      detail::check(cublasSetStream(blas_, stream_), "cublasSetStream");
      // its own memory, so that captured products need none of the device's
      constexpr std::size_t room = std::size_t(32) << 20;
      detail::check(cublasSetWorkspace(blas_, blas_room_.reserve(*this, room), room), "cublasSetWorkspace");
      detail::check(cublasSetMathMode(blas_, products_ == Products::Tf32 ? CUBLAS_TF32_TENSOR_OP_MATH : CUBLAS_DEFAULT_MATH), "cublasSetMathMode");
    }
    return blas_;
  }
  cusolverDnHandle_t solver() {
    if (solver_ == nullptr) {
      detail::check(cusolverDnCreate(&solver_), "cusolverDnCreate");
      detail::check(cusolverDnSetStream(solver_, stream_), "cusolverDnSetStream");
      detail::check(cusolverDnSetDeterministicMode(solver_, CUSOLVER_DETERMINISTIC_RESULTS), "cusolverDnSetDeterministicMode");
    }
    return solver_;
  }

  cudaStream_t stream_;
  Memory memory_;
  Products products_;
  cublasHandle_t blas_ = nullptr;
  cusolverDnHandle_t solver_ = nullptr;
  Room workspace_, blas_room_, solver_room_;
};
}  // namespace cuda
}  // namespace lowrank
