// First values of factors, by exact formula. Every random one is a function of (seed, stream), element by element in the
// order of memory (column-major), so it is the same on every machine.
//
// Exactly one factor must be other than zero: with both zero neither ever has a gradient.
#pragma once

#include <cmath>  // std::sqrt

#include <lowrank/adapter/adapter.hpp>
#include <lowrank/core/rng.hpp>
#include <lowrank/linalg/orth.hpp>
#include <lowrank/linalg/svd.hpp>

namespace lowrank::inline LOWRANK_ABI {

/// How A and B begin (PEFT's init_lora_weights).
///   Kaiming     A ~ U(+-1/sqrt(n)), B = 0: PEFT's default
///   Gaussian    A ~ N(0, 1/r^2), B = 0
///   Both        A as Kaiming, B ~ U(+-1/sqrt(r)): the change is not zero ("false")
///   Orthogonal  A, B from disjoint rows of a random orthogonal r x r matrix, so B A = 0 though neither is zero; r even
///   Pissa       the r leading singular triplets of W (arXiv 2404.02948), which W then loses
///   Olora       Q and R of W's first r columns (arXiv 2406.01775), which W then loses
enum class Init { Kaiming, Gaussian, Both, Orthogonal, Pissa, Olora };

namespace detail {

/// Uniform on (-bound, bound).
template <class S>
void fill_uniform(Buffer<S>& out, double bound, std::uint64_t seed, std::uint64_t stream) {
  std::array<std::uint32_t, 4> words{};
  for (Index i = 0; i < out.size(); ++i) {
    if (i % 4 == 0) words = random_block(seed, stream, std::uint64_t(i / 4));
    out[i] = S(bound * ((double(words[std::size_t(i % 4)]) + 0.5) * 0x1p-31 - 1));
  }
}
template <class S>
void fill_gaussian(Buffer<S>& out, double deviation, std::uint64_t seed, std::uint64_t stream) {
  fill_normal(out.data(), out.size(), seed, stream, 0);
  for (Index i = 0; i < out.size(); ++i) out[i] = S(double(out[i]) * deviation);
}

/// A = (G_a Q_odd)^T / 10, B = (Q_even^T G_b)^T / 10 with normal G and Q orthogonal: B A = G_b^T Q_even Q_odd^T G_a^T = 0.
template <class S, class K>
void fill_orthogonal(Buffer<S>& A, Buffer<S>& B, std::uint64_t seed, Workspace& workspace) {
  const Index r = A.rows(), half = r / 2;
  if (r % 2 != 0) bad_argument("lowrank::Init::Orthogonal", "rank " + std::to_string(r), "an even rank");
  Buffer<double> Q(r, r), Ga(half, A.cols()), Gb(half, B.rows());
  struct Layout {
    linalg::Product<double, K> product;
    linalg::Orth<double, K> orth;
    Layout(Arena& arena, int threads, Index size, Index rank)
        : product(arena, threads, size), orth(arena, rank, rank) {}
  };
  const Layout room = lay_out<Layout>(workspace, std::max({r, A.cols(), B.rows()}), r);
  fill_gaussian(Q, 1, seed, 2);
  fill_gaussian(Ga, 0.1, seed, 0);
  fill_gaussian(Gb, 0.1, seed, 1);
  room.orth(Q.data(), room.product.team());
  const linalg::Memory<const void> odd{&Q(1, 0), Dtype::F64, 2, r}, even{&Q(0, 0), Dtype::F64, 2, r};
  Buffer<double> rows(half, r);
  const auto spread = [&](const linalg::Memory<const void>& from) {
    for (Index j = 0; j < r; ++j)
      for (Index i = 0; i < half; ++i) rows(i, j) = *from.template at<const double>(i, j);
    return linalg::Factor<double, K>(linalg::memory(std::as_const(rows)));
  };
  room.product(r, A.cols(), half, spread(odd).transposed(), linalg::memory(std::as_const(Ga)), linalg::memory(A), linalg::Mode::Store);
  const auto Gbt = linalg::Factor<double, K>(linalg::memory(std::as_const(Gb))).transposed();
  room.product(B.rows(), r, half, Gbt, spread(even), linalg::memory(B), linalg::Mode::Store);
}

/// W ~ U diag(sigma) V^T cut at r = A.rows():  B = U sqrt(sigma / s), A = sqrt(sigma / s) V^T.
template <class S, class K>
void fill_pissa(const linalg::Memory<const void>& W, double scale, Buffer<S>& A, Buffer<S>& B, Workspace& workspace) {
  const Index m = B.rows(), n = A.cols(), r = A.rows();
  struct Layout {
    linalg::Team<S, K> team;
    linalg::TruncatedSvd<S, K> svd;
    S* right;
    double* sigma;
    Layout(Arena& arena, int threads, Index rows, Index cols, Index rank)
        : team(arena, threads, std::max(rows, cols)), svd(arena, rows, cols, rank, threads),
          right(arena.take<S>(cols * rank)), sigma(arena.take<double>(rank)) {}
  };
  const Layout room = lay_out<Layout>(workspace, m, n, r);
  room.svd(linalg::Factor<S, K>(W), B.data(), room.right, room.sigma, room.team);
  for (Index k = 0; k < r; ++k) {
    const S factor = S(std::sqrt(room.sigma[k] / scale));
    for (Index i = 0; i < m; ++i) B(i, k) *= factor;
    for (Index j = 0; j < n; ++j) A(k, j) = factor * room.right[j + k * n];
  }
}

/// B = an orthonormal basis Q of W's first r columns, A = Q^T W: the first r columns of Q and rows of R in W = Q R.
template <class S, class K>
void fill_olora(const linalg::Memory<const void>& W, Buffer<S>& A, Buffer<S>& B, Workspace& workspace) {
  const Index m = B.rows(), n = A.cols(), r = A.rows();
  struct Layout {
    linalg::Product<S, K> product;
    linalg::Orth<S, K> orth;
    Layout(Arena& arena, int threads, Index rows, Index cols, Index rank)
        : product(arena, threads, std::max(rows, cols)), orth(arena, rows, rank) {}
  };
  const Layout room = lay_out<Layout>(workspace, m, n, r);
  const linalg::Factor<S, K> from(W);
  from.load(0, m, 0, r, B.data(), m);
  room.orth(B.data(), room.product.team());
  room.product(r, n, m, linalg::transposed(linalg::memory(std::as_const(B))), from, linalg::memory(A), linalg::Mode::Store);
}

}  // namespace detail
}  // namespace lowrank
