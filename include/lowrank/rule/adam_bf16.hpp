// AdamBf16: AdamW with both moments in bf16, stochastically rounded; see compact_adam.hpp. State: 4 r k bytes.
#pragma once

#include <lowrank/rule/compact_adam.hpp>

namespace lowrank::inline LOWRANK_ABI {

template <class S, class K>
class RuleState<AdamBf16, S, K> : public detail::CompactAdam<AdamBf16, S, K, detail::Bf16Moments<S, K>> {
 public:
  RuleState() = default;
  RuleState(const AdamBf16& options, Index r, Index k)
      : detail::CompactAdam<AdamBf16, S, K, detail::Bf16Moments<S, K>>("lowrank::AdamBf16", options, r, k) {}
};

}  // namespace lowrank
