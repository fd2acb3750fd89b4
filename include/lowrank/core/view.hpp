// View: somebody's memory. A rows x cols matrix of which one stride is 1: column-major (row_stride == 1) or row-major
// (col_stride == 1). Nothing is copied and nothing is owned; the memory must outlive the call it is passed to.
//
// view(x) makes one from an Eigen Matrix, Map, Ref, Array or a block of one, view(pointer, rows, cols) from a raw
// row-major array. T may be const. Scalars: float, double, and as storage Eigen::bfloat16 and Eigen::half.
#pragma once

#include <algorithm>    // std::max
#include <cstdint>      // std::uintptr_t
#include <type_traits>  // std::remove_const_t
#include <utility>      // std::pair

#include <Eigen/Core>
#include <lowrank/core/error.hpp>

static_assert(EIGEN_VERSION_AT_LEAST(3, 4, 0), "lowrank needs Eigen 3.4 or newer");

namespace lowrank::inline LOWRANK_ABI {

/// The scalar types a matrix may be stored in.
enum class Dtype { F32, F64, BF16, F16 };

namespace detail {
template <class T>
struct DtypeOf;
template <>
struct DtypeOf<float> { static constexpr Dtype value = Dtype::F32; };
template <>
struct DtypeOf<double> { static constexpr Dtype value = Dtype::F64; };
template <>
struct DtypeOf<Eigen::bfloat16> { static constexpr Dtype value = Dtype::BF16; };
template <>
struct DtypeOf<Eigen::half> { static constexpr Dtype value = Dtype::F16; };
}  // namespace detail

template <class T>
concept StoredScalar = requires { detail::DtypeOf<std::remove_const_t<T>>::value; };

/// What is computed in when a matrix is stored as T: double for double, float for everything else.
template <class T>
using compute_t = std::conditional_t<std::is_same_v<std::remove_const_t<T>, double>, double, float>;

template <class T>
struct View {
  using Scalar = std::remove_const_t<T>;

  T* data = nullptr;
  Index rows = 0, cols = 0;
  Index row_stride = 1, col_stride = 0;  // elements between (i, j) and (i+1, j); between (i, j) and (i, j+1)

  operator View<const T>() const requires(!std::is_const_v<T>) { return {data, rows, cols, row_stride, col_stride}; }
};

namespace detail {

/// The shape of the memory is a contract: checked here once, relied upon everywhere else. In a vector the stride across
/// its length says nothing; it becomes what makes one of the two 1, whatever it was.
template <class T>
View<T> checked_view(View<T> v) {
  const bool unit = v.rows <= 1 || v.cols <= 1 || v.row_stride == 1 || v.col_stride == 1;
  const bool apart = (v.rows <= 1 || v.row_stride >= (v.row_stride == 1 ? 1 : v.cols)) &&
                     (v.cols <= 1 || v.col_stride >= (v.col_stride == 1 ? 1 : v.rows)) &&
                     !(v.rows > 1 && v.cols > 1 && v.row_stride == v.col_stride);
  if (v.rows < 0 || v.cols < 0 || !unit || !apart)
    bad_argument("lowrank::view",
                 shape_text(v.rows, v.cols) + " with strides " + std::to_string(v.row_stride) + ", " +
                     std::to_string(v.col_stride),
                 "one stride of 1 and the other at least the matching dimension");
  if (v.data == nullptr && v.rows > 0 && v.cols > 0) bad_argument("lowrank::view", "a null pointer", "memory");
  if (v.cols <= 1 && (v.row_stride != 1 || v.col_stride < v.rows))
    v.col_stride = v.row_stride == 1 ? std::max<Index>(v.rows, 1) : 1;
  else if (v.rows <= 1 && (v.col_stride != 1 || v.row_stride < v.cols))
    v.row_stride = v.col_stride == 1 ? std::max<Index>(v.cols, 1) : 1;
  return v;
}

/// First and one-past-last byte of the memory a view can touch.
template <class T>
std::pair<std::uintptr_t, std::uintptr_t> span_of(const View<T>& v) {
  const auto begin = reinterpret_cast<std::uintptr_t>(v.data);
  if (v.rows == 0 || v.cols == 0) return {begin, begin};
  const Index last = (v.rows - 1) * v.row_stride + (v.cols - 1) * v.col_stride;
  return {begin, begin + std::uintptr_t(last + 1) * sizeof(T)};
}

/// True when the address ranges of the two matrices meet. Two interleaved blocks of one larger matrix (same scalar and
/// strides) are compared by rows and columns, so that disjoint blocks pass.
template <class A, class B>
bool overlap(const View<A>& a, const View<B>& b) {
  const auto [a0, a1] = span_of(a);
  const auto [b0, b1] = span_of(b);
  if (a0 >= b1 || b0 >= a1) return false;
  const Index outer = a.row_stride == 1 ? a.col_stride : a.row_stride;
  const bool same_lattice = sizeof(A) == sizeof(B) && a.row_stride == b.row_stride && a.col_stride == b.col_stride;
  if (!same_lattice || outer <= 0) return true;
  // both lie in one matrix with leading dimension `outer`: compare the inner intervals around the circle
  const Index inner_a = a.row_stride == 1 ? a.rows : a.cols, inner_b = b.row_stride == 1 ? b.rows : b.cols;
  const Index distance = (Index(b0) - Index(a0)) / Index(sizeof(A));
  const Index shift = ((distance % outer) + outer) % outer;
  return shift < inner_a || shift + inner_b > outer;
}

}  // namespace detail

/// A view of a strided array: element (i, j) at data[i * row_stride + j * col_stride].
/// Throws std::invalid_argument unless one stride is 1 and the strides keep elements apart.
template <StoredScalar T>
View<T> view(T* data, Index rows, Index cols, Index row_stride, Index col_stride) {
  return detail::checked_view(View<T>{data, rows, cols, row_stride, col_stride});
}

/// A view of a contiguous row-major array (C order).
template <StoredScalar T>
View<T> view(T* data, Index rows, Index cols) {
  return view(data, rows, cols, cols, Index(1));
}

/// A view of an Eigen object with storage; const objects give a View<const T>.
template <class M>
auto view(M&& matrix) requires requires { typename std::remove_cvref_t<M>::Scalar; matrix.derived(); } {
  using Plain = std::remove_cvref_t<M>;
  static_assert(bool(int(Plain::Flags) & int(Eigen::DirectAccessBit)),
                "the matrix must have storage (Matrix, Map, Ref or a block of one); evaluate expressions first, e.g. "
                "opt.step(W, (2 * G).eval(), {.lr = lr})");
  static_assert(StoredScalar<typename Plain::Scalar>,
                "the scalar must be float, double, Eigen::bfloat16 or Eigen::half");
  constexpr bool row_major = bool(Plain::IsRowMajor);
  const Index inner = matrix.innerStride(), outer = matrix.outerStride();
  using T = std::remove_reference_t<decltype(*matrix.data())>;
  return view<T>(matrix.data(), matrix.rows(), matrix.cols(), row_major ? outer : inner, row_major ? inner : outer);
}

template <class T>
View<T> view(const View<T>& v) {
  return detail::checked_view(v);
}

}  // namespace lowrank
