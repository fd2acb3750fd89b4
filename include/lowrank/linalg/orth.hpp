// Orth: an orthonormal basis of the columns of Y (d x r, column-major, d >= r >= 1), in place.
//
// Cholesky-QR: G = Y^T Y = L L^T, Q = Y L^-T, which is two products; a pass brings ||Q^T Q - I|| to about
// cond(Y)^2 eps, so passes repeat until the Gram matrix they started from was near the identity (two as a rule, one when
// the columns were nearly orthogonal). Columns are scaled to unit norm first, so their lengths never matter.
// (Yamamoto, Nakatsukasa, Yanagisawa, Fukaya: Roundoff error analysis of the CholeskyQR2 algorithm, ETNA 44, 2015.)
//
// Y ill-conditioned or rank-deficient shows as a small pivot; then block Gram-Schmidt with reorthogonalisation, which
// needs neither, finds the rank. Columns that depend on earlier ones are replaced by unit vectors.
#pragma once

#include <cmath>  // std::sqrt, std::ilogb, std::ldexp
#include <cstdint>

#include <lowrank/linalg/gemm.hpp>
#include <lowrank/linalg/symmetric.hpp>
#include <lowrank/linalg/vectors.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

/// Replaces the columns of Q (d x r) with present[j] == 0 by unit vectors, made orthonormal to the others: in index
/// order the first e_i of which enough is left. room: d doubles of workspace.
template <class K, class S>
void complete(Index d, Index r, S* Q, double* present, double* room) {
  Index have = 0;
  std::fill_n(room, d, 0.0);
  for (Index j = 0; j < r; ++j)
    if (present[j] != 0) {
      K::add_squares(d, Q + j * d, room);
      ++have;
    }
  for (Index j = 0; j < r; ++j) {
    if (present[j] != 0) continue;
    // ||e_i - Q Q^T e_i||^2 = 1 - room_i; these sum to d - have, so one of them reaches the mean
    const double enough = double(d - have) / (2 * double(d));
    Index i = 0;
    while (i < d - 1 && 1 - room[i] < enough) ++i;
    S* q = Q + j * d;
    std::fill_n(q, d, S(0));
    q[i] = 1;
    bool touched = true;
    for (int pass = 0; pass < 3 && touched; ++pass) {
      touched = false;
      for (Index p = 0; p < r; ++p) {
        if (present[p] == 0) continue;
        const double along = pass == 0 ? double(Q[i + p * d]) : dot<K>(d, Q + p * d, q);
        if (along == 0) continue;
        K::combine(d, 1.0, q, -along, Q + p * d, q);
        touched = true;
      }
      if (touched) K::combine(d, 1 / std::sqrt(K::sum_squares(d, q)), q, 0.0, q, q);
    }
    K::add_squares(d, q, room);
    present[j] = 1;
    ++have;
  }
}

template <class S, class K>
class Orth {
 public:
  Orth() = default;
  Orth(Arena& arena, Index d, Index r)
      : d_(d),
        r_(r),
        ld_(r + stage_padding),
        gram_(arena.take<S>(ld_ * r)),
        inverse_(arena.take<S>(ld_ * r)),
        left_(arena.take<S>(block * r)),
        product_(arena.take<S>(block * r)),
        square_(arena.take<S>(block * block)),
        removed_(arena.take<S>(d * panel)),
        norms_(arena.take<double>(r)),
        room_(arena.take<double>(d)),
        partial_(arena.take<double>((d + block_depth - 1) / block_depth * r)),
        product_of_(arena, r, d) {}

  /// y <- Q. Returns the numerical rank of y; below r the basis is completed by unit vectors in index order. A column
  /// that is not finite counts as zero.
  Index operator()(S* y, const Team<S, K>& team) const {
    for (int pass = 0; pass < 4; ++pass) {
      gram(y, team);
      if (pass == 0 && !in_range()) {
        rescale(y, team);
        gram(y, team);
      }
      const double deviation = normalise_gram();
      if (!factor(team)) break;
      apply(y, team);
      if (deviation < 0.3) return r_;
    }
    return gram_schmidt(y, team);
  }

 private:
  static constexpr Index block = 32;   // of the Cholesky factorisation
  static constexpr Index panel = 16;   // of Gram-Schmidt
  static constexpr double epsilon = double(std::numeric_limits<S>::epsilon());

