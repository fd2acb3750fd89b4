// A sparse matrix of fixed support at work on activations, on a device: Y += S X, dX += S^T dY and dv_k += <dY_(i_k), X_(j_k)>, with no
// dense m x n buffer. Rows are compressed (CSR), and columns as well, so that S^T dY gathers: no atomics, and so one order of every sum.
//
// A warp reads 32 tokens of one feature at once, so activations are wanted with tokens contiguous; others are turned into workspace.
#pragma once

#include <cstdint>  // std::int32_t, std::int64_t
#include <vector>   // std::vector

#include <lowrank/cuda/backend.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// out (rows x cols, row-major, contiguous) <- a column-major matrix, through tiles of 32 x 32 in shared memory.
template <class S>
struct Turn {
  static constexpr int threads = 256, tile = 32;
  View<const S> a;
  S* out;

  Grid grid() const { return {ceil_div(a.rows, tile) * ceil_div(a.cols, tile), shared_bytes<S>(tile * (tile + 1))}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    const Index down = ceil_div(a.rows, tile), i0 = block.index() % down * tile, j0 = block.index() / down * tile;
    S* room = block.template shared<S>(tile * (tile + 1));
    block.each([&](int t) {
      for (int q = t / tile; q < tile; q += threads / tile)
        if (i0 + t % tile < a.rows && j0 + q < a.cols) room[t % tile * (tile + 1) + q] = a(i0 + t % tile, j0 + q);
    });
    block.each([&](int t) {
      for (int p = t / tile; p < tile; p += threads / tile)
        if (i0 + p < a.rows && j0 + t % tile < a.cols) out[(i0 + p) * a.cols + j0 + t % tile] = room[p * (tile + 1) + t % tile];
    });
  }
};

/// The compressed lines of a sparse matrix: entry e of line i (starts[i] <= e < starts[i + 1]) is v[place[e]] (place null: v[e]) at `index[e]`.
struct Lines {
  const std::int32_t *starts, *index, *place;
  Index count;
};

/// y_i += sum_e v_e x_(index e), for every line i and token; x has its tokens contiguous. SpMM.
template <class S>
struct SparseTimes {
  static constexpr int threads = 256, tile = 32;
  Lines lines;
  const S* values;
  View<const S> x;
  View<S> y;

  Grid grid() const { return {ceil_div(lines.count, tile) * ceil_div(x.cols, tile), shared_bytes<S>(tile * (tile + 1))}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    const Index down = ceil_div(lines.count, tile), i0 = block.index() % down * tile, t0 = block.index() / down * tile;
    S* room = block.template shared<S>(tile * (tile + 1));
    block.each([&](int t) {
      const Index token = t0 + t % tile;
      for (int p = t / tile; p < tile; p += threads / tile) {
        if (i0 + p >= lines.count || token >= x.cols) continue;
        S sum = 0;
        for (Index e = lines.starts[i0 + p]; e < lines.starts[i0 + p + 1]; ++e)
          sum = std::fma(values[lines.place == nullptr ? e : Index(lines.place[e])], x(lines.index[e], token), sum);
        room[p * (tile + 1) + t % tile] = sum;
      }
    });
    block.each([&](int t) {  // along y's contiguous dimension
      for (int q = t / tile; q < tile; q += threads / tile) {
        const int p = y.row_stride == 1 ? t % tile : q, token = y.row_stride == 1 ? q : t % tile;
        if (i0 + p < lines.count && t0 + token < x.cols) y(i0 + p, t0 + token) += room[p * (tile + 1) + token];
      }
    });
  }
};

/// dv_e += <dy_i, x_(index e)> over all tokens, for the entries e of every row i; tokens contiguous in both. SDDMM. A block has a
/// row, 32 threads an entry: each sums every 32nd token, then these are added in order, in double.
template <class S>
struct SparseSampled {
  static constexpr int threads = 256, lanes = 32, entries = threads / lanes;
  Lines lines;  // of rows
  View<const S> x, dy;
  S* dv;

