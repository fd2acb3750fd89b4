// Phase 5 of a step: W_J <- after (before W_J - move (P coef_J + A_J diag(phi_J))), move = lr gain, in one of two forms to the
// same bits. Where W, and A if the lift adds it, lie in the computing scalar and the same order, a dense projector moves W in the
// registers that hold P coef (PackedBasis::update). Otherwise, and for what is not a product (transforms, error feedback,
// remainders), the projector hands over blocks of U and W is moved by them.
#pragma once

#include <algorithm>  // std::clamp, std::min

#include <lowrank/linalg/packed_basis.hpp>
#include <lowrank/linalg/store.hpp>
#include <lowrank/optimizer/pieces.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

/// W block <- after (before W - move U); `block` is room for m x n.
template <class S, class K>
void write_block(const linalg::Memory<void>& w, const linalg::RoundingKey& key, Index i0, Index m, Index j0, Index n,
                 const S* U, Index ld, S* block, double move, const Decay& decay) {
  if (w.dtype == DtypeOf<S>::value && w.row_stride == 1) {
    for (Index j = 0; j < n; ++j)
      K::update(m, w.template at<S>(i0, j0 + j), U + j * ld, move, decay.before, decay.after);
    return;
  }
  if (w.dtype == DtypeOf<S>::value && w.col_stride == 1) {
    // a few rows at a time, which the first cache level holds while they are turned and used; the next ones of W, pages apart, are fetched
    constexpr Index strip = K::template lanes<S>;
    for (Index i = 0; i < m; i += strip) {
      const Index rows = std::min(strip, m - i), next = std::clamp<Index>(m - i - strip, 0, strip);
      K::transpose(rows, n, U + i, ld, block, n, kernel::Ahead<kernel::Access::Write>(w.template at<S>(i0 + i + strip, j0), n, next, w.row_stride));
      for (Index q = 0; q < rows; ++q)
        K::update(n, w.template at<S>(i0 + i + q, j0), block + q * n, move, decay.before, decay.after);
    }
    return;
  }
  linalg::load_block<K>(w, i0, m, j0, n, block, m);
  for (Index j = 0; j < n; ++j) K::update(m, block + j * m, U + j * ld, move, decay.before, decay.after);
  linalg::store_block<K>(block, m, w, i0, m, j0, n, key);
}

/// A block of A = scale G: where it lies, or loaded into `room`.
template <class S, class K>
linalg::Strided<S, K> gradient_block(const linalg::Source<S, K>& a, Index i0, Index m, Index j0, Index n, S* room) {
  const auto there = a.gradient_in_place(i0, j0);
  if (there.data != nullptr && there.row_stride == 1) return there;
  a.load_gradient(i0, m, j0, n, room, m);
  return {room, 1, m};
}

template <class S, class Projector, class Rule, class Lift, class K>
class WeightWriter {
  using Source = linalg::Source<S, K>;
  using Team = linalg::Team<S, K>;
  using Pieces = StepPieces<S, Projector, Rule, Lift, K>;

  static constexpr Index tile = linalg::tile_columns;

 public:
  /// A projector that can move W itself, and a lift that adds nothing to P N but the gradient.
  static constexpr bool moves_weight = Lift::uses_projection && !Lift::keeps_error && !UsesRemainder<Lift> &&
      requires(const Projector& p, const typename Projector::Work& work, const Team& team) { p.updates(linalg::Order::Columns, work, team); };

  WeightWriter(Projector& projector, Lift& lift, Pieces& pieces, Index d, Index k)
      : projector_(projector), lift_(lift), p_(pieces), d_(d), k_(k) {}

  /// What is moved, and along what; A is d x k.
  void aim(const linalg::Memory<void>& w, const Source& a, const linalg::RoundingKey& key) { w_ = w, a_ = a, key_ = key; }
  /// How far: once the rule has advanced.
  void move_by(double lr, double gain, const Decay& decay) { move_ = lr * gain, gain_ = gain, decay_ = decay; }

  /// The projector moves W where it is, if it can and W (and the gradient the lift adds) lie for it; otherwise it gives blocks.
  void prepare() {
    auto& work = p_.projection;
    if constexpr (moves_weight) {
      direct_ = weight_in_place();
      direct_ = direct_ && projector_.updates(in_place_.order, work, p_.team);
      if (direct_) return projector_.prepare_update(in_place_.order, work, p_.team);
    }
    projector_.prepare_lift(work, p_.team);
  }
  /// W is moved where it is, and lies in rows.
  bool by_rows() const { return direct_ && in_place_.order == linalg::Order::Rows; }

