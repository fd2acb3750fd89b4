// HostDevice: the backend of lowrank/cuda on the CPU. The kernels are the ones the GPU runs, block by block and thread by thread
// in an order that the test chooses; products and decompositions are naive loops. "Device" memory is one heap allocation per
// request, so the address sanitizer sees every access beyond it; fresh, shared and thread-private memory starts as NaN, so what
// was never written shows. Everything asked of the backend is recorded.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <numeric>
#include <stdexcept>
#include <string>
#include <typeinfo>
#include <vector>

#include <lowrank/cuda/backend.cuh>

namespace support {

namespace lc = lowrank::cuda;

enum class Schedule { Forward, Backward, Scattered };

/// 0 .. n-1 in that order.
inline std::vector<lc::Index> sequence(lc::Index n, Schedule order) {
  std::vector<lc::Index> at(static_cast<std::size_t>(n));
  std::iota(at.begin(), at.end(), lc::Index(0));
  if (order == Schedule::Backward) std::reverse(at.begin(), at.end());
  if (order == Schedule::Scattered)
    for (std::size_t i = at.size(); i > 1; --i) std::swap(at[i - 1], at[lc::random_block(1, 2, i).word[0] % i]);
  return at;
}

class HostBlock {
 public:
  HostBlock(lc::Index index, const std::vector<lc::Index>& threads, std::size_t shared)
      : index_(index), threads_(threads), memory_(new unsigned char[shared + 1]), size_(shared) {
    std::memset(memory_.get(), 0xff, shared);
  }

  template <class T>
  struct Local {
    std::vector<T> values;
    T& operator[](int t) { return values[std::size_t(t)]; }
  };

  lc::Index index() const { return index_; }
  int threads() const { return int(threads_.size()); }
  template <class F>
  void each(const F& f) {
    for (const lc::Index t : threads_) f(int(t));
  }
  template <class T>
  Local<T> local() {
    Local<T> x;
    x.values.resize(threads_.size());
    std::memset(static_cast<void*>(x.values.data()), 0xff, x.values.size() * sizeof(T));
    return x;
  }
  template <class T>
  T* shared(int n) {
    T* at = reinterpret_cast<T*>(memory_.get() + used_);
    used_ += lc::shared_bytes<T>(n);
    if (used_ > size_) throw std::logic_error("a kernel takes " + std::to_string(used_) + " bytes of shared memory and asked for " + std::to_string(size_));
    return at;
  }

 private:
  lc::Index index_;
  const std::vector<lc::Index>& threads_;
  std::unique_ptr<unsigned char[]> memory_;
  std::size_t size_, used_ = 0;
};

class HostDevice {
 public:
  explicit HostDevice(Schedule order = Schedule::Forward) : order_(order) {}
  HostDevice(const HostDevice&) = delete;
  ~HostDevice() {
    if (workspace_ != nullptr) ::operator delete(workspace_);
  }

  template <class K>
  void launch(const K& kernel, lc::Grid grid) {
    static_assert(lc::Kernel<K>);
    record(typeid(K).name(), grid.blocks);
    const auto threads = sequence(K::threads, order_);
    for (const lc::Index b : sequence(grid.blocks, order_)) {
      HostBlock block(b, threads, grid.shared);
      kernel(block);
    }
  }

  template <class S, class SA, class SB>
  void gemm(lc::Operand<SA> A, lc::Operand<SB> B, lc::Operand<S> C, lc::Index m, lc::Index n, lc::Index depth, lc::Scale<S> scale) {
    record("gemm", m * n);
    multiply(A, B, C, m, n, depth, scale);
  }
  template <class S>
  void gemm_batch(lc::Operand<const S* const> A, lc::Operand<const S* const> B, lc::Operand<S* const> C, lc::Index count, lc::Index m, lc::Index n, lc::Index depth,
                  lc::Scale<S> scale) {
    record("gemm_batch", count * m * n);
    for (lc::Index i = 0; i < count; ++i)
      multiply(lc::Operand<const S>{A.data[i], A.ld, A.transposed}, lc::Operand<const S>{B.data[i], B.ld, B.transposed}, lc::Operand<S>{C.data[i], C.ld, C.transposed}, m, n,
               depth, scale);
  }
  template <class S, class SA, class SB>
  static void multiply(lc::Operand<SA> A, lc::Operand<SB> B, lc::Operand<S> C, lc::Index m, lc::Index n, lc::Index depth, lc::Scale<S> scale) {
    const S alpha = scale.device == nullptr ? scale.alpha : scale.device[0], beta = scale.device == nullptr ? scale.beta : scale.device[1];
    for (lc::Index j = 0; j < n; ++j)
      for (lc::Index i = 0; i < m; ++i) {
        S sum = 0;
        for (lc::Index p = 0; p < depth; ++p) sum = std::fma(at(A, i, p), at(B, p, j), sum);
        S& c = C.transposed ? C.data[j + i * C.ld] : C.data[i + j * C.ld];
        c = beta == 0 ? alpha * sum : std::fma(alpha, sum, beta * c);
      }
  }

