// Projections: the cotangents v by which |J|_F^2 = E sum_i |J^T v_i|^2 * factor is estimated, fresh for every sample.
// Variance of one estimate, M = J J^T (C x C):
//
//   Sphere       C v^T M v               2/(C+2) (C |M|_F^2 - (tr M)^2)
//   Gaussian     v^T M v                 2 |M|_F^2
//   Rademacher   v^T M v                 2 (|M|_F^2 - sum_c M_cc^2)
//   Coordinate   C M_cc                  C sum_c M_cc^2 - (tr M)^2
//   Orthonormal  (C/n) tr(V^T M V)       the sphere's times (C-n) / (n (C-1))
//   Exact        sum_c M_cc              0, with C products
//
// n independent ones divide the variance by n; orthonormal ones are never worse and exact at n = C. Numbers come from
// Philox by value: projection i of sample b in step t is a function of (seed, t, i, b) alone.
#pragma once

#include <lowrank/core/rng.hpp>
#include <lowrank/linalg/vectors.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace jacobian {

/// Sphere is the law of Hoffman, Roberts, Yaida (arXiv 1908.02729) and GrokAlign (arXiv 2506.12284).
enum class Law { Sphere, Gaussian, Rademacher, Coordinate, Orthonormal, Exact };

struct Projection {
  Law law = Law::Sphere;
  std::int64_t n = 1;  // per sample; not read by Exact
};

/// Which random numbers: the same draw gives the same projections.
struct Draw {
  std::uint64_t seed = 0, step = 0;
};

namespace detail {

inline Index projections(const char* who, const Projection& p, Index outputs) {
  if (p.law == Law::Exact) return outputs;
  if (p.n < 1) lowrank::detail::bad_argument(who, std::to_string(p.n) + " projections", "one or more");
  if (p.law == Law::Orthonormal && p.n > outputs)
    lowrank::detail::bad_argument(
        who, std::to_string(p.n) + " orthonormal projections of " + std::to_string(outputs) + " outputs",
        "at most as many as outputs");
  return Index(p.n);
}

/// What sum_i |J^T v_i|^2 is multiplied by.
inline double projection_factor(const Projection& p, Index n, Index outputs) {
  return p.law == Law::Gaussian || p.law == Law::Rademacher ? 1 / double(n) : double(outputs) / double(n);
}

/// x <- x / max(|x|, 1e-8)
template <class K, class S>
void normalise(Index n, S* x) {
  const double norm = std::sqrt(K::sum_squares(n, x));
  K::combine(n, 1 / std::max(norm, 1e-8), x, 0.0, x, x);
}

/// V: outputs x (n samples); projection i of sample b is column i * samples + b.
template <class K, class S>
void draw(const Projection& p, Index n, Index outputs, Index samples, const Draw& d, S* V) {
  const Index total = outputs * n * samples;
  switch (p.law) {
    case Law::Exact:
      std::fill_n(V, total, S(0));
      for (Index i = 0; i < n; ++i)
        for (Index b = 0; b < samples; ++b) V[i + (i * samples + b) * outputs] = 1;
      return;
    case Law::Coordinate:
      std::fill_n(V, total, S(0));
      for (Index j = 0; j < n * samples; ++j) {
        const std::uint64_t bits = uniform_bits(d.seed, d.step, std::uint64_t(j));
        V[Index(bits * std::uint64_t(outputs) >> 32) + j * outputs] = 1;
      }
      return;
    case Law::Rademacher:
      for (Index j = 0; j < total; ++j) V[j] = uniform_bits(d.seed, d.step, std::uint64_t(j)) & 1 ? S(1) : S(-1);
      return;
    case Law::Gaussian: fill_normal(V, total, d.seed, d.step, 0); return;
    case Law::Sphere:
      fill_normal(V, total, d.seed, d.step, 0);
      for (Index j = 0; j < n * samples; ++j) normalise<K>(outputs, V + j * outputs);
      return;
    case Law::Orthonormal:
      // Gram-Schmidt, twice, on the n normal vectors of each sample
      fill_normal(V, total, d.seed, d.step, 0);
      for (Index b = 0; b < samples; ++b)
        for (Index i = 0; i < n; ++i) {
          S* v = V + (i * samples + b) * outputs;
          for (int pass = 0; pass < 2; ++pass) {
            normalise<K>(outputs, v);
            for (Index j = 0; j < i; ++j) {
              const S* other = V + (j * samples + b) * outputs;
              K::combine(outputs, 1.0, v, -linalg::dot<K>(outputs, other, v), other, v);
            }
          }
          normalise<K>(outputs, v);
        }
      return;
  }
}

}  // namespace detail
}  // namespace jacobian
}  // namespace lowrank
