// Causal attention of one head over one window of T tokens, forward and backward.
//
// Q, K, V, O are h x T blocks of larger activations, one token a column. The probabilities are P (T keys x T queries,
// column-major, column t = softmax over the keys s <= t of q_t . k_s / sqrt(h)), kept for the way back. Queries are
// taken in blocks: the keys after a block are never touched, which saves a quarter to a half of the products.
#pragma once

#include <algorithm>  // std::min
#include <cmath>      // std::sqrt

#include "examples/pretrain/layers.hpp"

namespace pretrain {

/// Queries per block: small enough to skip most of the masked half, large enough for the matrix product.
inline constexpr Index query_block = 64;

/// O = V P. Fills the columns of P down to the last key of their block (zero where masked) and nothing below.
template <class S>
void attend(const Block<S>& q, const Block<S>& k, const Block<S>& v, Eigen::Map<Matrix<S>> p,
            Block<S> o) {
  const S scale = S(1) / std::sqrt(S(q.rows()));
  for (Index first = 0; first < q.cols(); first += query_block) {
    const Index n = std::min(query_block, q.cols() - first), keys = first + n;
    auto scores = p.block(0, first, keys, n);
    scores.noalias() = k.leftCols(keys).transpose() * q.middleCols(first, n);
    for (Index j = 0; j < n; ++j) {
      const Index seen = first + j + 1;
      auto column = scores.col(j).array();
      const S top = column.head(seen).maxCoeff();
      column = (scale * (column - top)).exp();
      column.tail(keys - seen).setZero();
      column *= S(1) / column.sum();
    }
    o.middleCols(first, n).noalias() = v.leftCols(keys) * scores;
  }
}

/// dV = dO P^T; with dP = V^T dO and dS = P (dP - colsum(P dP)) / sqrt(h): dQ = K dS, dK = Q dS^T.
/// ds: scratch of T x query_block. dQ, dK and dV are overwritten.
template <class S>
void attend_backward(const Block<S>& q, const Block<S>& k, const Block<S>& v,
                     const Eigen::Map<Matrix<S>>& p, const Block<S>& d_o, Matrix<S>& ds, Block<S> dq,
                     Block<S> dk, Block<S> dv) {
  const S scale = S(1) / std::sqrt(S(q.rows()));
  // the last block first: it reaches every key, so that it can set what the others add to
  const Index blocks = (q.cols() + query_block - 1) / query_block;
  for (Index b = blocks - 1; b >= 0; --b) {
    const Index first = b * query_block, n = std::min(query_block, q.cols() - first), keys = first + n;
    const auto probs = p.block(0, first, keys, n);
    const auto d_ob = d_o.middleCols(first, n);
    auto dsb = ds.topLeftCorner(keys, n);
    dsb.noalias() = v.leftCols(keys).transpose() * d_ob;
    for (Index j = 0; j < n; ++j) {
      const S mean = probs.col(j).dot(dsb.col(j));
      dsb.col(j).array() = scale * probs.col(j).array() * (dsb.col(j).array() - mean);
    }
    dq.middleCols(first, n).noalias() = k.leftCols(keys) * dsb;
    if (b == blocks - 1) {
      dk.noalias() = q.middleCols(first, n) * dsb.transpose();
      dv.noalias() = d_ob * probs.transpose();
    } else {
      dk.leftCols(keys).noalias() += q.middleCols(first, n) * dsb.transpose();
      dv.leftCols(keys).noalias() += d_ob * probs.transpose();
    }
  }
}

}  // namespace pretrain