  /// Columns whose squares could leave the range of S are multiplied by a power of two: exact, and invisible in Q.
  void rescale(S* y, const Team<S, K>& team) const {
    constexpr double low = sizeof(S) == 4 ? 1e-8 : 1e-130, high = sizeof(S) == 4 ? 1e12 : 1e130;
    lowrank::detail::for_each(r_, team.threads(), [&](Index j, int) {
      S* column = y + j * d_;
      const double size = K::sum_abs(d_, column);
      if (size == 0 || (lowrank::detail::is_finite(size) && size >= low && size <= high)) return;
      S largest = 0;
      bool finite = true;
      for (Index i = 0; i < d_; ++i) {
        const S x = column[i] < 0 ? -column[i] : column[i];
        finite = finite && lowrank::detail::is_finite(double(x));
        largest = std::max(largest, x);
      }
      if (!finite || largest == 0) {
        std::fill_n(column, d_, S(0));
        return;
      }
      const int up = -std::ilogb(largest), half = up / 2;  // 2^up itself may be out of range
      K::combine(d_, std::ldexp(1.0, half), column, 0.0, column, column);
      K::combine(d_, std::ldexp(1.0, up - half), column, 0.0, column, column);
    });
  }

  /// The lower triangle of G = Y^T Y, and squares_ = its diagonal, summed in double: a long chain of one sign is where G
  /// errs most.
  void gram(const S* y, const Team<S, K>& team) const {
    const auto measure = [&](Index j0, Index cols, Index i0, Index depth) {
      for (Index j = j0; j < j0 + cols; ++j) partial_[j + i0 / block_depth * r_] = K::sum_squares(depth, y + i0 + j * d_);
    };
    product_of_(r_, d_, transposed<K, S>(y, d_), gram_, ld_, Triangle::Lower, team, measure, [](Index, Index, Index, Index) {});
    std::fill_n(norms_, r_, 0.0);
    for (Index i0 = 0; i0 < d_; i0 += block_depth)
      for (Index j = 0; j < r_; ++j) norms_[j] += partial_[j + i0 / block_depth * r_];
  }

  /// Whether every column is zero, or as long as its products stay well inside the range of S.
  bool in_range() const {
    constexpr double low = sizeof(S) == 4 ? 1e-16 : 1e-260, high = sizeof(S) == 4 ? 1e24 : 1e260;
    for (Index j = 0; j < r_; ++j)
      if (!(norms_[j] >= low && norms_[j] <= high)) return false;
    return true;
  }

  /// G <- D G D with unit diagonal, norms_ = diag(D) in place of the squares. Returns the Frobenius norm of what is off the
  /// diagonal.
  double normalise_gram() const {
    for (Index j = 0; j < r_; ++j) norms_[j] = norms_[j] > 0 ? 1 / std::sqrt(norms_[j]) : 0;
    double sum = 0;
    for (Index j = 0; j < r_; ++j) {
      S* column = gram_ + j * ld_;
      const double scale = norms_[j];
      column[j] = scale > 0 ? S(1) : S(0);
      for (Index i = j + 1; i < r_; ++i) column[i] = S(double(column[i]) * norms_[i] * scale);
      sum += 2 * K::sum_squares(r_ - j - 1, column + j + 1);
    }
    return std::sqrt(sum);
  }

