// Rich or lazy: how far a network's features moved from where they began (Liu, Baratin, Cornford, Mihalas, Shea-Brown,
// Lajoie: arXiv 2310.08513), and which frequencies the weights of a modular task use (Nanda et al.: arXiv 2301.05217).
//
//   representation kernel  K = H^T H of hidden states H (features x samples)
//   tangent kernel         K[(b,c),(b',c')] = <grad_theta f_c(x_b), grad_theta f_c'(x_b')>
//   alignment              <K, K_0> / (|K| |K_0|): lower is richer
#pragma once

#include <functional>  // std::greater
#include <numbers>     // std::numbers::pi

#include <lowrank/jacobian/mlp.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace jacobian {

/// <A, B> / (|A| |B|), 0 where one of them is 0.
template <class A, class B>
double kernel_alignment(const A& a, const B& b) {
  detail::check_batch("lowrank::jacobian::kernel_alignment", a.rows(), a.cols(), b.rows(), b.cols());
  const auto x = a.template cast<double>();
  const auto y = b.template cast<double>();
  const double lengths = x.norm() * y.norm();
  return lengths > 0 ? x.cwiseProduct(y).sum() / lengths : 0;
}

/// The hidden states h_l of the last forward, n_l x B, l = 1..L-1; l = 0 is the input.
template <class S, class K>
ConstBatch<S> hidden_states(const MlpCache<S, K>& cache, Index l) {
  if (l < 0 || l >= Index(cache.stages.size()))
    lowrank::detail::bad_argument("lowrank::jacobian::hidden_states", "layer " + std::to_string(l),
                                  "0 to " + std::to_string(cache.stages.size() - 1));
  const auto& input = cache.stages[std::size_t(l)].input;
  return batch(input.data(), input.rows(), cache.size);
}

/// Fraction of entries with equal sign (both positive or both not).
template <class A, class B>
double sign_similarity(const A& a, const B& b) {
  detail::check_batch("lowrank::jacobian::sign_similarity", a.rows(), a.cols(), b.rows(), b.cols());
  Index equal = 0;
  for (Index j = 0; j < a.cols(); ++j)
    for (Index i = 0; i < a.rows(); ++i) equal += (a(i, j) > 0) == (b(i, j) > 0);
  return a.size() > 0 ? double(equal) / double(a.size()) : 0;
}

namespace detail {

/// A^T A, in the library's own products.
template <class K, class S>
Matrix<S> gram(const S* A, Index rows, Index cols) {
  Arena count;
  const Index largest = std::max<Index>({rows, cols, 1});
  const int threads = lowrank::detail::available_threads();
  (void)linalg::Team<S, K>(count, threads, largest);
  Buffer<std::byte> memory(Index(count.used()), 1);
  Arena arena(memory);
  const linalg::Team<S, K> team(arena, threads, largest);
  Matrix<S> G(cols, cols);
  linalg::gemm<K>(cols, cols, rows, linalg::transposed<K>(A, rows), linalg::columns<K>(A, rows), G.data(), cols, team);
  return G;
}

}  // namespace detail

template <class S>
Matrix<S> representation_kernel(const ConstBatch<S>& H) {
  const Matrix<S> copy = H;
  return detail::gram<kernel::Best>(copy.data(), copy.rows(), copy.cols());
}

/// The tangent kernel of the last forward, (C B) x (C B) with (b, c) at c + C b, without forming a parameter gradient:
/// a dense layer contributes <u, u'> (<h, h'> + 1[bias]), u its cotangent for output c. O((C B)^2 sum_l n_l).
template <class S, class K>
Matrix<S> tangent_kernel(const Mlp<S, K>& net, MlpCache<S, K>& cache) {
  const Index C = net.output_dim(), B = cache.size, L = net.depth();
  std::vector<Matrix<S>> u, s;
  for (const Layer<S>& k : net.layers()) u.emplace_back(k.outputs(), C * B), s.emplace_back(k.rank(), C * B);
  Matrix<S> V(C, B), Q(net.input_dim(), B);
  for (Index c = 0; c < C; ++c) {
    V.setZero();
    V.row(c).setOnes();
    net.vjp(cache, batch(std::as_const(V)), batch(Q));
    for (Index l = 0; l < L; ++l) {
      const auto& stage = cache.stages[std::size_t(l)];
      for (Index b = 0; b < B; ++b) {
        std::copy_n(stage.u.column(b), stage.u.rows(), &u[std::size_t(l)](0, c + C * b));
        if (stage.s.size() > 0) std::copy_n(stage.s.column(b), stage.s.rows(), &s[std::size_t(l)](0, c + C * b));
      }
    }
  }
  Matrix<S> kernel = Matrix<S>::Zero(C * B, C * B);
  const auto add = [&](const Matrix<S>& outputs, const Matrix<S>& inputs, S bias) {
    for (Index j = 0; j < C * B; ++j)
      for (Index i = 0; i < C * B; ++i) kernel(i, j) += outputs(i, j) * (inputs(i / C, j / C) + bias);
  };
  for (Index l = 0; l < L; ++l) {
    const Layer<S>& k = net.layers()[std::size_t(l)];
    const auto& stage = cache.stages[std::size_t(l)];
    const Matrix<S> uu = detail::gram<K>(u[std::size_t(l)].data(), k.outputs(), C * B);
    const Matrix<S> hh = detail::gram<K>(stage.input.data(), k.inputs(), B);
    const S bias = k.bias.size() > 0 ? S(1) : S(0);
    if (!k.low_rank()) {
      add(uu, hh, bias);
      continue;
    }
    // dU = u (V^T h)^T, dV = h (U^T u)^T, db = u
    add(uu, detail::gram<K>(stage.t.data(), k.rank(), B), bias);
    add(detail::gram<K>(s[std::size_t(l)].data(), k.rank(), C * B), hh, S(0));
  }
  return kernel;
}

/// Power of each frequency 0 .. p/2 along the columns of W (features x p, one column a residue mod p), summed over
/// features; the powers add up to |W|_F^2.
template <class S>
Vector<double> fourier_power(const Matrix<S>& W) {
  const Index p = W.cols();
  Vector<double> power = Vector<double>::Zero(p / 2 + 1);
  for (Index k = 0; k <= p / 2; ++k)
    for (Index i = 0; i < W.rows(); ++i) {
      double re = 0, im = 0;
      for (Index j = 0; j < p; ++j) {
        const double angle = 2 * std::numbers::pi * double(j * k % p) / double(p);
        re += double(W(i, j)) * std::cos(angle);
        im += double(W(i, j)) * std::sin(angle);
      }
      const bool alone = k == 0 || 2 * k == p;  // the other frequencies come with their conjugate
      power[k] += (alone ? 1 : 2) * (re * re + im * im) / double(p);
    }
  return power;
}

/// Share of the power beyond frequency 0 that the `count` strongest frequencies have; 0 where there is none.
inline double fourier_sparsity(const Vector<double>& power, Index count) {
  std::vector<double> rest(power.begin() + std::min<Index>(1, power.size()), power.end());
  std::sort(rest.begin(), rest.end(), std::greater<>());
  double all = 0, top = 0;
  for (std::size_t i = 0; i < rest.size(); ++i) {
    all += rest[i];
    if (Index(i) < count) top += rest[i];
  }
  return all > 0 ? top / all : 0;
}

}  // namespace jacobian
}  // namespace lowrank
