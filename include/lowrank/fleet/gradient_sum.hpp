// GradientSum: the sum of a matrix' gradients over micro-batches, m x n, for steps that need all of it.
#pragma once

#include <lowrank/core/parallel.hpp>
#include <lowrank/linalg/gemm.hpp>
#include <lowrank/linalg/store.hpp>
#include <lowrank/optimizer/canonical.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

template <class S>
class GradientSum {
 public:
  Index gradients() const { return gradients_; }
  std::size_t bytes() const { return sum_.bytes(); }

  /// sum <- sum + weight G, in the storage order of `like`. The first one allocates.
  template <class W, class G>
  void add(const View<W>& like, const View<const G>& g, double weight) {
    using K = kernel::Best;
    constexpr Index piece = 256, tile = linalg::tile_columns;
    if (sum_.size() == 0) {
      shape_ = contiguous(like);
      sum_ = Buffer<S>(shape_.d(), shape_.k());
    }
    ++gradients_;
    const auto from = shape_(g);
    for_each((shape_.k() + tile - 1) / tile, available_threads(), [&](Index t, int) {
      S block[piece];
      for (Index j = t * tile; j < std::min(shape_.k(), (t + 1) * tile); ++j)
        for (Index i0 = 0; i0 < shape_.d(); i0 += piece) {
          const Index m = std::min(piece, shape_.d() - i0);
          linalg::load_block<K>(from, i0, m, j, 1, block, m);
          K::combine(m, 1.0, sum_.column(j) + i0, weight, block, sum_.column(j) + i0);
        }
    });
  }
  View<const S> view() const {
    const Index d = shape_.d();
    return {sum_.data(), shape_.rows, shape_.cols, shape_.transposed ? d : 1, shape_.transposed ? 1 : d};
  }
  /// The memory goes back: a refresh needs it once in a while, for one group of matrices at a time.
  void release() { *this = {}; }

 private:
  Canonical shape_;
  Buffer<S> sum_;
  Index gradients_ = 0;
};

}  // namespace detail
}  // namespace lowrank
