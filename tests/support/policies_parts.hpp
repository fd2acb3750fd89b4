// The parts of the list of optimizers, one per source file so that they compile in parallel.
#pragma once

#include <support/stepper.hpp>

namespace support {

template <class S>
std::vector<Policy<S>> identity_policies();
template <class S>
std::vector<Policy<S>> subspace_policies();
template <class S>
std::vector<Policy<S>> exact_policies();
template <class S>
std::vector<Policy<S>> index_policies();
template <class S>
std::vector<Policy<S>> whole_rule_policies();
template <class S>
std::vector<Policy<S>> whole_policies();
template <class S>
std::vector<Policy<S>> selection_policies();

}  // namespace support
