// Products whose operands and result are somebody's memory (factor.hpp). The arithmetic is gemm.hpp's: every element is a chain of
// fused multiply-adds over each block of the depth, the blocks and then the summands added in order, so the bits depend on the
// numbers alone, not on threads or storage orders: C^T = B^T A^T takes the same chain as C = A B.
//
//   product(m, n, depth, a, b, memory(C), Mode::Add, s);              // C <- C + s A B
//   product(m, n, {{n, w, x}, {r, b, h, s}}, memory(C), Mode::Store); // C <- W X + s B H, in one pass over C
//   product.each_tile(m, n, depth, a, b, sink);                       // C in pieces, for whoever needs something of it only
#pragma once

#include <array>  // std::array

#include <lowrank/linalg/factor.hpp>
#include <lowrank/linalg/pack.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

template <class S, class K>
class Product {
 public:
  using Operand = Factor<S, K>;

  /// alpha A B, A m x depth and B depth x n.
  struct Term {
    Index depth;
    Operand a, b;
    double alpha = 1;

    Term transposed() const { return {depth, b.transposed(), a.transposed(), alpha}; }
  };

  Product() = default;
  /// For matrices whose dimensions do not exceed `largest`, or are at least 256 anyway.
  Product(Arena& arena, int threads, Index largest)
      : team_(arena, threads, largest), tiles_(arena.take<S>(threads * team_.block_size())) {}

  const Team<S, K>& team() const { return team_; }
  int threads() const { return team_.threads(); }

  /// C (=, +=) alpha A B, the product masked before it is added.
  void operator()(Index m, Index n, Index depth, const Operand& a, const Operand& b, const Memory<void>& c, Mode mode,
                  double alpha = 1, const Mask& mask = {}) const {
    sum(m, n, std::array{Term{depth, a, b, alpha}}, c, mode, mask);
  }
  /// C (=, +=) the sum of two; the second one's product is masked.
  void operator()(Index m, Index n, const Term& first, const Term& second, const Memory<void>& c, Mode mode, const Mask& mask = {}) const {
    if (mask.below == 0 && (second.alpha == 1 || second.depth <= block_depth)) return sum(m, n, std::array{first, second}, c, mode, mask);
    sum(m, n, std::array{first}, c, mode, Mask{});
    sum(m, n, std::array{second}, c, Mode::Add, mask);
  }

  /// How many tiles each_tile(m, n, ...) makes.
  Index tiles(Index m, Index n) const {
    const Cut cut(m, n, side());
    return cut.down * cut.across;
  }

  /// sink(tile number, i0, rows, j0, cols, tile): C(i0.., j0..) = (A B)(i0.., j0..), column-major without gaps, in memory
  /// it may write to; from any thread, in any order.
  template <class A, class B, class Sink>
  void each_tile(Index m, Index n, Index depth, const A& a, const B& b, const Sink& sink) const {
    each_tile(Cut(m, n, side()), m, n, depth, a, b, sink);
  }

 private:
  struct Piece {
    Index i0, rows, j0, cols;
  };
  struct Cut {
    /// The same for any number of threads.
    Cut(Index m, Index n, Index side)
        : height(m <= side ? std::max<Index>(1, n > m ? std::min(m, tile_columns) : m) : side), width(std::max<Index>(1, std::min(n, side))) {
      count(m, n);
    }
    /// As wide as `widest`, for A is packed once for all columns, but some pieces for each thread.
    Cut(Index m, Index n, Index side, Index widest, int threads)
        : height(std::max<Index>(1, std::min(m, side))), width(std::max<Index>(1, std::min(n, widest))) {
      for (count(m, n); threads > 1 && down * across < 4 * threads && std::max(height, width) > tile_columns; count(m, n)) {
        Index& longer = width >= height ? width : height;
        longer = (longer / 2 + tile_columns - 1) / tile_columns * tile_columns;
      }
    }
    Piece piece(Index item, Index m, Index n) const {
      const Index i0 = item % down * height, j0 = item / down * width;
      return {i0, std::min(height, m - i0), j0, std::min(width, n - j0)};
    }
    Index height, width, down = 0, across = 0;

