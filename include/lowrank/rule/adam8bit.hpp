// Adam8bit: AdamW with one byte per moment (Dettmers et al., arXiv 2110.02861, for the idea of block-wise states; the codes
// are our own, see compact_adam.hpp). State: 2 r k bytes, and two scales per started block of 256 entries.
#pragma once

#include <lowrank/rule/compact_adam.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class RuleState<Adam8bit, S, K> : public detail::CompactAdam<Adam8bit, S, K, detail::Int8Moments<S, K>> {
 public:
  RuleState() = default;
  RuleState(const Adam8bit& options, Index r, Index k)
      : detail::CompactAdam<Adam8bit, S, K, detail::Int8Moments<S, K>>("lowrank::Adam8bit", options, r, k) {}
};

}  // namespace lowrank