  void cholesky(lc::Index n, double* A, lc::Index ld, int* info) {
    record("cholesky", n);
    *info = 0;
    for (lc::Index j = 0; j < n; ++j)
      for (lc::Index i = j; i < n; ++i) {
        double x = A[i + j * ld];
        for (lc::Index p = 0; p < j; ++p) x -= A[i + p * ld] * A[j + p * ld];
        if (i == j && !(x > 0)) {
          *info = int(j + 1);
          return;
        }
        A[i + j * ld] = i == j ? std::sqrt(x) : x / A[j + j * ld];
      }
  }
  void divide(lc::Index m, lc::Index n, const double* L, lc::Index ldl, double* Y, lc::Index ldy) {
    record("divide", m * n);
    for (lc::Index j = 0; j < n; ++j)
      for (lc::Index i = 0; i < m; ++i) {
        double x = Y[i + j * ldy];
        for (lc::Index p = 0; p < j; ++p) x -= Y[i + p * ldy] * L[j + p * ldl];
        Y[i + j * ldy] = x / L[j + j * ldl];
      }
  }
  /// Cyclic Jacobi, then sorted.
  void eigh(lc::Index n, double* A, double* w) {
    record("eigh", n);
    const auto N = std::size_t(n);
    std::vector<double> a(A, A + n * n), v(N * N);
    for (std::size_t i = 0; i < N; ++i) v[i + i * N] = 1;
    for (int sweep = 0; sweep < 60; ++sweep)
      for (std::size_t p = 0; p < N; ++p)
        for (std::size_t q = p + 1; q < N; ++q) {
          if (a[p + q * N] == 0) continue;
          const double theta = (a[q + q * N] - a[p + p * N]) / (2 * a[p + q * N]);
          const double t = (theta < 0 ? -1 : 1) / (std::abs(theta) + std::sqrt(theta * theta + 1)), c = 1 / std::sqrt(t * t + 1), s = t * c;
          for (std::size_t i = 0; i < N; ++i) rotate(a[i + p * N], a[i + q * N], c, s), rotate(v[i + p * N], v[i + q * N], c, s);
          for (std::size_t i = 0; i < N; ++i) rotate(a[p + i * N], a[q + i * N], c, s);
        }
    std::vector<std::size_t> order(N);
    std::iota(order.begin(), order.end(), std::size_t(0));
    std::stable_sort(order.begin(), order.end(), [&](std::size_t i, std::size_t j) { return a[i + i * N] < a[j + j * N]; });
    for (std::size_t j = 0; j < N; ++j) {
      w[j] = a[order[j] + order[j] * N];
      for (std::size_t i = 0; i < N; ++i) A[i + j * N] = v[i + order[j] * N];
    }
  }

  void upload(void* to, const void* from, std::size_t bytes) { transfer("upload", to, from, bytes); }
  void download(void* to, const void* from, std::size_t bytes) { transfer("download", to, from, bytes); }
  void copy(void* to, const void* from, std::size_t bytes) { transfer("copy", to, from, bytes); }
  void clear(void* to, std::size_t bytes) {
    record("clear", lc::Index(bytes));
    std::memset(to, 0, bytes);
  }

  void* allocate(std::size_t bytes) {
    ++allocations_;
    void* p = ::operator new(bytes);
    std::memset(p, 0xff, bytes);
    live_[p] = bytes;
    return p;
  }
  void release(void* p) {
    if (live_.erase(p) != 1) throw std::logic_error("released what was not allocated");
    ::operator delete(p);
  }
  /// Filled with NaN every time it is asked for: what a step left there is of no use to the next.
  void* workspace(std::size_t bytes) {
    if (bytes > workspace_bytes_) {
      ++allocations_;
      ::operator delete(workspace_);
      workspace_ = ::operator new(bytes);
      workspace_bytes_ = bytes;
    }
    std::memset(workspace_, 0xff, workspace_bytes_);
    return workspace_;
  }

  // -- the record ---------------------------------------------------------------------------------------------------------

  int allocations() const { return allocations_; }
  std::size_t live() const { return live_.size(); }
  std::size_t workspace_bytes() const { return workspace_bytes_; }
  /// What was asked for, in order, since the last call: names and sizes.
  std::vector<std::string> calls() { return std::exchange(calls_, {}); }

 private:
  template <class S>
  static S at(lc::Operand<S> A, lc::Index i, lc::Index j) { return A.transposed ? A.data[j + i * A.ld] : A.data[i + j * A.ld]; }
  static void rotate(double& x, double& y, double c, double s) {
    const double a = c * x - s * y;
    y = s * x + c * y;
    x = a;
  }
  void transfer(const char* what, void* to, const void* from, std::size_t bytes) {
    record(what, lc::Index(bytes));
    std::memcpy(to, from, bytes);
  }
  void record(const char* what, lc::Index size) { calls_.push_back(std::string(what) + " " + std::to_string(size)); }

  Schedule order_;
  int allocations_ = 0;
  std::map<void*, std::size_t> live_;
  void* workspace_ = nullptr;
  std::size_t workspace_bytes_ = 0;
  std::vector<std::string> calls_;
};
static_assert(lc::Backend<HostDevice>);

}  // namespace support
