// Buffer: the only owner of memory in the library, and Arena: how one Buffer is cut into pieces.
//
// A Buffer<T> is a rows x cols column-major array, 64-byte aligned, zero when made, a regular value: copies are deep,
// moves are free and equality compares bits. It may have its shape before it has its memory. Its layout does not depend on the instruction set.
#pragma once

#include <cstdint>      // std::uintptr_t
#include <cstring>      // std::memcpy, std::memcmp, std::memset
#include <limits>       // std::numeric_limits
#include <new>          // std::align_val_t
#include <type_traits>  // std::is_trivially_copyable_v
#include <utility>      // std::exchange
#if defined(__linux__)
#include <sys/mman.h>  // madvise
#endif

#include <lowrank/core/error.hpp>

namespace lowrank::inline LOWRANK_ABI {

namespace detail {

/// Asks for pages of 2 MiB where whole ones lie in [p, p + bytes), before they are touched: operands a step packs are read with fewer
/// walks through the tables of pages. A system that has none, or refuses, loses nothing.
inline void advise_huge_pages([[maybe_unused]] void* p, [[maybe_unused]] std::size_t bytes) {
#if defined(MADV_HUGEPAGE)
  constexpr std::uintptr_t page = 2 << 20;
  const auto at = reinterpret_cast<std::uintptr_t>(p), begin = (at + page - 1) / page * page, end = (at + bytes) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

}  // namespace detail

template <class T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>, "a Buffer holds plain data");

 public:
  static constexpr std::size_t alignment = 64;

  Buffer() = default;
  Buffer(Index rows, Index cols) : Buffer(shaped(rows, cols)) { allocate(); }

  /// The shape without the memory: sizes can be asked for before anything is allocated.
  static Buffer shaped(Index rows, Index cols) {
    if (rows < 0 || cols < 0 || (cols > 0 && rows > std::numeric_limits<Index>::max() / Index(sizeof(T)) / cols))
      detail::bad_argument("lowrank::Buffer", detail::shape_text(rows, cols), "a shape that fits in memory");
    Buffer b;
    b.rows_ = rows;
    b.cols_ = cols;
    return b;
  }
  void allocate() {
    if (size() > 0 && data_ == nullptr) {
      data_ = static_cast<T*>(::operator new(bytes(), std::align_val_t{alignment}));
      detail::advise_huge_pages(data_, bytes());
      std::memset(static_cast<void*>(data_), 0, bytes());
    }
  }
  Buffer(const Buffer& other) : Buffer(shaped(other.rows_, other.cols_)) {
    if (other.data_ == nullptr) return;
    allocate();
    std::memcpy(static_cast<void*>(data_), other.data_, bytes());
  }
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        rows_(std::exchange(other.rows_, 0)),
        cols_(std::exchange(other.cols_, 0)) {}
  Buffer& operator=(Buffer other) noexcept {
    swap(other);
    return *this;
  }
  ~Buffer() { ::operator delete(data_, std::align_val_t{alignment}); }

  void swap(Buffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(rows_, other.rows_);
    std::swap(cols_, other.cols_);
  }

  bool allocated() const { return data_ != nullptr || size() == 0; }
  T* data() { return data_; }
  const T* data() const { return data_; }
  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Index size() const { return rows_ * cols_; }
  std::size_t bytes() const { return std::size_t(size()) * sizeof(T); }
  T* column(Index j) { return data_ + j * rows_; }
  const T* column(Index j) const { return data_ + j * rows_; }
  T& operator()(Index i, Index j) { return data_[i + j * rows_]; }
  const T& operator()(Index i, Index j) const { return data_[i + j * rows_]; }
  T& operator[](Index i) { return data_[i]; }
  const T& operator[](Index i) const { return data_[i]; }
  void set_zero() {
    if (size() > 0) std::memset(static_cast<void*>(data_), 0, bytes());
  }

  /// Same shape and same bits (so a NaN equals itself and +0 differs from -0).
  friend bool operator==(const Buffer& a, const Buffer& b) {
    if (a.rows_ != b.rows_ || a.cols_ != b.cols_ || (a.data_ == nullptr) != (b.data_ == nullptr)) return false;
    return a.data_ == nullptr || std::memcmp(a.data_, b.data_, a.bytes()) == 0;
  }

 private:
  T* data_ = nullptr;
  Index rows_ = 0, cols_ = 0;
};

/// Cuts a block of memory into 64-byte aligned pieces. Without memory it only counts, so that one layout function says
/// both how much a step needs (before anything is allocated) and where each piece lies.
class Arena {
 public:
  Arena() = default;
  explicit Arena(Buffer<std::byte>& memory) : base_(memory.data()), capacity_(memory.bytes()) {}

  /// Room for n values of T; null while counting.
  template <class T>
  T* take(Index n) {
    const std::size_t at = used_;
    used_ += (std::size_t(n) * sizeof(T) + Buffer<T>::alignment - 1) / Buffer<T>::alignment * Buffer<T>::alignment;
    if (base_ == nullptr) return nullptr;
    if (used_ > capacity_)
      detail::bad_argument("lowrank::Arena", std::to_string(capacity_) + " bytes", std::to_string(used_) + " bytes");
    return reinterpret_cast<T*>(base_ + at);
  }
  std::size_t used() const { return used_; }

 private:
  std::byte* base_ = nullptr;
  std::size_t capacity_ = 0, used_ = 0;
};

}  // namespace lowrank
