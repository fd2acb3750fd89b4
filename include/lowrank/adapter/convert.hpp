// Conversions between adapters, exact unless a rank is cut:
//
//   sum({{&a, 1}, {&b, 0.5}})             one LoRA whose change is that of all: the factors side by side
//   compress(lora, r)                     the nearest change of rank r, from the factors alone: O((m + n) r^2)
//   to_lora(D, r)                         of any m x n change
//   portable(lora, first)                 a PiSSA or OLoRA adapter as plain LoRA on the weight as it was before
//
// All give s = 1 (alpha = rank). DoRA and RandLoRA are not low-rank: they convert by merging (merge.hpp).
#pragma once

#include <initializer_list>  // std::initializer_list

#include <lowrank/adapter/lora.hpp>

namespace lowrank::inline LOWRANK_ABI {

/// One term of a sum of changes.
template <class S, class K = kernel::Best>
struct Term {
  const Lora<S, K>* lora;
  double weight = 1;
};

/// A' = [A_1; A_2; ..], B' = [w_1 s_1 B_1, w_2 s_2 B_2, ..].
template <class S, class K = kernel::Best>
Lora<S, K> sum(std::initializer_list<Term<S, K>> terms) {
  const char* who = "lowrank::sum";
  Index rank = 0;
  for (const Term<S, K>& t : terms) {
    const Lora<S, K>& first = *terms.begin()->lora;
    if (t.lora->rows() != first.rows() || t.lora->cols() != first.cols())
      detail::bad_shape(who, t.lora->rows(), t.lora->cols(), first.rows(), first.cols());
    rank += t.lora->rank();
  }
  if (rank == 0) detail::bad_argument(who, "no adapters", "at least one");
  Lora<S, K> made(terms.begin()->lora->rows(), terms.begin()->lora->cols(), {.rank = rank, .alpha = double(rank)});
  Index at = 0;
  for (const Term<S, K>& t : terms) {
    const auto &A = t.lora->A().value, &B = t.lora->B().value;
    for (Index k = 0; k < A.rows(); ++k) {
      for (Index j = 0; j < A.cols(); ++j) made.A().value(at + k, j) = A(k, j);
      for (Index i = 0; i < B.rows(); ++i) made.B().value(i, at + k) = S(t.weight * t.lora->scale() * double(B(i, k)));
    }
    at += A.rows();
  }
  return made;
}

/// What Init::Pissa or Olora trained, for the weight that it began from: first is the adapter as initialize() left it.
template <class S, class K>
Lora<S, K> portable(const Lora<S, K>& lora, const Lora<S, K>& first) {
  return sum<S, K>({{&lora, 1}, {&first, -1}});
}

/// B = U_r sqrt(sigma), A = sqrt(sigma) V_r^T of D.
template <class S, class K = kernel::Best, class M>
Lora<S, K> to_lora(const M& D, Index rank, Workspace& workspace) {
  const auto d = lowrank::view(D);
  detail::check_weight_shape("lowrank::to_lora", d.rows, d.cols);
  if (rank < 1 || rank > std::min(d.rows, d.cols))
    detail::bad_argument("lowrank::to_lora", "rank " + std::to_string(rank), "a rank from 1 to " + std::to_string(std::min(d.rows, d.cols)));
  Lora<S, K> made(d.rows, d.cols, {.rank = rank, .alpha = double(rank)});
  detail::fill_pissa<S, K>(linalg::memory(View<const typename decltype(d)::Scalar>(d)), 1, made.A().value, made.B().value, workspace);
  return made;
}

/// s B A = Q_B (s Q_B^T B A Q_A) Q_A^T, and with U sigma V^T of what is in brackets the SVD of the change is (Q_B U) sigma (Q_A V)^T.
template <class S, class K>
Lora<S, K> compress(const Lora<S, K>& lora, Index rank, Workspace& workspace) {
  const Index m = lora.rows(), n = lora.cols(), r = lora.rank();
  if (r > std::min(m, n) || rank < 1 || rank > r)
    detail::bad_argument("lowrank::compress", "rank " + std::to_string(rank) + " of " + std::to_string(r),
                         "1 <= rank <= the adapter's, which is at most " + std::to_string(std::min(m, n)));
  struct Layout {
    linalg::Product<S, K> product;
    linalg::Orth<S, K> left, right;
    S *QB, *QA, *half, *core;
    Layout(Arena& arena, int threads, Index rows, Index cols, Index inner)
        : product(arena, threads, std::max({rows, cols, inner})), left(arena, rows, inner), right(arena, cols, inner),
          QB(arena.take<S>(rows * inner)), QA(arena.take<S>(cols * inner)), half(arena.take<S>(inner * inner)),
          core(arena.take<S>(inner * inner)) {}
  };
  const Layout room = detail::lay_out<Layout>(workspace, m, n, r);
  const linalg::Factor<S, K> A(linalg::memory(lora.A().value)), B(linalg::memory(lora.B().value));
  B.load(0, m, 0, r, room.QB, m);
  A.transposed().load(0, n, 0, r, room.QA, n);
  room.left(room.QB, room.product.team());
  room.right(room.QA, room.product.team());
  // core = s (Q_B^T B) (A Q_A)
  const linalg::Factor<S, K> QB(linalg::memory(room.QB, m)), QA(linalg::memory(room.QA, n));
  Buffer<S> inner(r, r);
  room.product(r, r, m, QB.transposed(), B, linalg::memory(room.half, r), linalg::Mode::Store);
  room.product(r, r, n, A, QA, linalg::memory(room.core, r), linalg::Mode::Store);
  room.product(r, r, r, linalg::memory(room.half, r), linalg::memory(room.core, r), linalg::memory(inner), linalg::Mode::Store, lora.scale());

  Workspace own;  // the layout above is still in use
  const View<const S> small{inner.data(), r, r, 1, r};
  const Lora<S, K> core = to_lora<S, K>(small, rank, own);
  Lora<S, K> made(m, n, {.rank = rank, .alpha = double(rank)});
  room.product(m, rank, r, QB, linalg::memory(core.B().value), linalg::memory(made.B().value), linalg::Mode::Store);
  room.product(rank, n, r, linalg::memory(core.A().value), QA.transposed(), linalg::memory(made.A().value), linalg::Mode::Store);
  return made;
}

/// The least rank whose singular values hold at least `share` of the sum of squares.
inline Index rank_for(std::span<const double> sigma, double share) {
  if (!(share >= 0 && share <= 1)) detail::bad_argument("lowrank::rank_for", "share = " + std::to_string(share), "a number in [0, 1]");
  double all = 0, held = 0;
  for (const double s : sigma) all += s * s;
  Index rank = 0;
  while (rank < Index(sigma.size()) && held < share * all) {
    const double s = sigma[std::size_t(rank++)];
    held += s * s;
  }
  return rank;
}

}  // namespace lowrank
