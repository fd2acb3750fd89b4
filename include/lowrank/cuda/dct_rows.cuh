// What is chosen of a cosine basis, on a device: the r best of d scores, the vectors they stand for, and rows of coefficients out of all
// and back among them.
#pragma once

#include <lowrank/cuda/dct.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// P (d x r) <- the chosen basis vectors.
template <class S>
struct Cosines {
  static constexpr int threads = 256;
  S* P;
  Index d, r;
  const int* index;
  const S* table;
  DctBasis basis;

  Grid grid() const { return {ceil_div(d * r, threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    block.each([&](int t) {
      const Index e = block.index() * threads + t;
      if (e >= d * r) return;
      const Index row = e % d, chosen = index[e / d], q = basis == DctBasis::Cosines ? chosen : row, j = basis == DctBasis::Cosines ? row : chosen;
      const S x = S(std::sqrt(2.0 / double(d))) * table[q * (2 * j + 1) % (4 * d)];
      P[e] = q == 0 ? S(0.70710678118654752440) * x : x;
    });
  }
};

// -- the r largest of n scores ----------------------------------------------------------------------------------------------------------

/// chosen[i] = 1 if fewer than r scores come before score i, larger ones or equal ones of lower index: n^2 comparisons, all at once.
struct Choose {
  static constexpr int threads = 256;
  const double* score;
  Index n, r;
  int* chosen;

  Grid grid() const { return {ceil_div(n, threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    block.each([&](int t) {
      const Index i = block.index() * threads + t;
      if (i >= n) return;
      Index before = 0;
      for (Index j = 0; j < n; ++j) before += score[j] > score[i] || (score[j] == score[i] && j < i);
      chosen[i] = before < r;
    });
  }
};
/// index = the chosen ones, ascending; old (null: none) is where each was in `old`, or -1.
struct Chosen {
  static constexpr int threads = 256;
  const int* chosen;
  Index n, r;
  int* index;
  const int* old;
  int* from;

  Grid grid() const { return {ceil_div(n, threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    block.each([&](int t) {
      const Index i = block.index() * threads + t;
      if (i >= n || chosen[i] == 0) return;
      Index slot = 0;
      for (Index j = 0; j < i; ++j) slot += chosen[j];
      if (slot >= r) return;  // scores that are not numbers choose everything
      index[slot] = int(i);
      if (old == nullptr) return;
      int was = -1;
      for (Index q = 0; q < r; ++q) was = old[q] == int(i) ? int(q) : was;
      from[slot] = was;
    });
  }
};

/// out (r x k; null: nowhere) <- rows of x (d x k); where the step happens, these rows of x <- `keep` times what they are.
template <class S>
struct TakeRows {
  static constexpr int threads = 256;
  S *x, *out;
  Index d, r, k;
  const int* index;
  S keep;
  const Control<S>* control;

  Grid grid() const { return {ceil_div(r * k, threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    block.each([&](int t) {
      const Index e = block.index() * threads + t;
      if (e >= r * k) return;
      S& from = x[index[e % r] + e / r * d];
      if (out != nullptr) out[e] = from;
      if (keep != 1 && control->go != 0) from = keep == 0 ? S(0) : keep * from;
    });
  }
};

/// slot[i] = where i is among the r ascending indices, or -1.
struct Slots {
  static constexpr int threads = 256;
  const int* index;
  Index r, d;
  int* slot;

  Grid grid() const { return {ceil_div(d, threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    block.each([&](int t) {
      const Index i = block.index() * threads + t;
      if (i >= d) return;
      Index low = 0, high = r;
      while (low < high) {
        const Index middle = (low + high) / 2;
        if (index[middle] < int(i)) low = middle + 1;
        else high = middle;
      }
      slot[i] = low < r && index[low] == int(i) ? int(low) : -1;
    });
  }
};
/// N (r x k) at the chosen rows of d, zeros elsewhere: the source of the transform back.
template <class S>
struct Spread {
  const S* data;
  Index r;
  const int* slot;
  bool down = true;

  LOWRANK_DEVICE Spread begin(const Control<S>&) const { return *this; }
  LOWRANK_DEVICE S operator()(Index i, Index j) const { return slot[i] < 0 ? S(0) : data[slot[i] + j * r]; }
};

/// index[i] = i
struct FirstIndices {
  static constexpr int threads = 256;
  int* index;
  Index r;

  Grid grid() const { return {ceil_div(r, threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    block.each([&](int t) {
      const Index i = block.index() * threads + t;
      if (i < r) index[i] = int(i);
    });
  }
};

}  // namespace cuda
}  // namespace lowrank
