// BasisChange: how the coordinates of a new basis relate to those of the old one. A projector says it at a refresh, a
// rule carries its moments over. With R = P^T A, old coordinates become new ones by C = P_new^T P_old (r x r); for an
// index basis C is a partial permutation.
#pragma once

#include <cstdint>  // std::int32_t
#include <limits>   // std::numeric_limits

#include <lowrank/linalg/packed_basis.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

template <class S>
struct BasisChange {
  enum class Kind { Stay, Reset, Gather, Rotate };
  Kind kind = Kind::Stay;
  const std::int32_t* from = nullptr;  // Gather: new slot i takes old slot from[i], or starts at zero when it is -1
  const S* rotation = nullptr;         // Rotate: C, column-major r x r
};

/// Workspace of a transport: C and C o C packed; four tiles per thread, the last two for moments that are not kept as S.
template <class S, class K>
struct TransportWork {
  PackedBasis<S, K> rotation, squared;
  S* tiles = nullptr;  // threads x 4 x r x tile_columns
  S* squares = nullptr;
  Index r = 0;

  TransportWork() = default;
  TransportWork(Arena& arena, Index rank, int threads)
      : rotation(arena, rank, rank),
        squared(arena, rank, rank),
        tiles(arena.take<S>(4 * rank * tile_columns * threads)),
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
class MomentTransport {
  using Kind = typename BasisChange<S>::Kind;

 public:
  MomentTransport(const BasisChange<S>& change, bool first, bool second, double c1, double c2,
                  const TransportWork<S, K>& work, const Team<S, K>& team)
      : change_(change), work_(work), team_(team), a_(S(1 / c2)), b_(S(1 / (c1 * c1))), c_(S(c2)) {
    if (change.kind != Kind::Rotate) return;
    const Index r = work.r;
    if (first) work.rotation.pack_up(columns<K, S>(change.rotation, r), team);
    if (!second) return;
    for (Index i = 0; i < r * r; ++i) work.squares[i] = change.rotation[i] * change.rotation[i];
    work.squared.pack_up(columns<K, S>(work.squares, r), team);
  }

  /// w columns of M and V, r x w each, in place.
  void operator()(S* M, S* V, Index w, int slot) const {
    const Index r = work_.r, size = r * w;
    S* moved = work_.tiles + slot * 4 * r * tile_columns;
    S* variance = moved + r * tile_columns;
    if (change_.kind == Kind::Gather) {
      for (S* x : {M, V}) {
        if (x == nullptr) continue;
        for (Index j = 0; j < w; ++j)
          for (Index i = 0; i < r; ++i) moved[i + j * r] = change_.from[i] < 0 ? S(0) : x[change_.from[i] + j * r];
        std::memcpy(x, moved, std::size_t(size) * sizeof(S));
      }
      return;
    }
    if (change_.kind != Kind::Rotate) return;
    if (M == nullptr) {
      multiply(work_.squared, V, w, slot, variance);
      std::memcpy(V, variance, std::size_t(size) * sizeof(S));
      return;
    }
    multiply(work_.rotation, M, w, slot, moved);
    if (V != nullptr) {
      for (Index i = 0; i < size; ++i) V[i] = a_ * V[i] - b_ * (M[i] * M[i]);
      multiply(work_.squared, V, w, slot, variance);
      for (Index i = 0; i < size; ++i) {
        const S x = c_ * (variance[i] + b_ * (moved[i] * moved[i]));
        V[i] = !lowrank::detail::is_finite(double(x)) ? std::numeric_limits<S>::max() : x < 0 ? -x : x;
      }
    }
    std::memcpy(M, moved, std::size_t(size) * sizeof(S));
  }

 private:
  void multiply(const PackedBasis<S, K>& by, const S* x, Index w, int slot, S* out) const {
    const Index r = work_.r;
    by.lift(x, w, team_[slot], [&](Index i0, Index m, Index, Index n, const S* u, Index ld) {
      for (Index j = 0; j < n; ++j) std::memcpy(out + i0 + j * r, u + j * ld, std::size_t(m) * sizeof(S));
    });
  }

  const BasisChange<S>& change_;
  const TransportWork<S, K>& work_;
  const Team<S, K>& team_;
  S a_, b_, c_;
};

/// Of whole moments with k columns, over tiles.
template <class S, class K>
void transport(const BasisChange<S>& change, Index k, S* first, S* second, double c1, double c2,
               const TransportWork<S, K>& work, const Team<S, K>& team) {
  const MomentTransport<S, K> move(change, first != nullptr, second != nullptr, c1, c2, work, team);
  const Index r = work.r;
  lowrank::detail::for_each((k + tile_columns - 1) / tile_columns, team.threads(), [&](Index tile, int slot) {
    const Index at = tile * tile_columns * r;
    move(first == nullptr ? nullptr : first + at, second == nullptr ? nullptr : second + at,
         std::min(tile_columns, k - tile * tile_columns), slot);
  });
}

}  // namespace linalg
}  // namespace lowrank
