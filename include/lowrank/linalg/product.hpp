// Products whose operands and result are somebody's memory (factor.hpp). The arithmetic is gemm.hpp's: every element is a chain of
// fused multiply-adds over each block of the depth, the blocks and then the summands added in order, so the bits depend on the
// numbers alone, not on threads or storage orders: C^T = B^T A^T takes the same chain as C = A B.
//
//   product(m, n, depth, a, b, memory(C), Mode::Add, s);              // C <- C + s A B
//   product(m, n, {{n, w, x}, {r, b, h, s}}, memory(C), Mode::Store); // C <- W X + s B H, in one pass over C
//   product.each_tile(m, n, depth, a, b, sink);                       // C in pieces, for whoever needs something of it only
#pragma once

#include <lowrank/linalg/factor.hpp>

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
    const detail::Cut cut(m, n, detail::side_of(team_));
    return cut.down * cut.across;
  }

  /// sink(tile number, i0, rows, j0, cols, tile): C(i0.., j0..) = (A B)(i0.., j0..), column-major without gaps, in memory
  /// it may write to; from any thread, in any order.
  template <class A, class B, class Sink>
  void each_tile(Index m, Index n, Index depth, const A& a, const B& b, const Sink& sink) const {
    each_tile(detail::Cut(m, n, detail::side_of(team_)), m, n, depth, a, b, sink);
  }

 private:
  template <class A, class B, class Sink>
  void each_tile(const detail::Cut& cut, Index m, Index n, Index depth, const A& a, const B& b, const Sink& sink) const {
    lowrank::detail::for_each(cut.down * cut.across, team_.threads(), [&](Index item, int slot) {
      S* tile = tiles_ + slot * team_.block_size();
      const auto [i0, rows, j0, cols] = cut.piece(item, m, n);
      if (depth == 0) std::fill_n(tile, rows * cols, S(0));
      for (Index k0 = 0; k0 < depth; k0 += block_depth)
        detail::multiply_piece<K>(a, b, {i0, rows, j0, cols}, k0, std::min(block_depth, depth - k0), detail::Result<S>{tile, rows, k0 > 0},
                                  detail::side_of(team_), team_[slot]);
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
      return detail::sum_products(m, n, terms, c.template at<S>(0, 0), c.col_stride, mode, team_);
    const Index side = detail::side_of(team_);
    const detail::Cut cut(m, n, side, side, team_.threads());
    for (const Term& t : terms) {
      const Mode how = &t == terms.data() ? mode : Mode::Add;
      each_tile(cut, m, n, t.depth, t.a, t.b, [&](Index, Index i0, Index rows, Index j0, Index cols, S* tile) {
        mask.template apply<K>(i0, rows, j0, cols, tile, rows);
        write_block<K>(c, i0, rows, j0, cols, tile, rows, how, t.alpha);
      });
    }
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
