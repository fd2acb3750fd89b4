// Ahead: memory that will be needed soon, asked for one cache line at a time between the multiply-adds of a tile. Blocks of
// a large matrix are short runs, pages apart, where no hardware looks ahead: at rank 32 waiting for them takes as long as the
// products.
#pragma once

#include <algorithm>  // std::max
#include <cstdint>    // std::uintptr_t

#include <lowrank/core/error.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace kernel {

enum class Access { Read, Write };

/// Nothing to ask for.
struct Idle {
  LOWRANK_INLINE void next() {}
};

template <Access access>
class Ahead {
 public:
  Ahead() = default;
  /// `runs` runs of n values, the first at p, each `stride` values behind the one before: spread over `steps` calls of next(), or a line each.
  template <class S>
  Ahead(const S* p, Index n, Index runs, Index stride, Index steps = 0) {
    const auto begin = reinterpret_cast<std::uintptr_t>(p);
    at_ = begin / line * line;
    run_ = left_ = (Index(begin - at_) + n * Index(sizeof(S)) + line - 1) / line;
    lines_ = run_ * runs;
    skip_ = std::uintptr_t(stride * Index(sizeof(S)) - run_ * line);
    if (lines_ > 0) wait_ = pause_ = std::max<Index>(1, (steps + lines_ / 4) / lines_);  // rather not the last few than in half the steps
  }

  LOWRANK_INLINE void next() {
    if (--wait_ != 0) return;
    wait_ = pause_;
    // to be read: into the second level, the first is full of packed operands; to be written: the next tile but a few
    if constexpr (access == Access::Read) __builtin_prefetch(reinterpret_cast<const void*>(at_), 0, 2);
    else __builtin_prefetch(reinterpret_cast<const void*>(at_), 1, 3);
    at_ += line;
    if (--left_ == 0) {
      left_ = run_;
      at_ += skip_;
    }
    if (--lines_ == 0) wait_ = 0;  // no more
  }

 private:
  static constexpr std::intptr_t line = 64;
  std::uintptr_t at_ = 0;
  Index run_ = 1, left_ = 1, lines_ = 0, pause_ = 0, wait_ = 0;
  std::uintptr_t skip_ = 0;
};

/// n values at p, asked for evenly over `times` steps and without an end: a tenth of what counted lines cost. Fewer lines than steps
/// are asked for more than once, which costs nothing.
class Spread {
 public:
  template <class S>
  Spread(const S* p, Index n, Index times)
      : at_(reinterpret_cast<std::uintptr_t>(p)), step_(std::uintptr_t(n) * sizeof(S) / std::uintptr_t(times)) {}
  LOWRANK_INLINE void next() {
    __builtin_prefetch(reinterpret_cast<const void*>(at_), 0, 2);
    at_ += step_;
  }

 private:
  std::uintptr_t at_, step_;
};

/// Memory that is written after some hundred instructions: n values from c, and so on in `cols` columns.
template <class S>
LOWRANK_INLINE void expect(S* c, Index n, Index cols, Index ld) {
  for (Index j = 0; j < cols; ++j)
    for (Index i = 0; i < n; i += 64 / Index(sizeof(S))) __builtin_prefetch(c + i + j * ld, 1, 3);
}

template <class First, class Second>
struct Both {
  First first;
  Second second;
  LOWRANK_INLINE void next() {
    first.next();
    second.next();
  }
};

}  // namespace kernel
}  // namespace lowrank
