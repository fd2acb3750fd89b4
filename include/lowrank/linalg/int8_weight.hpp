// Int8Weight: a weight of one byte an entry, with two numbers for every 256 rows of a column (linalg/compact_matrix.hpp), as
// Q-GaLore (arXiv 2407.08296, sec. 3.3) and Q-APOLLO train them. A layer at a time is decoded for its forward and
// backward pass and its step, and encoded again:
//
//   lowrank::Int8Weight W8(W);                              // once; W may go
//   W8.decode(W);                                           // one matrix of room serves all layers of a shape
//   opt.step(W, G, {.lr = lr});                             // any optimizer, or fleet.step(i, param, ...)
//   W8.encode(W, {.step = t, .seed = 1});                   // stochastically rounded, so that small updates add up
//
// Rounded to nearest, an update below half a step of the codes is lost every time; rounded stochastically it arrives on
// average: q = floor((x - low) / step + u), u uniform, number i + j rows of stream `step` under `seed`.
#pragma once

#include <lowrank/core/rng.hpp>
#include <lowrank/core/parallel.hpp>
#include <lowrank/linalg/product.hpp>
#include <lowrank/linalg/store.hpp>
#include <lowrank/options/step.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K = kernel::Best>
class Int8Weight {
 public:
  struct Encoding {
    Rounding rounding = Rounding::Stochastic;
    std::uint64_t step = 0, seed = 0;
  };

  /// Allocates; rounds W to nearest. W: m x n, either storage order, float, double, bf16 or half.
  template <class M>
  explicit Int8Weight(const M& W) : codes_(view(W).rows, view(W).cols, Storage::Int8) {
    codes_.allocate();
    encode(W, {.rounding = Rounding::Nearest});
  }

  Index rows() const { return codes_.rows(); }
  Index cols() const { return codes_.cols(); }
  std::size_t bytes() const { return codes_.bytes(); }

  /// W <- the weight. Throws std::invalid_argument unless it has its shape.
  template <class M>
  void decode(M&& W) const {
    const auto w = view(W);
    check("lowrank::Int8Weight::decode", w);
    const auto memory = linalg::memory(w);
    for_blocks([&](Index i0, Index m, Index j) {
      S block[linalg::CompactMatrix<S>::group];
      codes_.load(i0, m, j, 1, block, m);
      linalg::store_block<K>(block, m, memory, i0, m, j, 1, linalg::RoundingKey{});
    });
  }
  /// The weight <- W. Throws std::invalid_argument unless W has its shape and is finite, and then changes nothing.
  template <class M>
  void encode(const M& W, const Encoding& how = {}) {
    const auto w = view(W);
    check("lowrank::Int8Weight::encode", w);
    const auto memory = linalg::memory(w);
    check_finite(memory);
    for_blocks([&](Index i0, Index m, Index j) {
      S block[linalg::CompactMatrix<S>::group];
      linalg::load_block<K>(memory, i0, m, j, 1, block, m);
      codes_.store(i0, m, j, 1, block, m, [&](Index i, Index column) {
        if (how.rounding == Rounding::Nearest) return S(0.5);
        return S(detail::unit(uniform_bits(how.seed, how.step, std::uint64_t(i + column * rows()))));
      });
    });
  }

  void visit(auto&& f) { codes_.visit("weight", "weight_codes", "weight_ranges", f); }
  void visit(auto&& f) const { codes_.visit("weight", "weight_codes", "weight_ranges", f); }

 private:
  template <class T>
  void check(const char* who, const View<T>& w) const {
    if (w.rows != rows() || w.cols != cols()) detail::bad_shape(who, w.rows, w.cols, rows(), cols());
  }
  template <class Void>
  void check_finite(const linalg::Memory<Void>& w) const {
    S block[linalg::CompactMatrix<S>::group];
    for (Index j = 0; j < cols(); ++j)
      for (Index i0 = 0; i0 < rows(); i0 += linalg::CompactMatrix<S>::group) {
        const Index m = std::min(linalg::CompactMatrix<S>::group, rows() - i0);
        linalg::load_block<K>(w, i0, m, j, 1, block, m);
        for (Index i = 0; i < m; ++i)
          if (!detail::is_finite(double(block[i])))
            detail::bad_argument("lowrank::Int8Weight::encode",
                                 "element (" + std::to_string(i0 + i) + ", " + std::to_string(j) + ") that is not finite", "finite numbers");
      }
  }
  /// f(first row, rows, column) for every group, columns shared among threads.
  template <class F>
  void for_blocks(const F& f) const {
    constexpr Index group = linalg::CompactMatrix<S>::group;
    detail::for_each(cols(), detail::available_threads(), [&](Index j, int) {
      for (Index i0 = 0; i0 < rows(); i0 += group) f(i0, std::min(group, rows() - i0), j);
    });
  }

  linalg::CompactMatrix<S> codes_;
};

template <class M>
Int8Weight(const M&) -> Int8Weight<compute_t<typename decltype(view(std::declval<const M&>()))::Scalar>>;

}  // namespace lowrank