  /// Columns [j0, j0 + w); R and N of these columns.
  void write(Index j0, Index w, const S* R, S* N, int slot) {
    const auto scratch = p_.team[slot];
    S* phi = Lift::uses_gradient ? p_.phi + j0 : nullptr;
    if constexpr (Lift::uses_projection) {
      lift_.coefficients(projector_.core_rows(), w, R, N, phi);
      if constexpr (moves_weight) {
        if (direct_) return projector_.update(N, j0, w, slot, p_.projection, p_.team, in_place_);
      }
      [[maybe_unused]] S* rest = UsesRemainder<Lift> ? p_.remainder + slot * d_ * tile : nullptr;
      if constexpr (UsesRemainder<Lift>) {
        projector_.lift(R, j0, w, slot, p_.projection, p_.team, [&](Index i0, Index m, Index j, Index n, const S* U, Index ld) {
          a_.load_gradient(i0, m, j0 + j, n, scratch.stage, m);
          for (Index q = 0; q < n; ++q)
            lift_.remain(m, scratch.stage + q * m, U + q * ld, rest + i0 + (j + q) * d_, gain_);
        });
      }
      projector_.lift(N, j0, w, slot, p_.projection, p_.team, [&](Index i0, Index m, Index j, Index n, S* U, Index ld) {
        if constexpr (Lift::uses_gradient) {
          const auto A = gradient_block(a_, i0, m, j0 + j, n, scratch.stage);
          for (Index q = 0; q < n; ++q)
            K::combine(m, double(phi[j + q]), A.data + q * A.col_stride, 1.0, U + q * ld, U + q * ld);
        }
        if constexpr (UsesRemainder<Lift>)
          for (Index q = 0; q < n; ++q) K::combine(m, 1.0, rest + i0 + (j + q) * d_, 1.0, U + q * ld, U + q * ld);
        write_block(i0, m, j0 + j, n, U, ld, scratch.stage);
      });
    } else {
      for (Index i0 = 0; i0 < d_; i0 += linalg::block_rows) {
        const Index m = std::min(linalg::block_rows, d_ - i0);
        S* U = scratch.rows;
        a_.load_gradient(i0, m, j0, w, U, m);
        for (Index q = 0; q < w; ++q) K::combine(m, double(phi[q]), U + q * m, 0.0, U + q * m, U + q * m);
        write_block(i0, m, j0, w, U, m, scratch.stage);
      }
    }
  }

  /// Where only the gradient moves the weight, tiles are no use: whole columns or rows, where both lie that way and in the
  /// computing scalar. False otherwise.
  bool move_along_gradient() {
    if (!weight_in_place()) return false;
    constexpr Index piece = 16384;
    const bool rows = in_place_.order == linalg::Order::Rows;
    const Index length = rows ? k_ : d_, count = rows ? d_ : k_, at_once = std::clamp<Index>(piece / length, 1, count);
    for_each((count + at_once - 1) / at_once, p_.team.threads(), [&](Index b, int) {
      for (Index i = b * at_once; i < std::min(count, (b + 1) * at_once); ++i)
        K::move(length, static_cast<const S*>(nullptr), rows ? in_place_.at(i, 0) : in_place_.at(0, i), in_place_.motion);
    });
    return true;
  }

  bool by_columns() const { return w_.row_stride == 1; }
  /// Fetches a block of W where it lies in the computing scalar, and nothing otherwise.
  kernel::Ahead<kernel::Access::Write> ahead(Index i0, Index m, Index j0, Index n) const {
    if (w_.dtype != DtypeOf<S>::value) return {};
    if (w_.row_stride != 1) return {w_.template at<S>(i0, j0), n, m, w_.row_stride};
    return {w_.template at<S>(i0, j0), m, n, w_.col_stride};
  }
  /// W(i0.., j0..) moved by a block of U that is already made; `room` for m x n.
  void write_block(Index i0, Index m, Index j0, Index n, const S* U, Index ld, S* room) {
    detail::write_block<S, K>(w_, key_, i0, m, j0, n, U, ld, room, move_, decay_);
  }

 private:
  /// W, and the gradient if the lift moves W along it, in the computing scalar and the same order: how to update in place.
  bool weight_in_place() {
    const auto& g = a_.gradient;
    if (w_.dtype != DtypeOf<S>::value) return false;
    const bool columns = w_.row_stride == 1;
    if (Lift::uses_gradient && (g.dtype != w_.dtype || (columns ? g.row_stride : g.col_stride) != 1)) return false;
    in_place_ = {w_.template at<S>(0, 0), columns ? w_.col_stride : w_.row_stride};
    if (Lift::uses_gradient) {
      in_place_.g = g.template at<S>(0, 0);
      in_place_.ldg = columns ? g.col_stride : g.row_stride;
      in_place_.phi = p_.phi;
    }
    in_place_.order = columns ? linalg::Order::Columns : linalg::Order::Rows;
    in_place_.motion = {S(move_), S(decay_.before), S(decay_.after), S(a_.scale)};
    return true;
  }

  Projector& projector_;
  Lift& lift_;
  Pieces& p_;
  Index d_, k_;
  linalg::Memory<void> w_;
  Source a_;
  linalg::RoundingKey key_;
  double move_ = 0, gain_ = 1;
  Decay decay_;
  bool direct_ = false;  // W is moved through in_place_
  linalg::WeightUpdate<S, Lift::uses_gradient> in_place_;
};

}  // namespace detail
}  // namespace lowrank
