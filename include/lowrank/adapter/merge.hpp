// Merging: W <- round(W + change), in the computing scalar (at least float) and rounded once. Taking the change away
// again does not undo the rounding: over 1000 cycles a bf16 weight wanders by half of its size. Hence three policies
// with one interface, merge(adapter, W, workspace) and unmerge(adapter, W, workspace):
//
//   KeepCopy      W's bits are kept and put back: exact                    memory: W once more
//   Fp32Master    W is the rounding of a float matrix that is kept: exact  memory: 4 bytes per entry
//   Recompute     the change is subtracted, as PEFT does: drifts           memory: none
//
// A change or a sum that is not finite throws std::invalid_argument and changes nothing.
#pragma once

#include <vector>  // std::vector

#include <lowrank/adapter/door.hpp>

namespace lowrank::inline LOWRANK_ABI {

/// What rounding took: error = ||round(W + D) - (W + D)|| / ||D|| for the change D, of norm change_norm.
struct MergeReport {
  double error = 0, change_norm = 0;
};

namespace detail {

/// W <- round(diag(scale) (W + factor A B)), A m x depth and B depth x n operands; scale null: 1. Two passes: the first
/// looks for what is not finite, the second writes. May allocate: merging is not part of a step.
template <class S, class K, class A, class B>
MergeReport add_product(const linalg::Memory<void>& W, Index m, Index n, Index depth, const A& a, const B& b, double factor,
                        const linalg::Product<S, K>& product, const S* row_scale = nullptr) {
  struct Part {
    Index bad;  // entries that are not finite
    double change, error;  // ||D||^2, ||rounding||^2
  };
  std::vector<Part> parts(std::size_t(product.tiles(m, n)));  // added in tile order
  for (const bool write : {false, true}) {
    product.each_tile(m, n, depth, a, b, [&](Index item, Index i0, Index rows, Index j0, Index cols, const S* tile) {
      Part& part = parts[std::size_t(item)] = {};
      linalg::with_scalar(W.dtype, [&]<class T>(T*) {
        for (Index j = 0; j < cols; ++j)
          for (Index i = 0; i < rows; ++i) {
            T& to = *W.template at<T>(i0 + i, j0 + j);
            const double old = double(to), scale = row_scale == nullptr ? 1.0 : double(row_scale[i0 + i]);
            const double sum = (old + factor * double(tile[i + j * rows])) * scale;
            const T rounded = T(S(sum));
            part.bad += is_finite(sum) && is_finite(double(rounded)) ? 0 : 1;
            part.change += (sum - old) * (sum - old);
            part.error += (double(rounded) - sum) * (double(rounded) - sum);
            if (write) to = rounded;
          }
      });
    });
    Index bad = 0;
    for (const Part& part : parts) bad += part.bad;
    if (bad > 0) bad_argument("lowrank::merge", std::to_string(bad) + " entries that are not finite", "a finite sum");
  }
  double change = 0, error = 0;
  for (const Part& part : parts) change += part.change, error += part.error;
  return {change > 0 ? std::sqrt(error / change) : 0, std::sqrt(change)};
}

/// W <- dense (m x n, column-major), rounded once.
template <class S>
void write_dense(const linalg::Memory<void>& W, Index m, Index n, const S* dense) {
  linalg::with_scalar(W.dtype, [&]<class T>(T*) {
    for (Index j = 0; j < n; ++j)
      for (Index i = 0; i < m; ++i) *W.template at<T>(i, j) = T(dense[i + j * m]);
  });
}

/// Copies of matrices, bit by bit, whatever their storage orders.
template <class T, class U>
void copy_matrix(const View<T>& from, const View<U>& to) {
  for (Index j = 0; j < from.cols; ++j)
    for (Index i = 0; i < from.rows; ++i)
      to.data[i * to.row_stride + j * to.col_stride] = std::remove_const_t<U>(from.data[i * from.row_stride + j * from.col_stride]);
}

template <class M>
auto merge_view(const char* who, Index rows, Index cols, M&& W) {
  const auto w = lowrank::view(W);
  static_assert(!std::is_const_v<std::remove_pointer_t<decltype(w.data)>>, "the weight is written to: pass a non-const matrix");
  if (w.rows != rows || w.cols != cols) bad_shape(who, w.rows, w.cols, rows, cols);
  return w;
}

}  // namespace detail

class Recompute {
 public:
  template <class A, class M>
  MergeReport merge(const A& adapter, M&& W, Workspace& workspace) {
    if (merged_) detail::bad_argument("lowrank::Recompute::merge", "a weight that is merged already", "unmerge first");
    const MergeReport report = adapter.merge_into(W, workspace);
    merged_ = true;
    return report;
  }
  template <class A, class M>
  void unmerge(const A& adapter, M&& W, Workspace& workspace) {
    if (!merged_) detail::bad_argument("lowrank::Recompute::unmerge", "a weight that is not merged", "merge first");
    adapter.unmerge_from(W, workspace);
    merged_ = false;
  }

