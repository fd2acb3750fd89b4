// Rule: what happens in the projected coordinates. A rule turns R (r x k) into a direction N of the same shape and
// keeps what it needs to do so (moments, a step count).
//
// RuleState<Options, S, K> is the state of rule `Options` in scalar S on kernels K. A rule of your own specialises it:
//
//   struct Sign { static constexpr const char* name = "sign"; static void visit(auto&, auto&&) {} };
//   template <class S, class K> class lowrank::RuleState<Sign, S, K> {
//    public:
//     RuleState(const Sign&, Index, Index) {}                       // core shape r x k
//     Sign& options();                                              // may be changed between steps
//     void advance();                                               // a step begins
//     void direction(const S* R, Index ldr, S* N, Index ldn, Index i0, Index m, Index j0, Index w);
//     double gain() const;                                          // W moves by lr * gain * (what the lift makes of N)
//     Decay decay(double lr) const;
//     void transport(const linalg::BasisChange<S>&, const linalg::TransportWork<S, K>&, const linalg::Team<S, K>&);
//     void visit(auto&& f);                                         // f(name, Buffer or number): state to be kept
//   };
//
// direction() handles rows [i0, i0+m) of columns [j0, j0+w): R and N point at that block, leading dimensions ldr and
// ldn; N may be R. N is raw: bias correction is in gain(), so that lifts which measure N see what their papers measure.
#pragma once

#include <cmath>  // std::pow, std::sqrt, std::isfinite

#include <lowrank/linalg/basis_change.hpp>
#include <lowrank/options.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class Options, class S, class K>
class RuleState;

/// W <- after (before W - lr gain U).
struct Decay {
  double before = 1, after = 1;
};

namespace detail {

/// The options of a policy are checked when it is made and whenever they may have changed.
inline void require(bool holds, const char* who, const char* name, double value, const char* rule) {
  if (!holds || !is_finite(value)) bad_argument(who, std::string(name) + " = " + std::to_string(value), rule);
}

inline void check_decay(const char* who, double weight_decay) {
  require(weight_decay >= 0 && weight_decay < 1e30, who, "weight_decay", weight_decay, "a number >= 0");
}

inline void check_beta(const char* who, const char* name, double beta) {
  require(beta >= 0 && beta < 1, who, name, beta, "0 <= beta < 1");
}

/// Applies f(R, N, index into the moments, count) to the columns of a block, or once to the whole of it when its
/// columns follow each other in all three arrays.
template <class S, class F>
void for_columns(const S* R, Index ldr, S* N, Index ldn, Index i0, Index m, Index j0, Index w, Index ld, const F& f) {
  if (m == ld && ldr == ld && ldn == ld) return f(R, N, j0 * ld, m * w);
  for (Index j = 0; j < w; ++j) f(R + j * ldr, N + j * ldn, i0 + (j0 + j) * ld, m);
}

/// A state of another rank, field by field: of arrays with a row per coordinate row i was row from[i], or starts at zero
/// (-1); everything else is copied.
template <class State>
void inherit_rows(State& state, const State& old, const std::vector<Index>& from) {
  if constexpr (requires { state.inherit(old, from); }) return state.inherit(old, from);
  std::vector<const void*> fields;
  old.visit([&](const char*, const auto& field) { fields.push_back(&field); });
  std::size_t at = 0;
  state.visit([&]<class Field>(const char*, Field& field) {
    const auto& was = *static_cast<const Field*>(fields[at++]);
    if constexpr (requires { field.column(0); }) {
      if (field.rows() == was.rows()) {
        field = was;
        return;
      }
      for (Index j = 0; j < field.cols(); ++j)
        for (Index i = 0; i < field.rows(); ++i)
          if (from[std::size_t(i)] >= 0) field(i, j) = was(from[std::size_t(i)], j);
    } else {
      field = was;
    }
  });
}

}  // namespace detail
}  // namespace lowrank
