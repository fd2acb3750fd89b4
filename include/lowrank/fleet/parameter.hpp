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

/// Gradients are summed in ranges of columns, this many to a matrix at most, for this many matrices at a time.
inline constexpr Index norm_ranges = 8, norm_batch = 64;

/// sum of g_ij^2 over one range of columns, in strips of 256 rows by 16 columns, whatever the storage order.
template <class T>
double squared_norm(const View<const T>& g, Index range) {
  using S = compute_t<T>;
  using K = kernel::Best;
  constexpr Index rows = 256, cols = 16;
  const linalg::Source<S, K> source{{g.data, DtypeOf<T>::value, g.row_stride, g.col_stride}, g.rows, g.cols};
  const Index width = (g.cols + norm_ranges * cols - 1) / (norm_ranges * cols) * cols;
  const Index end = std::min(g.cols, (range + 1) * width);
  S block[rows * cols];
  double sum = 0;
  for (Index j0 = range * width; j0 < end; j0 += cols)
    for (Index i0 = 0; i0 < g.rows; i0 += rows) {
      const Index m = std::min(rows, g.rows - i0), n = std::min(cols, end - j0);
      source.load_gradient(i0, m, j0, n, block, m);
      for (Index j = 0; j < n; ++j) sum += K::sum_squares(m, block + j * m);
    }
  return sum;
}

}  // namespace detail

/// The norm of all gradients together, sqrt(sum ||G_i||_F^2), for clip() and Step::grad_norm. Reads every gradient once,
/// allocates nothing, and has the same bits for any thread count and storage order. Not finite if a gradient is not, or
/// if the square of one overflows its computing scalar.
template <Model M>
double grad_norm(const M& params) {
  using namespace detail;
  const auto count = Index(std::ranges::size(params));
  double total = 0;
  for (Index first = 0; first < count; first += norm_batch) {
    double partial[norm_batch * norm_ranges];
    const Index n = std::min(norm_batch, count - first) * norm_ranges;
    for_each(n, available_threads(), [&](Index item, int) {
      const auto& p = element(params, std::size_t(first + item / norm_ranges));
      using G = typename std::ranges::range_value_t<M>::Gradient;
      partial[item] = p.lr_scale != 0 ? squared_norm<G>(p.gradient, item % norm_ranges) : 0.0;
    });
    for (Index i = 0; i < n; ++i) total += partial[i];
  }
  return std::sqrt(total);
}

}  // namespace lowrank
