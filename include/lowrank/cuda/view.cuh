// View: a matrix in device memory. rows x cols, of which one stride is 1: column-major (row_stride == 1) or row-major
// (col_stride == 1). Nothing is copied and nothing is owned.
#pragma once

#include <stdexcept>  // std::invalid_argument
#include <string>

#include <lowrank/cuda/scalar.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

template <class T>
struct View {
  using Scalar = std::remove_const_t<T>;

  T* data = nullptr;
  Index rows = 0, cols = 0;
  Index row_stride = 1, col_stride = 0;  // elements between (i, j) and (i+1, j); between (i, j) and (i, j+1)

  LOWRANK_HOST_DEVICE T& operator()(Index i, Index j) const { return data[i * row_stride + j * col_stride]; }
  LOWRANK_HOST_DEVICE View transposed() const { return {data, cols, rows, col_stride, row_stride}; }
  template <class U>
    requires std::is_same_v<U, const T>
  operator View<U>() const { return {data, rows, cols, row_stride, col_stride}; }
};

namespace detail {

inline std::string shape_text(Index rows, Index cols) { return std::to_string(rows) + "x" + std::to_string(cols); }

/// Throws "<who>: got <got>, expected <expected>".
[[noreturn]] inline void bad_argument(const char* who, const std::string& got, const std::string& expected) {
  throw std::invalid_argument(std::string(who) + ": got " + got + ", expected " + expected);
}
inline void require(bool holds, const char* who, const char* name, double value, const char* rule) {
  if (!holds || !is_finite(value)) bad_argument(who, std::string(name) + " = " + std::to_string(value), rule);
}

}  // namespace detail

/// Element (i, j) at data[i * row_stride + j * col_stride]. Throws std::invalid_argument unless one stride is 1 and the strides
/// keep elements apart. In a vector the stride across its length says nothing and is made to fit.
template <StoredScalar T>
View<T> view(T* data, Index rows, Index cols, Index row_stride, Index col_stride) {
  const bool unit = rows <= 1 || cols <= 1 || row_stride == 1 || col_stride == 1;
  const bool apart = (rows <= 1 || row_stride >= (row_stride == 1 ? 1 : cols)) &&
                     (cols <= 1 || col_stride >= (col_stride == 1 ? 1 : rows)) &&
                     !(rows > 1 && cols > 1 && row_stride == col_stride);
  if (rows < 0 || cols < 0 || !unit || !apart)
    detail::bad_argument("lowrank::cuda::view",
                         detail::shape_text(rows, cols) + " with strides " + std::to_string(row_stride) + ", " + std::to_string(col_stride),
                         "one stride of 1 and the other at least the matching dimension");
  if (data == nullptr && rows > 0 && cols > 0) detail::bad_argument("lowrank::cuda::view", "a null pointer", "device memory");
  if (cols <= 1 && (row_stride != 1 || col_stride < rows)) col_stride = row_stride == 1 ? most<Index>(rows, 1) : 1;
  else if (rows <= 1 && (col_stride != 1 || row_stride < cols)) row_stride = col_stride == 1 ? most<Index>(cols, 1) : 1;
  return {data, rows, cols, row_stride, col_stride};
}
/// A contiguous row-major array (C order).
template <StoredScalar T>
View<T> view(T* data, Index rows, Index cols) { return view(data, rows, cols, cols, Index(1)); }

}  // namespace cuda
}  // namespace lowrank
