// The published optimizers as one writes them down in Eigen: the obvious expressions, products with .noalias(), buffers
// kept between steps. What the library is compared with. A weight is m x n in either storage order; the projected side is
// the right one when m >= n, as in the recipes. The basis comes from outside: finding it is another question.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>

#include <bench/support/roofline.hpp>

namespace bench {

constexpr float naive_lr = 1e-3f;

/// Full-rank AdamW.
template <int Order>
struct NaiveAdamW {
  Matrix<Order> M, V;
  int t = 0;

  NaiveAdamW(Index m, Index n) : M(Matrix<Order>::Zero(m, n)), V(M) {}
  void step(Matrix<Order>& W, const Matrix<Order>& G) {
    ++t;
    const float c1 = 1 - std::pow(0.9f, float(t)), c2 = 1 - std::pow(0.999f, float(t));
    M = 0.9f * M + 0.1f * G;
    V = 0.999f * V + 0.001f * G.cwiseAbs2();
    W.array() -= naive_lr * (M.array() / c1) / ((V.array() / c2).sqrt() + 1e-8f);
  }
};

/// Adam on R = G P or P^T G, and what the low-rank optimizers do with it.
template <int Order>
struct NaiveLowRank {
  bool right;
  Matrix<Order> P, M, V, R, N;
  Matrix<Order> S;  // m x n, of those that need the whole gradient
  int t = 0;
  float limited_norm = 0;

  NaiveLowRank(Index m, Index n, Index r, Matrix<Order> basis = {})
      : right(m >= n),
        P(std::move(basis)),
        M(right ? Matrix<Order>::Zero(m, r) : Matrix<Order>::Zero(r, n)),
        V(M), R(M), N(M) {}

  void project(const Matrix<Order>& G) {
    if (right) R.noalias() = G * P;
    else R.noalias() = P.transpose() * G;
  }
  /// Gives the step's size.
  float adam(float eps, bool corrected = false) {
    ++t;
    const float c1 = 1 - std::pow(0.9f, float(t)), c2 = 1 - std::pow(0.999f, float(t));
    M = 0.9f * M + 0.1f * R;
    V = 0.999f * V + 0.001f * R.cwiseAbs2();
    N = M.array() / (V.array().sqrt() + (corrected ? eps * std::sqrt(c2) : eps));
    return naive_lr * std::sqrt(c2) / c1;
  }
  void lift(Matrix<Order>& W, float step) {
    if (right) W.noalias() -= step * N * P.transpose();
    else W.noalias() -= step * P * N;
  }
  /// S = X diag(||N_j|| / ||R_j||), by rows on the right; X may be S.
  void scale_channels(const Matrix<Order>& X) {
    if (right) {
      const Eigen::VectorXf phi = N.rowwise().norm().array() / (R.rowwise().norm().array() + 1e-8f);
      S = phi.asDiagonal() * X;
    } else {
      const Eigen::RowVectorXf phi = N.colwise().norm().array() / (R.colwise().norm().array() + 1e-8f);
      S = X * phi.asDiagonal();
    }
  }
  float limit() {
    const float norm = S.norm();
    const float c = limited_norm == 0 ? 1.0f : std::max(norm / (limited_norm + 1e-8f), 1.01f) / 1.01f;
    limited_norm = norm / c;
    return c;
  }