  /// inverse_ = M D with M = L^-1, one block row j after another:
  ///   L_j = G_j M^T,   G_jj - L_j L_j^T = L_jj L_jj^T,   M_jj = L_jj^-1,   M_j = -M_jj (L_j M)
  /// where products read only as much of M as is not zero. False when a pivot (the squared sine between a column and those before it)
  /// drowns in the error of G.
  bool factor(const Team<S, K>& team) const {
    std::fill_n(inverse_, ld_ * r_, S(0));
    for (Index j0 = 0; j0 < r_; j0 += block) {
      const Index w = std::min(block, r_ - j0);
      const S* row = gram_ + j0;
      const auto left = columns<K, S>(left_, block), square = columns<K, S>(square_, block);
      const auto each_strip = [&](const auto& f) {  // of the columns before j0; threads gain where these are many
        lowrank::detail::for_each((j0 + tile_columns - 1) / tile_columns, j0 < 4 * block_depth ? 1 : team.threads(), [&](Index strip, int slot) {
          f(strip * tile_columns, std::min(tile_columns, j0 - strip * tile_columns), team[slot]);
        });
      };
      each_strip([&](Index c, Index n, const Scratch<S>& scratch) {
        multiply(w, n, 0, c + n, columns<K, S>(row, ld_), transposed<K, S>(inverse_ + c, ld_), left_ + c * block, block, scratch);
      });
      if (j0 > 0) multiply(w, w, 0, j0, left, left.transposed(), square_, block, team[0]);
      // columns of L, rows of M: a step updates whole ones, whatever they hold beside the triangle
      double L[block][block] = {}, M[block][block] = {};
      for (Index j = 0; j < w; ++j)
        for (Index i = j; i < w; ++i)
          L[j][i] = double(row[i + (j0 + j) * ld_]) - (j0 > 0 ? double(square_[i + j * block]) : 0.0);
      for (Index j = 0; j < w; ++j) {
        if (!(L[j][j] > 100 * epsilon)) return false;
        const double pivot = std::sqrt(L[j][j]);
        L[j][j] = pivot;
        for (Index i = j + 1; i < w; ++i) L[j][i] /= pivot;
        for (Index q = j + 1; q < w; ++q)
          for (Index i = 0; i < block; ++i) L[q][i] -= L[j][q] * L[j][i];
      }
      for (Index p = 0; p < w; ++p) {
        M[p][p] = 1;
        for (Index j = 0; j < block; ++j) M[p][j] /= L[p][p];
        for (Index i = p + 1; i < w; ++i)
          for (Index j = 0; j < block; ++j) M[i][j] -= L[p][i] * M[p][j];
      }
      for (Index j = 0; j < w; ++j)
        for (Index i = 0; i < w; ++i) {
          const S x = i < j ? S(0) : S(M[i][j]);
          inverse_[j0 + i + (j0 + j) * ld_] = x;
          square_[i + j * block] = -x;
        }
      each_strip([&](Index c, Index n, const Scratch<S>& scratch) {
        S* strip = product_ + c * block;
        multiply(w, n, c, j0, left, columns<K, S>(inverse_ + c * ld_, ld_), strip, block, scratch);
        multiply(w, n, 0, w, square, columns<K, S>(strip, block), inverse_ + j0 + c * ld_, ld_, scratch);
      });
    }
    for (Index j = 0; j < r_; ++j) {
      S* column = inverse_ + j + j * ld_;
      K::combine(r_ - j, norms_[j], column, 0.0, column, column);
    }
    return true;
  }

  /// C <- A B by one thread, where only [from, to) of the depth is not zero: the bits of gemm().
  static void multiply(Index m, Index n, Index from, Index to, const Strided<S, K>& a, const Strided<S, K>& b, S* c, Index ldc,
                       const Scratch<S>& scratch) {
    for (Index k0 = from, end; k0 < to; k0 = end) {
      end = std::min(to, (k0 / block_depth + 1) * block_depth);
      detail::multiply_piece<K>(a, b, {0, m, 0, n}, k0, end - k0, detail::Result<S>{c, ldc, k0 > from}, tile_columns, scratch);
    }
  }

