#include <support/policies_parts.hpp>
#include <support/tilewise.hpp>

namespace support {

template <class S>
std::vector<Policy<S>> tilewise_policies() {
  std::vector<Policy<S>> list;
  for (auto part : {identity_policies<S>(), subspace_policies<S>(), exact_policies<S>(), index_policies<S>()})
    list.insert(list.end(), part.begin(), part.end());
  return list;
}

template <class S>
const std::vector<Policy<S>>& policies() {
  static const std::vector<Policy<S>> all = [] {
    std::vector<Policy<S>> list = tilewise_policies<S>();
    for (auto part : {whole_rule_policies<S>(), whole_policies<S>(), selection_policies<S>()})
      list.insert(list.end(), part.begin(), part.end());
    return list;
  }();
  return all;
}

template std::vector<Policy<float>> tilewise_policies<float>();
template const std::vector<Policy<float>>& policies<float>();
#if !defined(LOWRANK_TEST_FLOAT_ONLY)
template std::vector<Policy<double>> tilewise_policies<double>();
template const std::vector<Policy<double>>& policies<double>();
#endif

}  // namespace support