   private:
    void count(Index m, Index n) {
      down = (m + height - 1) / height;
      across = (n + width - 1) / width;
    }
  };

  /// Of a block of the team's memory.
  Index side() const { return team_.block_size() >= block_rows * block_rows ? block_rows : tile_columns; }

  template <class A, class B, class Sink>
  void each_tile(const Cut& cut, Index m, Index n, Index depth, const A& a, const B& b, const Sink& sink) const {
    lowrank::detail::for_each(cut.down * cut.across, team_.threads(), [&](Index item, int slot) {
      S* tile = tiles_ + slot * team_.block_size();
      const auto [i0, rows, j0, cols] = cut.piece(item, m, n);
      if (depth == 0) std::fill_n(tile, rows * cols, S(0));
      for (Index k0 = 0; k0 < depth; k0 += block_depth)
        multiply(a, b, {i0, rows, j0, cols}, k0, std::min(block_depth, depth - k0), {tile, rows, k0 > 0}, team_[slot]);
      sink(item, i0, rows, j0, cols, tile);
    });
  }

  template <std::size_t N>
  void sum(Index m, Index n, std::array<Term, N> terms, const Memory<void>& c, Mode mode, const Mask& mask) const {
    if (c.row_stride != 1) {
      for (Term& t : terms) t = t.transposed();
      return sum(n, m, terms, transposed(c), mode, mask.transposed());
    }
    const bool same = c.dtype == lowrank::detail::DtypeOf<S>::value && mask.below == 0;
    if (same && (mode == Mode::Store || terms[0].alpha == 1 || terms[0].depth <= block_depth))
      return straight_to(m, n, terms, c.template at<S>(0, 0), c.col_stride, mode);
    const Cut cut(m, n, side(), side(), team_.threads());
    for (const Term& t : terms) {
      const Mode how = &t == terms.data() ? mode : Mode::Add;
      each_tile(cut, m, n, t.depth, t.a, t.b, [&](Index, Index i0, Index rows, Index j0, Index cols, S* tile) {
        mask.apply(i0, rows, j0, cols, tile, rows);
        write_block<K>(c, i0, rows, j0, cols, tile, rows, how, t.alpha);
      });
    }
  }

  /// The sum without a tile between the product and C, column-major. A factor of several blocks is applied to all of C with the
  /// last of them: only to the first term of what is stored.
  template <std::size_t N>
  void straight_to(Index m, Index n, const std::array<Term, N>& terms, S* c, Index ldc, Mode mode) const {
    const Cut cut(m, n, side(), 2 * side(), team_.threads());
    lowrank::detail::for_each(cut.down * cut.across, team_.threads(), [&](Index item, int slot) {
      const Piece piece = cut.piece(item, m, n);
      S* out = c + piece.i0 + piece.j0 * ldc;
      bool add = mode == Mode::Add;
      for (const Term& t : terms)
        for (Index k0 = 0; k0 < t.depth; k0 += block_depth, add = true) {
          const Index depth = std::min(block_depth, t.depth - k0);
          multiply(t.a, t.b, piece, k0, depth, {out, ldc, add, k0 + depth < t.depth ? 1 : t.alpha, t.depth > block_depth}, team_[slot]);
        }
      for (Index j = 0; !add && j < piece.cols; ++j) std::fill_n(out + j * ldc, piece.rows, S(0));
    });
  }

  /// C <- alpha A B, C + alpha A B, or, where alpha belongs to `all` of the sum, alpha (C + A B).
  struct Result {
    S* c;
    Index ld;
    bool add;
    double alpha = 1;
    bool all = false;
  };

