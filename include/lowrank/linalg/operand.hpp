// Operands: where a product reads its numbers from. An operand fills a column-major block with its elements,
//
//   load(i0, m, j0, n, dst, ld):  dst[i + j * ld] = A(i0 + i, j0 + j)
//
// whatever the storage order and scalar of the memory behind it, so packing, widening and scaling are one pass and
// every algorithm above sees column-major numbers of its own scalar. Where the numbers are in memory as they are, in_place(i0, j0)
// gives them from there on, in columns or in rows; otherwise its data is null.
//
// Strided: a matrix in the computing scalar. Source: a user's matrix, canonical orientation, any scalar, times a factor.
#pragma once

#include <bit>      // std::bit_cast
#include <cstdint>  // std::uint32_t

#include <lowrank/core/view.hpp>
#include <lowrank/kernel/kernel.hpp>
#include <lowrank/linalg/compact_matrix.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

/// The direction in which a matrix is contiguous.
enum class Order { Columns, Rows };

/// A(i, j) = data[i * row_stride + j * col_stride], one stride being 1.
template <class S, class K>
struct Strided {
  const S* data;
  Index row_stride, col_stride;

  void load(Index i0, Index m, Index j0, Index n, S* dst, Index ld) const {
    const S* from = data + i0 * row_stride + j0 * col_stride;
    if (row_stride == 1) {
      for (Index j = 0; j < n; ++j) std::memcpy(dst + j * ld, from + j * col_stride, std::size_t(m) * sizeof(S));
    } else {
      K::transpose(n, m, from, row_stride, dst, ld);
    }
  }
  Strided in_place(Index i0, Index j0) const { return {data + i0 * row_stride + j0 * col_stride, row_stride, col_stride}; }
  Strided transposed() const { return {data, col_stride, row_stride}; }
};

/// A column-major array with leading dimension ld, and the transpose of one.
template <class K, class S>
Strided<S, K> columns(const S* data, Index ld) { return {data, 1, ld}; }
template <class K, class S>
Strided<S, K> transposed(const S* data, Index ld) { return {data, ld, 1}; }

/// A user's matrix without its type: pointer, scalar and strides in canonical orientation. Void is const void or void.
template <class Void>
struct Memory {
  Void* data = nullptr;
  Dtype dtype = Dtype::F32;
  Index row_stride = 1, col_stride = 0;

  template <class T>
  auto* at(Index i, Index j) const {
    using Pointer = std::conditional_t<std::is_const_v<Void>, const T, T>;
    return static_cast<Pointer*>(data) + i * row_stride + j * col_stride;
  }
};

/// Calls f with a null pointer of the scalar that `dtype` names.
template <class F>
decltype(auto) with_scalar(Dtype dtype, const F& f) {
  switch (dtype) {
    case Dtype::F64: return f(static_cast<double*>(nullptr));
    case Dtype::BF16: return f(static_cast<Eigen::bfloat16*>(nullptr));
    case Dtype::F16: return f(static_cast<Eigen::half*>(nullptr));
    default: return f(static_cast<float*>(nullptr));
  }
}

namespace detail {

/// x in S. A bfloat16 is the upper half of a float: written as such, since compilers turn only that into whole registers.
template <class S, class T>
LOWRANK_INLINE S widen(const T& x) {
  if constexpr (std::is_same_v<T, Eigen::bfloat16>) return S(std::bit_cast<float>(std::uint32_t(x.value) << 16));
  else return static_cast<S>(x);
}

/// dst (m x n column-major) <- from, in S. Same scalar: copies and register transposes; other scalars are widened
/// along the contiguous direction, then turned in registers.
template <class S, class K, class T>
void load_block(const T* from, Index row_stride, Index col_stride, Index m, Index n, S* dst, Index ld) {
  if constexpr (std::is_same_v<S, T>) {
    Strided<S, K>{from, row_stride, col_stride}.load(0, m, 0, n, dst, ld);
  } else if (row_stride == 1) {
    for (Index j = 0; j < n; ++j)
      for (Index i = 0; i < m; ++i) dst[i + j * ld] = widen<S>(from[i + j * col_stride]);
  } else {
    constexpr Index high = K::template lanes<S>, wide = 64;
    S strip[high * wide];
    for (Index i0 = 0; i0 < m; i0 += high)
      for (Index j0 = 0; j0 < n; j0 += wide) {
        const Index rows = std::min(high, m - i0), cols = std::min(wide, n - j0);
        for (Index i = 0; i < rows; ++i)
          for (Index j = 0; j < cols; ++j) strip[j + i * wide] = widen<S>(from[(i0 + i) * row_stride + j0 + j]);
        K::transpose(cols, rows, strip, wide, dst + i0 + j0 * ld, ld);
      }
  }
}

}  // namespace detail

/// A = scale * G (+ E): the caller's gradient in canonical orientation d x k, and the error that was fed back, d x k or
/// null. A float gradient is read as it is; bf16 and half are widened.
template <class S, class K>
struct Source {
  Memory<const void> gradient;
  Index rows = 0, cols = 0;   // d x k
  double scale = 1;
  const CompactMatrix<S>* error = nullptr;

  void load_gradient(Index i0, Index m, Index j0, Index n, S* dst, Index ld) const {
    with_scalar(gradient.dtype, [&]<class T>(T*) {
      detail::load_block<S, K>(gradient.template at<T>(i0, j0), gradient.row_stride, gradient.col_stride, m, n, dst, ld);
    });
    if (scale != 1)
      for (Index j = 0; j < n; ++j) K::combine(m, scale, dst + j * ld, 0.0, dst + j * ld, dst + j * ld);
  }
  Strided<S, K> gradient_in_place(Index i0, Index j0) const {
    const bool same = gradient.dtype == lowrank::detail::DtypeOf<S>::value && scale == 1;
    return {same ? gradient.template at<S>(i0, j0) : nullptr, gradient.row_stride, gradient.col_stride};
  }
  /// A = outside() inside(): a factor that a projection can take into its basis, so that it reads the gradient where it is. 1 where
  /// errors are added to the scaled gradient, or where a scaled basis would come near the ends of the scalar's range.
  double outside() const {
    const double size = scale < 0 ? -scale : scale;
    return error == nullptr && size > 0x1p-60 && size < 0x1p60 ? scale : 1.0;
  }
  Source inside() const {
    Source bare = *this;
    if (outside() != 1) bare.scale = 1;
    return bare;
  }
  Strided<S, K> in_place(Index i0, Index j0) const {
    return error == nullptr ? gradient_in_place(i0, j0) : Strided<S, K>{nullptr, 1, 0};
  }
  void load(Index i0, Index m, Index j0, Index n, S* dst, Index ld) const {
    load_gradient(i0, m, j0, n, dst, ld);
    if (error != nullptr) error->template add_to<K>(i0, m, j0, n, dst, ld);
  }
};

}  // namespace linalg
}  // namespace lowrank
