// What is chosen of a cosine basis, on a device: the r best of d scores, the vectors they stand for, and rows of coefficients out of all
// and back among them.
#pragma once

#include <lowrank/cuda/dct.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// P (d x r) <- the chosen basis vectors.
template <class S>
struct Cosines {
  S* P;
  Index d, r;
  const int* index;
  const S* table;
  DctBasis basis;

  LOWRANK_HOST_DEVICE Index size() const { return d * r; }
  LOWRANK_DEVICE void operator()(Index e) const {
    const Index row = e % d, chosen = index[e / d], q = basis == DctBasis::Cosines ? chosen : row, j = basis == DctBasis::Cosines ? row : chosen;
    const S x = S(std::sqrt(2.0 / double(d))) * table[q * (2 * j + 1) % (4 * d)];
    P[e] = q == 0 ? S(0.70710678118654752440) * x : x;
  }
};

// -- the r largest of n scores ----------------------------------------------------------------------------------------------------------

/// chosen[i] = 1 if fewer than r scores come before score i, larger ones or equal ones of lower index: n^2 comparisons, all at once.
struct Choose {
  const double* score;
  Index n, r;
  int* chosen;

  LOWRANK_HOST_DEVICE Index size() const { return n; }
  LOWRANK_DEVICE void operator()(Index i) const {
    Index before = 0;
    for (Index j = 0; j < n; ++j) before += score[j] > score[i] || (score[j] == score[i] && j < i);
    chosen[i] = before < r;
  }
};
/// index = the chosen ones, ascending; old (null: none) is where each was in `old`, or -1.
struct Chosen {
  const int* chosen;
  Index n, r;
  int* index;
  const int* old;
  int* from;

  LOWRANK_HOST_DEVICE Index size() const { return n; }
  LOWRANK_DEVICE void operator()(Index i) const {
    if (chosen[i] == 0) return;
    Index slot = 0;
    for (Index j = 0; j < i; ++j) slot += chosen[j];
    if (slot >= r) return;  // scores that are not numbers choose everything
    index[slot] = int(i);
    if (old == nullptr) return;
    int was = -1;
    for (Index q = 0; q < r; ++q) was = old[q] == int(i) ? int(q) : was;
    from[slot] = was;
  }
};

/// out (r x k; null: nowhere) <- rows of x (d x k); where the step happens, these rows of x <- `keep` times what they are.
template <class S>
struct TakeRows {
  S *x, *out;
  Index d, r, k;
  const int* index;
  S keep;
  const Control<S>* control;

  LOWRANK_HOST_DEVICE Index size() const { return r * k; }
  LOWRANK_DEVICE void operator()(Index e) const {
    S& from = x[index[e % r] + e / r * d];
    if (out != nullptr) out[e] = from;
    if (keep != 1 && control->go != 0) from = keep == 0 ? S(0) : keep * from;
  }
};

/// slot[i] = where i is among the r ascending indices, or -1.
struct Slots {
  const int* index;
  Index r, d;
  int* slot;

  LOWRANK_HOST_DEVICE Index size() const { return d; }
  LOWRANK_DEVICE void operator()(Index i) const {
    Index low = 0, high = r;
    while (low < high) {
      const Index middle = (low + high) / 2;
      if (index[middle] < int(i)) low = middle + 1;
      else high = middle;
    }
    slot[i] = low < r && index[low] == int(i) ? int(low) : -1;
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
  int* index;
  Index r;

  LOWRANK_HOST_DEVICE Index size() const { return r; }
  LOWRANK_DEVICE void operator()(Index i) const { index[i] = int(i); }
};

}  // namespace cuda
}  // namespace lowrank