  /// A piece of C over one block of the depth.
  template <class A, class B>
  void multiply(const A& a, const B& b, const Piece& piece, Index k0, Index depth, const Result& to, const Scratch<S>& scratch) const {
    constexpr Index L = K::template lanes<S>, wide = K::tile_cols;
    const auto& [i0, rows, j0, cols] = piece;
    pack_panels<K>(a, i0, rows, k0, depth, scratch.rows, scratch.stage);
    for (Index s = 0; s < cols; s += side()) {
      const Index width = std::min(side(), cols - s);
      const Strips<S> strips = stage_columns<K>(b, k0, depth, j0 + s, width, scratch.stage);
      for (Index j = 0; j < width; j += wide) {
        const Index columns = std::min(wide, width - j);
        const auto [column, bk, bj] = detail::whole_columns(detail::Columns<S>{strips.strip(j, wide), strips.bk, strips.bj}, depth,
                                                            strips.padded ? wide : columns, wide, scratch.edge);
        for (Index i = 0; i < rows; i += 2 * L) {
          const Index high = std::min(2 * L, rows - i);
          Result part = to;
          part.c += i + (s + j) * to.ld;
          if (high > L) tile<2>(depth, scratch.rows + i * depth, column, bk, bj, part, high, columns, scratch.edge + depth * wide);
          else tile<1>(depth, scratch.rows + i * depth, column, bk, bj, part, high, columns, scratch.edge + depth * wide);
        }
      }
    }
  }
  template <int registers>
  static void tile(Index depth, const S* a, const S* b, Index bk, Index bj, const Result& to, Index rows, Index cols, S* edge) {
    constexpr Index height = registers * K::template lanes<S>, wide = K::tile_cols;
    const bool whole = rows == height && cols == wide;
    const double alpha = to.all ? 1 : to.alpha;
    if (whole && alpha == 1) {
      K::template gemm_tile<registers>(depth, a, b, bk, bj, to.c, to.ld, to.add);
    } else if (whole && to.add) {
      K::template update_tile<registers>(depth, a, b, bk, bj, static_cast<const S*>(nullptr), kernel::Target<S>{to.c, to.ld},
                                         kernel::Motion<S>{S(-alpha)});
    } else {
      K::template gemm_tile<registers>(depth, a, b, bk, bj, edge, height, false);
      for (Index q = 0; q < cols; ++q) K::combine(rows, alpha, edge + q * height, to.add ? 1.0 : 0.0, to.c + q * to.ld, to.c + q * to.ld);
    }
    for (Index q = 0; to.all && to.alpha != 1 && q < cols; ++q) K::combine(rows, to.alpha, to.c + q * to.ld, 0.0, to.c + q * to.ld, to.c + q * to.ld);
  }

  Team<S, K> team_;
  S* tiles_ = nullptr;  // a block of results per thread
};

namespace detail {

/// A block as columns: where it is, or in room.
template <class S, class K>
std::pair<const S*, Index> columns_of(const Factor<S, K>& a, Index i0, Index rows, Index j0, Index cols, S* room) {
  if (const Strided<S, K> x = a.in_place(i0, j0); x.data != nullptr && x.row_stride == 1) return {x.data, x.col_stride};
  a.load(i0, rows, j0, cols, room, rows);
  return {room, rows};
}

}  // namespace detail

/// out[i] (+)= sum_j A(i, j) B(i, j), in double, j ascending: the diagonal of A B^T. Rows are split among threads.
template <class S, class K>
void row_dots(Index m, Index n, const Factor<S, K>& a, const Factor<S, K>& b, double* out, const Team<S, K>& team) {
  constexpr Index side = 64;
  lowrank::detail::for_each((m + side - 1) / side, team.threads(), [&](Index block, int slot) {
    const Index i0 = block * side, rows = std::min(side, m - i0);
    for (Index i = 0; i < rows; ++i) out[i0 + i] = 0;
    for (Index j0 = 0; j0 < n; j0 += side) {
      const Index cols = std::min(side, n - j0);
      const auto [x, ldx] = detail::columns_of(a, i0, rows, j0, cols, team[slot].rows);  // 64 x 64 fits: blocks are at least that large
      const auto [y, ldy] = detail::columns_of(b, i0, rows, j0, cols, team[slot].stage);
      for (Index j = 0; j < cols; ++j)
        for (Index i = 0; i < rows; ++i) out[i0 + i] += double(x[i + j * ldx]) * double(y[i + j * ldy]);
    }
  });
}

}  // namespace linalg
}  // namespace lowrank