 private:
  bool merged_ = false;
};

/// T: the scalar that W is stored in.
template <class T>
class KeepCopy {
 public:
  template <class A, class M>
  MergeReport merge(const A& adapter, M&& W, Workspace& workspace) {
    const auto w = detail::merge_view("lowrank::KeepCopy::merge", adapter.rows(), adapter.cols(), W);
    static_assert(std::is_same_v<typename decltype(w)::Scalar, T>, "KeepCopy<T> keeps a weight stored in T");
    if (kept_.size() > 0) detail::bad_argument("lowrank::KeepCopy::merge", "a weight that is merged already", "unmerge first");
    Buffer<T> copy(w.rows, w.cols);
    detail::copy_matrix(w, View<T>{copy.data(), w.rows, w.cols, 1, w.rows});
    const MergeReport report = adapter.merge_into(W, workspace);
    kept_ = std::move(copy);
    return report;
  }
  template <class A, class M>
  void unmerge(const A&, M&& W, Workspace&) {
    if (kept_.size() == 0) detail::bad_argument("lowrank::KeepCopy::unmerge", "a weight that is not merged", "merge first");
    const auto w = detail::merge_view("lowrank::KeepCopy::unmerge", kept_.rows(), kept_.cols(), W);
    detail::copy_matrix(View<const T>{kept_.data(), w.rows, w.cols, 1, w.rows}, w);
    kept_ = Buffer<T>();
  }
  std::size_t bytes() const { return kept_.bytes(); }

 private:
  Buffer<T> kept_;
};

/// Keeps the weight in float, so it may also be changed there (master()): W is always the rounding of something.
class Fp32Master {
 public:
  template <class M>
  explicit Fp32Master(const M& W) {
    const auto w = lowrank::view(W);
    master_ = Buffer<float>(w.rows, w.cols);
    detail::copy_matrix(w, master());
  }
  View<float> master() { return {master_.data(), master_.rows(), master_.cols(), 1, master_.rows()}; }

  template <class A, class M>
  MergeReport merge(const A& adapter, M&& W, Workspace& workspace) {
    const auto w = detail::merge_view("lowrank::Fp32Master::merge", master_.rows(), master_.cols(), W);
    Buffer<float> sum(master_);
    const View<float> s{sum.data(), w.rows, w.cols, 1, w.rows};
    MergeReport report = adapter.merge_into(s, workspace);
    detail::copy_matrix(s, w);
    double lost = 0;
    for (Index j = 0; j < w.cols; ++j)
      for (Index i = 0; i < w.rows; ++i) {
        const double d = double(w.data[i * w.row_stride + j * w.col_stride]) - double(sum(i, j));
        lost += d * d;
      }
    if (report.change_norm > 0) report.error = std::hypot(report.error, std::sqrt(lost) / report.change_norm);
    return report;
  }
  template <class A, class M>
  void unmerge(const A&, M&& W, Workspace&) {
    detail::copy_matrix(master(), detail::merge_view("lowrank::Fp32Master::unmerge", master_.rows(), master_.cols(), W));
  }
  std::size_t bytes() const { return master_.bytes(); }

 private:
  Buffer<float> master_;
};

}  // namespace lowrank
