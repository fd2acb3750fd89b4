// BasisChange: how the coordinates of a new basis relate to those of the old one. A projector says it at a refresh, a
// rule carries its moments over. With R = P^T A, old coordinates become new ones by C = P_new^T P_old (r x r); for an
// index basis C is a partial permutation.
#pragma once

#include <cstdint>  // std::int32_t
#include <limits>   // std::numeric_limits

#include <lowrank/linalg/gemm.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

template <class S>
struct BasisChange {
  enum class Kind { Stay, Reset, Gather, Rotate };
  Kind kind = Kind::Stay;
  const std::int32_t* from = nullptr;  // Gather: new slot i takes old slot from[i], or starts at zero when it is -1
  const S* rotation = nullptr;         // Rotate: C, column-major r x r
};

/// Workspace of a transport: C and C o C packed, two tiles per thread.
template <class S, class K>
struct TransportWork {
  PackedBasis<S, K> rotation, squared;
  S* tiles = nullptr;  // threads x 2 x r x tile_columns
  S* squares = nullptr;
  Index r = 0;

  TransportWork() = default;
  TransportWork(Arena& arena, Index rank, int threads)
      : rotation(arena, rank, rank),
        squared(arena, rank, rank),
        tiles(arena.take<S>(2 * rank * tile_columns * threads)),
        squares(arena.take<S>(rank * rank)),
        r(rank) {}
};

/// Carries moments (r x k, column-major) over to the new coordinates, tile by tile:
///   M <- C M
///   V <- | c2 ((C o C)(V / c2 - M o M / c1^2) + (C M) o (C M) / c1^2) |      (LDAdam, arXiv 2410.16103, eq. 8)
/// c1 = 1 - beta1^s, c2 = 1 - beta2^s after s steps. One of them may be null: without M, V <- (C o C) V. Gather keeps
/// the surviving slots of both. The absolute value removes the rare negative variance. A C that is no contraction (Gaussian)
/// can carry V beyond the scalar: there it stops at the largest number.
template <class S, class K>
void transport(const BasisChange<S>& change, Index k, S* first, S* second, double c1, double c2,
               const TransportWork<S, K>& work, const Team<S, K>& team) {
  using Kind = typename BasisChange<S>::Kind;
  const Index r = work.r, tiles = (k + tile_columns - 1) / tile_columns;
  if (change.kind == Kind::Rotate) {
    work.rotation.pack_up(columns<K, S>(change.rotation, r), team);
    if (second != nullptr) {
      for (Index i = 0; i < r * r; ++i) work.squares[i] = change.rotation[i] * change.rotation[i];
      work.squared.pack_up(columns<K, S>(work.squares, r), team);
    }
  }
  lowrank::detail::for_each(tiles, team.threads(), [&](Index tile, int slot) {
    const Index j0 = tile * tile_columns, w = std::min(tile_columns, k - j0), size = r * w;
    S* moved = work.tiles + slot * 2 * r * tile_columns;
    S* variance = moved + r * tile_columns;
    S* M = first == nullptr ? nullptr : first + j0 * r;
    S* V = second == nullptr ? nullptr : second + j0 * r;
    const auto gather = [&](S* x) {
      for (Index j = 0; j < w; ++j)
        for (Index i = 0; i < r; ++i) moved[i + j * r] = change.from[i] < 0 ? S(0) : x[change.from[i] + j * r];
      std::memcpy(x, moved, std::size_t(size) * sizeof(S));
    };
    const auto multiply = [&](const PackedBasis<S, K>& by, const S* x, S* out) {
      by.lift(x, w, team[slot], [&](Index i0, Index m, Index, Index n, const S* u, Index ld) {
        for (Index j = 0; j < n; ++j) std::memcpy(out + i0 + j * r, u + j * ld, std::size_t(m) * sizeof(S));
      });
    };
    if (change.kind == Kind::Gather) {
      if (M != nullptr) gather(M);
      if (V != nullptr) gather(V);
    } else if (change.kind == Kind::Rotate) {
      if (M == nullptr) {
        multiply(work.squared, V, variance);
        std::memcpy(V, variance, std::size_t(size) * sizeof(S));
        return;
      }
      multiply(work.rotation, M, moved);
      if (V != nullptr) {
        const S a = S(1 / c2), b = S(1 / (c1 * c1)), c = S(c2);
        for (Index i = 0; i < size; ++i) V[i] = a * V[i] - b * (M[i] * M[i]);
        multiply(work.squared, V, variance);
        for (Index i = 0; i < size; ++i) {
          const S x = c * (variance[i] + b * (moved[i] * moved[i]));
          V[i] = !lowrank::detail::is_finite(double(x)) ? std::numeric_limits<S>::max() : x < 0 ? -x : x;
        }
      }
      std::memcpy(M, moved, std::size_t(size) * sizeof(S));
    }
  });
}

}  // namespace linalg
}  // namespace lowrank
