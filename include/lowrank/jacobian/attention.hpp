// Attention of the last token over all tokens of a sample: forwards, its tangent, and both streams backwards.
#pragma once

#include <cmath>

#include <lowrank/jacobian/transformer_cache.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace jacobian::detail {

/// o = sum_i p_i v_i, p = softmax(s), s_i = scale q . k_i, for every head of every sample.
template <class S, class K>
void attend(const TransformerShape& n, TransformerCache<S, K>& c) {
  const Index size = n.width / n.heads;
  const S scale = 1 / std::sqrt(S(size));
  for (Index b = 0; b < c.size; ++b)
    for (Index head = 0; head < n.heads; ++head) {
      const Index row = head * size;
      auto p = c.p.a.col(b).segment(head * n.tokens, n.tokens);
      for (Index i = 0; i < n.tokens; ++i)
        p[i] = scale * c.q.a.col(b).segment(row, size).dot(c.k.a.col(b * n.tokens + i).segment(row, size));
      p = (p.array() - p.maxCoeff()).exp();
      p /= p.sum();
      auto o = c.o.a.col(b).segment(row, size);
      o.setZero();
      for (Index i = 0; i < n.tokens; ++i) o += p[i] * c.v.a.col(b * n.tokens + i).segment(row, size);
    }
}

/// s', p' = p (s' - <p, s'>) and o'.
template <class S, class K>
void attend_tangent(const TransformerShape& n, TransformerCache<S, K>& c) {
  const Index size = n.width / n.heads;
  const S scale = 1 / std::sqrt(S(size));
  for (Index b = 0; b < c.size; ++b)
    for (Index head = 0; head < n.heads; ++head) {
      const Index row = head * size;
      const auto p = c.p.a.col(b).segment(head * n.tokens, n.tokens);
      auto s1 = c.scores.t.col(b).segment(head * n.tokens, n.tokens),
           p1 = c.p.t.col(b).segment(head * n.tokens, n.tokens);
      for (Index i = 0; i < n.tokens; ++i) {
        const Index j = b * n.tokens + i;
        s1[i] = scale * (c.q.t.col(b).segment(row, size).dot(c.k.a.col(j).segment(row, size)) +
                         c.q.a.col(b).segment(row, size).dot(c.k.t.col(j).segment(row, size)));
      }
      const S mean = p.dot(s1);
      p1 = p.array() * (s1.array() - mean);
      auto o = c.o.t.col(b).segment(row, size);
      o.setZero();
      for (Index i = 0; i < n.tokens; ++i) {
        const Index j = b * n.tokens + i;
        o += p1[i] * c.v.a.col(j).segment(row, size) + p[i] * c.v.t.col(j).segment(row, size);
      }
    }
}

/// d_o -> dv, dk, dq of one head.
template <Stream stream, class S, class K>
void attend_back(const TransformerShape& n, TransformerCache<S, K>& c, Index b, Index head) {
  constexpr bool dual = stream == Stream::Tangent;
  const Index size = n.width / n.heads, row = head * size, T = n.tokens;
  const S scale = 1 / std::sqrt(S(size));
  const auto token = [&](Matrix<S>& m, Index i) { return m.col(b * T + i).segment(row, size); };
  const auto p = c.p.a.col(b).segment(head * T, T), p1 = c.p.t.col(b).segment(head * T, T),
             s1 = c.scores.t.col(b).segment(head * T, T);
  const auto d_o = c.d_o.a.col(b).segment(row, size), d_o1 = c.d_o.t.col(b).segment(row, size);
  const auto q = c.q.a.col(b).segment(row, size), q1 = c.q.t.col(b).segment(row, size);
  auto dq = c.dq.a.col(b).segment(row, size), dq1 = c.dq.t.col(b).segment(row, size);
  // cotangents of p and of p'; p' = p (s' - <p, s'>)
  S mean = 0, mean_dp1 = 0;
  if constexpr (dual) {
    mean = p.dot(s1);
    for (Index i = 0; i < T; ++i) mean_dp1 += p[i] * token(c.v.a, i).dot(d_o1);
  }
  const auto dp = [&](Index i) {
    S value = token(c.v.a, i).dot(d_o);
    if constexpr (dual)
      value += token(c.v.t, i).dot(d_o1) + token(c.v.a, i).dot(d_o1) * (s1[i] - mean) - mean_dp1 * s1[i];
    return value;
  };
  S mean_dp = 0;
  for (Index i = 0; i < T; ++i) mean_dp += p[i] * dp(i);
  dq.setZero();
  if constexpr (dual) dq1.setZero();
  for (Index i = 0; i < T; ++i) {
    const S ds = scale * p[i] * (dp(i) - mean_dp);
    token(c.dv.a, i) = p[i] * d_o;
    token(c.dk.a, i) = ds * q;
    dq += ds * token(c.k.a, i);
    if constexpr (dual) {
      const S ds1 = scale * p[i] * (token(c.v.a, i).dot(d_o1) - mean_dp1);
      token(c.dv.a, i) += p1[i] * d_o1;
      token(c.dv.t, i) = p[i] * d_o1;
      token(c.dk.a, i) += ds1 * q1;
      token(c.dk.t, i) = ds1 * q;
      dq += ds1 * token(c.k.t, i);
      dq1 += ds1 * token(c.k.a, i);
    }
  }
}

template <Stream stream, class S, class K>
void attend_back(const TransformerShape& n, TransformerCache<S, K>& c) {
  for (Index b = 0; b < c.size; ++b)
    for (Index head = 0; head < n.heads; ++head) attend_back<stream>(n, c, b, head);
}

}  // namespace jacobian::detail
}  // namespace lowrank
