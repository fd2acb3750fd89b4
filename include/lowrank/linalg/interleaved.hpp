// Columns as the transforms of dct.hpp take them: side by side in groups of one register, element (i, l) of group g at
// x[(g d + i) lanes + l], so that one instruction works on the same element of `lanes` columns. In, out, and sums over them.
#pragma once

#include <algorithm>  // std::clamp, std::fill_n, std::min

#include <lowrank/linalg/weight_update.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

template <class S, class K>
struct Interleaved {
  using V = typename K::template V<S>;
  static constexpr Index lanes = K::template lanes<S>;

  Index d = 0;  // numbers in a column

  /// x <- w columns of the gradient from j; lanes beyond the last column are zero.
  void load(const Source<S, K>& a, Index j, Index w, S* x, const Scratch<S>& scratch) const {
    const bool plain = a.gradient.dtype == lowrank::detail::DtypeOf<S>::value && a.scale == 1;
    if (w % lanes != 0) std::memset(x + w / lanes * lanes * d, 0, std::size_t(d * lanes) * sizeof(S));
    if (plain && a.gradient.col_stride == 1 && w % lanes == 0) {
      // rows are contiguous, pages apart: the next ones are asked for while these are copied
      constexpr Index ahead = 16;
      for (Index i = 0; i < d; ++i) {
        const S* from = a.gradient.template at<const S>(i, j);
        if (i + ahead < d)
          for (Index l = 0; l < w; l += lanes) __builtin_prefetch(a.gradient.template at<const S>(i + ahead, j + l));
        for (Index l = 0; l < w; l += lanes) V::load(from + l).store(x + l * d + i * lanes);
      }
      return;
    }
    for (Index l = 0; l < w; l += lanes) {
      const Index n = std::min(lanes, w - l);
      S* group = x + l * d;
      if (plain && a.gradient.row_stride == 1) {
        K::transpose(d, n, a.gradient.template at<const S>(0, j + l), a.gradient.col_stride, group, lanes);
        continue;
      }
      for (Index i0 = 0; i0 < d; i0 += block_rows) {
        const Index m = std::min(block_rows, d - i0), ld = m + stage_padding;
        a.load_gradient(i0, m, j + l, n, scratch.stage, ld);
        K::transpose(m, n, scratch.stage, ld, group + i0 * lanes, lanes);
      }
    }
  }

  /// Moves columns [j0, j0 + w) of W, w <= 64, by the w columns of x.
  template <bool adds>
  void update(const S* x, Index j0, Index w, const WeightUpdate<S, adds>& u, S* room) const {
    if (u.order == Order::Rows) return update_rows(x, j0, w, u);
    for (Index l = 0; l < w; l += lanes) {
      const Index n = std::min(lanes, w - l);
      for (Index i0 = 0; i0 < d; i0 += block_rows) {
        const Index m = std::min(block_rows, d - i0);
        K::transpose(n, m, x + l * d + i0 * lanes, lanes, room, m);
        for (Index q = 0; q < n; ++q) K::move(m, room + q * m, u.at(i0, j0 + l + q), u.motion);
      }
    }
  }

  /// score_i += sum over the lanes of one group of |x| or x^2: `lanes` rows at a time turned in registers, added pairwise, then in double.
  void add_scores(const S* x, bool squares, double* score) const {
    for (Index i0 = 0; i0 < d; i0 += lanes) {
      const Index m = std::min(lanes, d - i0);
      V rows[lanes];
      for (Index i = 0; i < lanes; ++i) {
        const V v = i < m ? V::load(x + (i0 + i) * lanes) : V::zero();
        rows[i] = squares ? v * v : kernel::abs(v);
      }
      kernel::transpose(rows);
      for (Index half = lanes / 2; half > 0; half /= 2)
        for (Index i = 0; i < half; ++i) rows[i] = rows[i] + rows[i + half];
      for (Index i = 0; i < m; ++i) score[i0 + i] += double(rows[0].v[i]);
    }
  }

  /// energy_j = ||x_j||^2 of n columns of one group: lanes over 256 rows at a time, then double.
  void energies(const S* x, Index n, double* energy) const {
    std::fill_n(energy, n, 0.0);
    for (Index i0 = 0; i0 < d; i0 += block_rows) {
      V sum = V::zero();
      for (Index i = i0; i < std::min(d, i0 + block_rows); ++i) {
        const V v = V::load(x + i * lanes);
        sum = kernel::fma(v, v, sum);
      }
      for (Index l = 0; l < n; ++l) energy[l] += double(sum.v[l]);
    }
  }

 private:
  /// A row of W takes one register of every group: nothing is turned. The next rows, pages apart, are asked for.
  template <bool adds>
  void update_rows(const S* x, Index j0, Index w, const WeightUpdate<S, adds>& u) const {
    constexpr Index strip = 16;
    S row[tile_columns];
    for (Index i0 = 0; i0 < d; i0 += strip) {
      const Index end = std::min(d, i0 + strip), next = std::clamp<Index>(d - end, 0, strip);
      kernel::Ahead<kernel::Access::Write> ahead(u.at(std::min(end, d - 1), j0).w, w, next, u.ldw);
      for (Index i = i0; i < end; ++i) {
        for (Index l = 0; l < w; l += lanes) {
          ahead.next();
          V::load(x + l * d + i * lanes).store(row + l);
        }
        K::move(w, row, u.at(i, j0), u.motion);
      }
    }
  }
};

}  // namespace linalg
}  // namespace lowrank