  /// Y <- Y X, X = inverse_^T upper triangular. From right to left, since X_kj = 0 for k > j: what a block of columns
  /// needs is still there, except itself, which is packed before it is overwritten. Within a block a tile of columns takes
  /// only as much of the depth as is not zero.
  void apply(S* y, const Team<S, K>& team) const {
    constexpr Index rows_of_task = 128, height = SymmetricProduct<S, K>::height, cols = K::tile_cols;
    lowrank::detail::for_each((d_ + rows_of_task - 1) / rows_of_task, team.threads(), [&](Index item, int slot) {
      const Scratch<S> scratch = team[slot];
      const Index i0 = item * rows_of_task, rows = std::min(rows_of_task, d_ - i0);
      const auto block_of = [&](Index k, Index j) { return inverse_ + j + k * ld_; };
      const auto pack = [&](Index k0, Index depth) {
        for (Index i = 0; i < rows; i += height)
          SymmetricProduct<S, K>::pack(columns<K, S>(y, d_), i0 + i, std::min(height, rows - i), k0, depth, scratch.rows + i * depth);
      };
      for (Index j0 = (r_ - 1) / block_depth * block_depth; j0 >= 0; j0 -= block_depth) {
        const Index width = std::min(block_depth, r_ - j0);
        for (Index k0 = j0; k0 >= 0; k0 -= block_depth) {
          const Index depth = std::min(block_depth, r_ - k0);
          pack(k0, depth);
          for (Index j = 0; j < width; j += cols)
            for (Index i = 0; i < rows; i += height)
              tile(i0 + i, std::min(height, rows - i), j0 + j, std::min(cols, width - j), k0 < j0 ? depth : std::min(depth, j + cols),
                   scratch.rows + i * depth, block_of(k0, j0 + j), y, k0 < j0, scratch.edge);
        }
      }
    });
  }
  /// Y(i0.., j0..) (=, +=) a packed panel times `cols` columns of X. The padding of inverse_ holds zeros for the last ones.
  void tile(Index i0, Index rows, Index j0, Index cols, Index depth, const S* a, const S* x, S* y, bool accumulate, S* edge) const {
    constexpr Index height = SymmetricProduct<S, K>::height;
    S* out = y + i0 + j0 * d_;
    if (rows == height && cols == K::tile_cols) return K::template gemm_tile<2>(depth, a, x, ld_, Index(1), out, d_, accumulate);
    K::template gemm_tile<2>(depth, a, x, ld_, Index(1), edge, height, false);
    for (Index q = 0; q < cols; ++q)
      for (Index p = 0; p < rows; ++p) out[p + q * d_] = accumulate ? out[p + q * d_] + edge[p + q * height] : edge[p + q * height];
  }

  /// Panels of columns: P <- P - Q (Q^T P) against all earlier ones, then each column against those before it in its
  /// panel. The first round projects twice before it asks how much of a column is left; the next ones repair what a
  /// strong cancellation left behind.
  Index gram_schmidt(S* y, const Team<S, K>& team) const {
    constexpr double negligible = 64 * epsilon;
    Index rank = 0;
    for (Index j0 = 0; j0 < r_; j0 += panel) {
      const Index w = std::min(panel, r_ - j0);
      for (Index j = j0; j < j0 + w; ++j) norms_[j] = std::sqrt(K::sum_squares(d_, y + j * d_));
      bool shrunk = true;
      for (int round = 0; round < 6 && shrunk; ++round) {
        shrunk = round == 0;
        project_out(y, j0, w, team);
        if (round == 0) project_out(y, j0, w, team);
        for (Index j = j0; j < j0 + w; ++j) {
          S* column = y + j * d_;
          for (int again = 0; again < 2; ++again)
            for (Index p = j0; p < j; ++p)
              K::combine(d_, 1.0, column, -dot<K>(d_, y + p * d_, column), y + p * d_, column);
          const double left = std::sqrt(K::sum_squares(d_, column));
          if (!(left > (round == 0 ? negligible * norms_[j] : 0.0))) {
            norms_[j] = 0;
            std::fill_n(column, d_, S(0));
            continue;
          }
          shrunk = shrunk || left < 0.5;
          K::combine(d_, 1 / left, column, 0.0, column, column);
        }
      }
      for (Index j = j0; j < j0 + w; ++j) rank += norms_[j] != 0 ? 1 : 0;
    }
    if (rank < r_) complete<K>(d_, r_, y, norms_, room_);
    return rank;
  }

  /// The w columns of Y from j0, less their part in the span of the columns before them.
  void project_out(S* y, Index j0, Index w, const Team<S, K>& team) const {
    if (j0 == 0) return;
    S* columns_of_panel = y + j0 * d_;
    gemm<K>(w, j0, d_, transposed<K, S>(columns_of_panel, d_), columns<K, S>(y, d_), left_, panel, team);
    gemm<K>(d_, w, j0, columns<K, S>(y, d_), transposed<K, S>(left_, panel), removed_, d_, team);
    K::combine(d_ * w, 1.0, columns_of_panel, -1.0, removed_, columns_of_panel);
  }

  Index d_ = 0, r_ = 0, ld_ = 0;
  S* gram_ = nullptr;
  S* inverse_ = nullptr;
  S* left_ = nullptr;     // block x r
  S* product_ = nullptr;  // block x r
  S* square_ = nullptr;   // block x block
  S* removed_ = nullptr;  // d x panel
  double* norms_ = nullptr;
  double* room_ = nullptr;
  double* partial_ = nullptr;  // sums of squares of 256 rows, r of them
  SymmetricProduct<S, K> product_of_;
};

}  // namespace linalg
}  // namespace lowrank
