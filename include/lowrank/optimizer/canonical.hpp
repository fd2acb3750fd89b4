// The door: a user's matrix becomes the canonical one, once. A is d x k, d the projected side: the user's matrix (left)
// or its transpose (right). A row-major matrix is the transpose of a column-major one, so this is only a choice of
// strides. Identity projects nothing and takes the contiguous direction for d.
#pragma once

#include <lowrank/core/view.hpp>
#include <lowrank/linalg/operand.hpp>
#include <lowrank/options.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

/// The user's shape and which way round it is taken.
struct Canonical {
  Index rows = 0, cols = 0;  // the user's
  bool transposed = false;   // d x k is the user's matrix transposed

  Index d() const { return transposed ? cols : rows; }
  Index k() const { return transposed ? rows : cols; }

  template <class T>
  auto operator()(const View<T>& v) const {
    using Void = std::conditional_t<std::is_const_v<T>, const void, void>;
    return linalg::Memory<Void>{v.data, DtypeOf<std::remove_const_t<T>>::value, transposed ? v.col_stride : v.row_stride,
            transposed ? v.row_stride : v.col_stride};
  }
};

/// Square matrices go right, as in GaLore, unless SmallerLeft is asked for.
inline Canonical canonical(Index rows, Index cols, Side side) {
  const bool right = side == Side::Right || (side == Side::Smaller && rows >= cols) ||
                     (side == Side::Larger && rows < cols) || (side == Side::SmallerLeft && rows > cols);
  return {rows, cols, right};
}

template <class T>
Canonical contiguous(const View<T>& v) {
  return {v.rows, v.cols, v.row_stride != 1 || (v.rows == 1 && v.col_stride == 1)};
}

}  // namespace detail
}  // namespace lowrank
