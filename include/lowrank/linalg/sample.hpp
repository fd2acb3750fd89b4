// A weighted sample without replacement: r of n indices, ascending, drawn one after the other with probabilities as the
// weights of those that are left. Index i gets the key ln(u_i) / weight_i and the r largest keys win, which is the same
// distribution (Efraimidis and Spirakis, Inf. Process. Lett. 97, 2006), and one number per index from a counter.
#pragma once

#include <lowrank/core/rng.hpp>
#include <lowrank/linalg/top_k.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace linalg {

/// weights: n of them, >= 0, overwritten by the keys; an index of weight 0 comes last. work: n indices; out: r of them.
inline void sample(double* weights, Index n, Index r, std::uint64_t seed, std::uint64_t stream, std::int32_t* work,
                   std::int32_t* out) {
  double total = 0;
  for (Index i = 0; i < n; ++i) total += weights[i];
  for (Index i = 0; i < n; ++i) {
    const double share = total > 0 ? weights[i] / total : 1.0;
    const double log = lowrank::detail::log_uniform(uniform_bits(seed, stream, std::uint64_t(i)));
    weights[i] = share > 1e-290 ? log / share : -1e300;
  }
  top_k(weights, n, r, work, out);
}

}  // namespace linalg
}  // namespace lowrank
