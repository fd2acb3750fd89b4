// Parameter: one matrix of somebody's model as a Fleet sees it, built once and passed to every step. A model is any
// random-access range of them, of one weight and one gradient scalar.
//
//   std::vector<lowrank::Parameter<float>> params;
//   for (auto& l : model.layers) params.push_back({l.name, lowrank::view(l.W), lowrank::view(std::as_const(l.G))});
//
// A matrix of more than two dimensions, or several fused into one, is a choice of views: a convolution is (out channels)
// x (in channels * height * width); of a fused [q; k; v] push one Parameter per block of rows. Tied weights are one
// Parameter. A bf16 weight with a float master is Parameter<float, Eigen::bfloat16> on the master.
#pragma once

#include <cmath>   // std::sqrt
#include <ranges>  // std::ranges::random_access_range
#include <string>

#include <lowrank/core/parallel.hpp>
#include <lowrank/linalg/operand.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <StoredScalar T, StoredScalar G = T>
struct Parameter {
  using Weight = T;
  using Gradient = G;

  std::string name;
  View<T> weight;
  View<const G> gradient;
  double lr_scale = 1;  // times Step::lr. 0 freezes: weight and state stay as they are
};

template <class M>
concept Model = std::ranges::random_access_range<const M> && std::ranges::sized_range<const M> &&
                requires(const std::ranges::range_value_t<M>& p) {
                  { p.name } -> std::convertible_to<std::string>;
                  { p.weight } -> std::convertible_to<View<typename std::ranges::range_value_t<M>::Weight>>;
                  { p.gradient } -> std::convertible_to<View<const typename std::ranges::range_value_t<M>::Gradient>>;
                  { p.lr_scale } -> std::convertible_to<double>;
                };

namespace detail {

template <Model M>
const auto& element(const M& params, std::size_t i) {
  return std::ranges::begin(params)[std::ranges::range_difference_t<const M>(i)];
}

/// ||G||_F^2, whatever the storage order, block offset and thread count: columns in strips of 256 rows, summed in double
/// strip by strip into one of 32 ranges of columns, whose sums are added in order.
template <class T>
double squared_norm(const View<const T>& g) {
  using S = compute_t<T>;
  using K = kernel::Best;
  constexpr Index rows = 256, cols = 16, ranges = 32;
  const linalg::Source<S, K> source{{g.data, DtypeOf<T>::value, g.row_stride, g.col_stride}, g.rows, g.cols};
  const Index width = (g.cols + ranges * cols - 1) / (ranges * cols) * cols;
  double partial[ranges] = {};
  for_each(width == 0 ? 0 : (g.cols + width - 1) / width, available_threads(), [&](Index part, int) {
    S block[rows * cols];
    const Index end = std::min(g.cols, (part + 1) * width);
    for (Index j0 = part * width; j0 < end; j0 += cols)
      for (Index i0 = 0; i0 < g.rows; i0 += rows) {
        const Index m = std::min(rows, g.rows - i0), n = std::min(cols, end - j0);
        source.load_gradient(i0, m, j0, n, block, m);
        for (Index j = 0; j < n; ++j) partial[part] += K::sum_squares(m, block + j * m);
      }
  });
  double sum = 0;
  for (const double x : partial) sum += x;
  return sum;
}

}  // namespace detail

/// The norm of all gradients together, sqrt(sum ||G_i||_F^2), for clip() and Step::grad_norm. Reads every gradient once,
/// allocates nothing, and has the same bits for any thread count and storage order. Not finite if a gradient is not, or
/// if the square of one overflows its computing scalar.
template <Model M>
double grad_norm(const M& params) {
  double sum = 0;
  for (const auto& p : params)
    if (p.lr_scale != 0) sum += detail::squared_norm<typename std::ranges::range_value_t<M>::Gradient>(p.gradient);
  return std::sqrt(sum);
}

}  // namespace lowrank