  void galore(Matrix<Order>& W, const Matrix<Order>& G) {
    project(G);
    const float step = adam(1e-6f);
    lift(W, 0.25f * step);
  }
  void fira(Matrix<Order>& W, const Matrix<Order>& G) {
    project(G);
    const float step = adam(1e-6f);
    S = G;
    if (right) S.noalias() -= 0.25f * R * P.transpose();
    else S.noalias() -= 0.25f * P * R;
    scale_channels(S);
    const float c = limit();
    lift(W, 0.25f * step);
    W -= step / c * S;
  }
  void apollo(Matrix<Order>& W, const Matrix<Order>& G) {
    project(G);
    const float step = adam(1e-6f);
    scale_channels(G);
    W -= step / limit() * S;
  }
  void apollo_mini(Matrix<Order>& W, const Matrix<Order>& G) {
    project(G);
    const float step = adam(1e-6f);
    S = N.norm() / (R.norm() + 1e-8f) * G;
    W -= std::sqrt(128.0f) * step / limit() * S;
  }
};

/// The orthonormal DCT-II as a matrix: row k, column j is s_k cos(pi k (2j+1) / 2n).
template <int Order>
Matrix<Order> cosine_matrix(Index n) {
  Matrix<Order> C(n, n);
  std::vector<float> cosine(std::size_t(4 * n));
  for (Index i = 0; i < 4 * n; ++i)
    cosine[std::size_t(i)] = float(std::sqrt(2 / double(n)) * std::cos(std::acos(-1.0) * double(i) / double(2 * n)));
  for (Index k = 0; k < n; ++k)
    for (Index j = 0; j < n; ++j) C(k, j) = cosine[std::size_t(k * (2 * j + 1) % (4 * n))] * (k == 0 ? std::sqrt(0.5f) : 1);
  return C;
}

/// DCT-AdamW, the coefficients by a product with the cosine matrix, their choice anew every step.
template <int Order>
struct NaiveDctAdamW : NaiveLowRank<Order> {
  using Base = NaiveLowRank<Order>;
  Matrix<Order> C, old_M, old_V;
  std::vector<Index> chosen, candidate, order, slot;

  NaiveDctAdamW(Index m, Index n, Index r)
      : Base(m, n, r), C(cosine_matrix<Order>(std::min(m, n))), old_M(this->M), old_V(this->M) {
    this->S.resize(m, n);
    this->P.resize(std::min(m, n), r);
    candidate.resize(std::size_t(r));
    order.resize(std::size_t(std::min(m, n)));
  }
  void step(Matrix<Order>& W, const Matrix<Order>& G) {
    auto& X = this->S;
    if (this->right) X.noalias() = G * C.transpose();
    else X.noalias() = C * G;
    const Eigen::VectorXf score =
        this->right ? Eigen::VectorXf(X.cwiseAbs().colwise().sum().transpose()) : Eigen::VectorXf(X.cwiseAbs().rowwise().sum());
    std::iota(order.begin(), order.end(), Index(0));
    const auto rank = std::ptrdiff_t(candidate.size());
    std::nth_element(order.begin(), order.begin() + rank - 1, order.end(), [&](Index a, Index b) { return score[a] > score[b]; });
    std::copy_n(order.begin(), rank, candidate.begin());
    std::sort(candidate.begin(), candidate.end());
    if (!chosen.empty()) keep_moments();
    chosen = candidate;
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      if (this->right) this->R.col(Index(i)) = X.col(chosen[i]);
      else this->R.row(Index(i)) = X.row(chosen[i]);
      this->P.col(Index(i)) = C.row(chosen[i]).transpose();
    }
    this->lift(W, this->adam(1e-8f, true));
  }

 private:
  /// Coefficients that stay chosen keep their moments.
  void keep_moments() {
    slot.assign(order.size(), -1);
    for (std::size_t i = 0; i < chosen.size(); ++i) slot[std::size_t(chosen[i])] = Index(i);
    old_M.swap(this->M);
    old_V.swap(this->V);
    this->M.setZero();
    this->V.setZero();
    for (std::size_t i = 0; i < candidate.size(); ++i) {
      const Index from = slot[std::size_t(candidate[i])], to = Index(i);
      if (from < 0) continue;
      if (this->right) this->M.col(to) = old_M.col(from), this->V.col(to) = old_V.col(from);
      else this->M.row(to) = old_M.row(from), this->V.row(to) = old_V.row(from);
    }
  }
};

}  // namespace bench
