// SubspaceBf16: Subspace with a basis of bf16 numbers. A refresh computes in the state's scalar and rounds the candidate; from then on every
// product with P is one of bf16 numbers with float sums (linalg/bf16_basis.hpp), in which A and N are rounded as they are read. In
// double the products are double's, of the rounded P.
//
// P is orthonormal up to the rounding: entries of P^T P - I are about 2^-8.7 / sqrt(d). So lifts that take A - P R for what was lost do not
// compile. R differs from P^T A by about 2^-8.7 sqrt(r / d) ||A||_F: 0.24 % of R for a gradient without any structure, less the more of it P holds.
// State: the basis, 2 d r bytes.
#pragma once

#include <lowrank/linalg/bf16_basis.hpp>
#include <lowrank/projector/subspace.hpp>

namespace lowrank::inline LOWRANK_ABI {

namespace detail {

template <class S, class K>
using Bf16Products = std::conditional_t<std::is_same_v<S, float>, linalg::Bf16Basis<K>, linalg::PackedBasis<S, K>>;

}  // namespace detail

template <class S, class K>
class ProjectorState<SubspaceBf16, S, K> : public detail::BlockIteration<SubspaceBf16, S, K, detail::Bf16Products<S, K>> {
  using Base = detail::BlockIteration<SubspaceBf16, S, K, detail::Bf16Products<S, K>>;

 public:
  using typename Base::Source;
  using typename Base::Team;
  using typename Base::Work;

  static constexpr bool orthonormal = false;

  ProjectorState() = default;
  ProjectorState(const SubspaceBf16& options, Index d, Index k) : Base("lowrank::SubspaceBf16", options, d, k, Storage::Bf16) {}

  const Buffer<Eigen::bfloat16>& basis() const { return this->basis_.halves(); }

  bool refresh(const Source& a, S* R, Work& work, const Team& team) const {
    this->decode(work);
    if (!this->find(a, R, work, team)) return false;
    linalg::CompactMatrix<S>::round_trip(work.dense.candidate, this->basis_.rows(), this->rank(), Storage::Bf16);
    this->announce(a, work, this->freshness_.captured_at_refresh > 0 ? this->options_.transport : Transport::Keep, team);
    return true;
  }

  /// The rounding of either basis may decide which of them holds more, by 1e-4 at most: a refresh stands.
  bool worse(double, const Work&) const { return false; }
  /// Rounded numbers may seem to hold a little more than all energy.
  bool valid() const { return this->freshness_.pending <= 1 && this->freshness_.captured_at_refresh <= 1.1; }
};

}  // namespace lowrank
