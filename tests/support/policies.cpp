#include <support/policies_parts.hpp>

namespace support {

template <class S>
const std::vector<Policy<S>>& policies() {
  static const std::vector<Policy<S>> all = [] {
    std::vector<Policy<S>> list;
    for (auto part : {identity_policies<S>(), subspace_policies<S>(), exact_policies<S>(), index_policies<S>(),
                      whole_rule_policies<S>(), whole_policies<S>(), selection_policies<S>()})
      list.insert(list.end(), part.begin(), part.end());
    return list;
  }();
  return all;
}

template const std::vector<Policy<float>>& policies<float>();
#if !defined(LOWRANK_TEST_FLOAT_ONLY)
template const std::vector<Policy<double>>& policies<double>();
#endif

}  // namespace support
