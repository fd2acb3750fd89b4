// Kernels. A kernel is a plain value: a struct of pointers and numbers with
//
//   static constexpr int threads;                              per block, a power of two
//   template <class Block> LOWRANK_DEVICE void operator()(Block& block) const;
//
// written in phases. block.each(f) calls f(thread) for every thread of the block, and a barrier follows; what is said between two
// phases is the same for all threads and touches no shared memory. What a thread must remember from one phase to the next lies
// in a Local. On the device f(thread) is this thread's turn and a Local is a register. A test runs the same source as
// a loop over the threads, in any order it likes: a barrier that only some threads reach cannot be written, a race shows as bits that
// depend on the order, an access out of bounds as the address sanitizer's report.
#pragma once

#include <cmath>        // std::fma, std::sqrt
#include <cstddef>      // std::ptrdiff_t, std::size_t
#include <cstdint>      // std::uint64_t
#include <type_traits>  // std::is_trivially_copyable_v

#include <lowrank/options.hpp>

#if defined(__CUDACC__)
#define LOWRANK_DEVICE __device__
#define LOWRANK_HOST_DEVICE __host__ __device__
#else
#define LOWRANK_DEVICE
#define LOWRANK_HOST_DEVICE
#endif

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// Sizes and positions.
using Index = std::ptrdiff_t;

/// How many blocks, and how many bytes of shared memory each.
struct Grid {
  Index blocks = 1;
  std::size_t shared = 0;
};

LOWRANK_HOST_DEVICE constexpr Index ceil_div(Index n, Index by) { return (n + by - 1) / by; }
template <class T>
LOWRANK_HOST_DEVICE constexpr T least(T a, T b) { return b < a ? b : a; }
template <class T>
LOWRANK_HOST_DEVICE constexpr T most(T a, T b) { return a < b ? b : a; }
/// std::bit_cast, which device code may not call.
template <class To, class From>
LOWRANK_HOST_DEVICE constexpr To bit_cast(From x) { return __builtin_bit_cast(To, x); }
/// Neither NaN nor infinite: on the exponent's bits, since -ffast-math lets a compiler assume the answer.
LOWRANK_HOST_DEVICE inline bool is_finite(double x) {
  return (bit_cast<std::uint64_t>(x) & 0x7ff0000000000000u) != 0x7ff0000000000000u;
}

template <class K>
concept Kernel = std::is_trivially_copyable_v<K> && requires { requires K::threads > 0 && (K::threads & (K::threads - 1)) == 0; };

#if defined(__CUDACC__)
/// A thread block as it runs on the device.
class DeviceBlock {
 public:
  template <class T>
  struct Local {
    T value;
    __device__ T& operator[](int) { return value; }
  };

  __device__ Index index() const { return Index(blockIdx.x); }
  __device__ int threads() const { return int(blockDim.x); }
  template <class F>
  __device__ void each(const F& f) {
    f(int(threadIdx.x));
    __syncthreads();
  }
  template <class T>
  __device__ Local<T> local() { return {}; }
  /// The next n values of the block's shared memory.
  template <class T>
  __device__ T* shared(int n) {
    extern __shared__ __align__(16) unsigned char lowrank_cuda_shared[];
    T* at = reinterpret_cast<T*>(lowrank_cuda_shared + used_);
    used_ += (std::size_t(n) * sizeof(T) + 15) / 16 * 16;
    return at;
  }

 private:
  std::size_t used_ = 0;
};

template <Kernel K>
__global__ void __launch_bounds__(K::threads) run(const __grid_constant__ K kernel) {
  DeviceBlock block;
  kernel(block);
}
#endif

/// Bytes that shared<T>(n) takes.
template <class T>
constexpr std::size_t shared_bytes(int n) { return (std::size_t(n) * sizeof(T) + 15) / 16 * 16; }

/// The sum of x over the threads of a block, in one order whatever runs it. room: as many values as threads.
template <class Block, class Local, class T>
LOWRANK_DEVICE T block_sum(Block& block, Local& x, T* room) {
  block.each([&](int t) { room[t] = x[t]; });
  for (int half = block.threads() / 2; half > 0; half /= 2)
    block.each([&](int t) {
      if (t < half) room[t] += room[t + half];
    });
  T total = 0;
  block.each([&](int) { total = room[0]; });
  return total;
}

/// The kernel that asks a value of numbers, `size()` of them, for one after the other, each by a thread of its own: operator()(i), i < size().
template <class E>
struct Each {
  static constexpr int threads = 256;
  E element;

  Grid grid() const { return {ceil_div(element.size(), threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    block.each([&](int t) {
      const Index i = block.index() * threads + t;
      if (i < element.size()) element(i);
    });
  }
};

/// Sets n values; as a kernel, so that it can be recorded, captured and emulated like the others.
template <class T>
struct Fill {
  T* to;
  Index n;
  T value;

  LOWRANK_HOST_DEVICE Index size() const { return n; }
  LOWRANK_DEVICE void operator()(Index i) const { to[i] = value; }
};

/// to <- from, n values.
template <class T>
struct Copy {
  const T* from;
  T* to;
  Index n;

  LOWRANK_HOST_DEVICE Index size() const { return n; }
  LOWRANK_DEVICE void operator()(Index i) const { to[i] = from[i]; }
};

}  // namespace cuda
}  // namespace lowrank
