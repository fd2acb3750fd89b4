// Canonical: how a user's matrix is taken, and what a step checks of two of them.
#pragma once

#include <cstdint>  // std::uintptr_t

#include <lowrank/cuda/view.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// The user's shape and which way round it is taken: d x k is the user's matrix, or its transpose.
struct Canonical {
  Index rows = 0, cols = 0;
  bool transposed = false;

  Index d() const { return transposed ? cols : rows; }
  Index k() const { return transposed ? rows : cols; }
  template <class T>
  View<T> operator()(const View<T>& v) const { return transposed ? v.transposed() : v; }
};

namespace detail {

/// Square matrices go right, as in GaLore, unless SmallerLeft is asked for.
inline Canonical canonical(Index rows, Index cols, Side side) {
  const bool right = side == Side::Right || (side == Side::Smaller && rows >= cols) || (side == Side::Larger && rows < cols) ||
                     (side == Side::SmallerLeft && rows > cols);
  return {rows, cols, right};
}
/// The contiguous dimension becomes d; a block that is one stretch of memory becomes one column.
template <class T>
Canonical contiguous(const View<T>& v) {
  return {v.rows, v.cols, v.row_stride != 1 || (v.rows == 1 && v.col_stride == 1)};
}

/// First and one-past-last byte of the memory a view can touch.
template <class T>
bool overlap(const View<T>& w, const auto& g) {
  const auto begin = [](const auto& v) { return reinterpret_cast<std::uintptr_t>(v.data); };
  const auto end = [&](const auto& v) {
    return begin(v) + std::uintptr_t((v.rows - 1) * v.row_stride + (v.cols - 1) * v.col_stride + 1) * sizeof(*v.data);
  };
  return begin(w) < end(g) && begin(g) < end(w);
}

}  // namespace detail

}  // namespace cuda
}  // namespace lowrank
