// The Riemannian preconditioner of scaled LoRA (arXiv 2402.02347), applied to the gradients before the optimizer's step:
//
//   dA <- (B^T B + eps I)^-1 dA        dB <- dB (A A^T + eps I)^-1
//
// so that the change B A moves alike however it is split into factors. r x r solves in double, O(r^2 (m + n)).
#pragma once

#include <lowrank/adapter/lora.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

/// X (r x n, column-major) <- (M + eps I)^-1 X for M positive semi-definite, which is overwritten: L L^T in place.
inline void solve_shifted(double* M, Index r, double eps, double* X, Index n) {
  for (Index j = 0; j < r; ++j) {
    for (Index i = j; i < r; ++i) {
      double x = M[i + j * r] + (i == j ? eps : 0.0);
      for (Index p = 0; p < j; ++p) x -= M[i + p * r] * M[j + p * r];
      M[i + j * r] = i == j ? std::sqrt(std::max(x, eps)) : x / M[j + j * r];
    }
  }
  for (Index q = 0; q < n; ++q, X += r) {
    for (Index i = 0; i < r; ++i) {
      for (Index p = 0; p < i; ++p) X[i] -= M[i + p * r] * X[p];
      X[i] /= M[i + i * r];
    }
    for (Index i = r - 1; i >= 0; --i) {
      for (Index p = i + 1; p < r; ++p) X[i] -= M[p + i * r] * X[p];
      X[i] /= M[i + i * r];
    }
  }
}

}  // namespace detail

/// eps: the reference's 1e-2. With B = 0, as at the start, dA = 0 and stays so.
template <class S, class K>
void precondition(Lora<S, K>& lora, Workspace& workspace, double eps = 1e-2) {
  if (!(eps > 0) || !detail::is_finite(eps)) detail::bad_argument("lowrank::precondition", "eps = " + std::to_string(eps), "a positive number");
  Trainable<S>&A = lora.A(), &B = lora.B();
  if (!A.gradient.allocated() || !B.gradient.allocated())
    detail::bad_argument("lowrank::precondition", "gradients that were never made", "a backward pass before, and Train::Both");
  const Index r = lora.rank(), m = lora.rows(), n = lora.cols();
  struct Layout {
    linalg::Product<S, K> product;
    double *left, *right, *wide;
    Layout(Arena& arena, int threads, Index rows, Index cols, Index rank)
        : product(arena, threads, std::max({rows, cols, rank})), left(arena.take<double>(rank * rank)),
          right(arena.take<double>(rank * rank)), wide(arena.take<double>(rank * std::max(rows, cols))) {}
  };
  const Layout room = detail::lay_out<Layout>(workspace, m, n, r);
  const linalg::Factor<S, K> a(linalg::memory(std::as_const(A.value))), b(linalg::memory(std::as_const(B.value)));
  const linalg::Memory<void> left{room.left, Dtype::F64, 1, r}, right{room.right, Dtype::F64, 1, r};
  room.product(r, r, m, b.transposed(), b, left, linalg::Mode::Store);
  room.product(r, r, n, a, a.transposed(), right, linalg::Mode::Store);
  for (Index i = 0; i < r * n; ++i) room.wide[i] = double(A.gradient[i]);
  detail::solve_shifted(room.left, r, eps, room.wide, n);
  for (Index i = 0; i < r * n; ++i) A.gradient[i] = S(room.wide[i]);
  for (Index i = 0; i < m; ++i)
    for (Index k = 0; k < r; ++k) room.wide[k + i * r] = double(B.gradient(i, k));
  detail::solve_shifted(room.right, r, eps, room.wide, m);
  for (Index i = 0; i < m; ++i)
    for (Index k = 0; k < r; ++k) B.gradient(i, k) = S(room.wide[k + i * r]);
}

}  // namespace lowrank