  Grid grid() const { return {lines.count, shared_bytes<double>(threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    const Index i = block.index(), end = lines.starts[i + 1];
    double* room = block.template shared<double>(threads);
    for (Index first = lines.starts[i]; first < end; first += entries) {
      block.each([&](int t) {
        const Index e = first + t / lanes;
        S sum = 0;
        if (e < end)
          for (Index token = t % lanes; token < x.cols; token += lanes) sum = std::fma(dy(i, token), x(lines.index[e], token), sum);
        room[t] = double(sum);
      });
      block.each([&](int t) {
        if (t >= entries || first + t >= end) return;
        double sum = 0;
        for (int l = 0; l < lanes; ++l) sum += room[t * lanes + l];
        dv[first + t] += S(sum);
      });
    }
  }
};

/// W_(i_k, j_k) += v_k, a block for each row.
template <class S>
struct SparseAdded {
  static constexpr int threads = 256;
  Lines lines;
  const S* values;
  View<S> w;

  Grid grid() const { return {lines.count}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    block.each([&](int t) {
      const Index i = block.index();
      for (Index e = lines.starts[i] + t; e < lines.starts[i + 1]; e += threads) w(i, lines.index[e]) += values[e];
    });
  }
};

/// Where the entries are: row by row, columns ascending, which is the order of the values; and column by column.
template <class B>
class Support {
 public:
  Support() = default;
  /// From flat row-major indices i n + j, ascending and distinct: std::invalid_argument otherwise.
  Support(B& backend, Index m, Index n, const std::vector<std::int64_t>& flat)
      : row_starts_(m + 1, 1), columns_(Index(flat.size()), 1), column_starts_(n + 1, 1), rows_(Index(flat.size()), 1), places_(Index(flat.size()), 1) {
    const char* who = "lowrank::cuda::Support";
    if (m < 1 || n < 1 || m > 0x7fffffff || n > 0x7fffffff) detail::bad_argument(who, detail::shape_text(m, n), "a matrix of 1 to 2^31 - 1 rows and columns");
    if (flat.size() > 0x7fffffff) detail::bad_argument(who, std::to_string(flat.size()) + " entries", "fewer than 2^31");
    const auto count = flat.size();
    std::vector<std::int32_t> row_starts(std::size_t(m) + 1), columns(count), column_starts(std::size_t(n) + 1), rows(count), places(count);
    std::int64_t before = -1;
    for (std::size_t k = 0; k < count; ++k) {
      const std::int64_t at = flat[k];
      if (at <= before || at >= std::int64_t(m) * n)
        detail::bad_argument(who, "index " + std::to_string(at) + " at position " + std::to_string(k),
                             "ascending, distinct indices below " + std::to_string(std::int64_t(m) * n));
      before = at;
      ++row_starts[std::size_t(at / n) + 1], ++column_starts[std::size_t(at % n) + 1];
      columns[k] = std::int32_t(at % n);
    }
    for (std::size_t i = 0; i + 1 < row_starts.size(); ++i) row_starts[i + 1] += row_starts[i];
    for (std::size_t j = 0; j + 1 < column_starts.size(); ++j) column_starts[j + 1] += column_starts[j];
    std::vector<std::int32_t> next(column_starts.begin(), column_starts.end() - 1);
    for (std::size_t k = 0; k < count; ++k) {
      const auto to = std::size_t(next[std::size_t(columns[k])]++);
      rows[to] = std::int32_t(flat[k] / n);
      places[to] = std::int32_t(k);
    }
    fill(backend, row_starts_, row_starts), fill(backend, columns_, columns), fill(backend, column_starts_, column_starts);
    fill(backend, rows_, rows), fill(backend, places_, places);
  }

  Index rows() const { return row_starts_.rows() - 1; }
  Index cols() const { return column_starts_.rows() - 1; }
  Index entries() const { return columns_.rows(); }
  std::size_t bytes() const { return row_starts_.bytes() + columns_.bytes() + column_starts_.bytes() + rows_.bytes() + places_.bytes(); }
  /// The rows of S.
  Lines by_rows() const { return {row_starts_.data(), columns_.data(), nullptr, rows()}; }
  /// The rows of S^T.
  Lines by_columns() const { return {column_starts_.data(), rows_.data(), places_.data(), cols()}; }

 private:
  using Numbers = Array<std::int32_t, B>;
  static void fill(B& backend, Numbers& to, const std::vector<std::int32_t>& from) {
    to.allocate(backend);
    if (to.size() > 0) backend.upload(to.data(), from.data(), to.bytes());
  }

  Numbers row_starts_, columns_, column_starts_, rows_, places_;
};

}  // namespace cuda
}  // namespace lowrank
