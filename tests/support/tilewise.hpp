// The part of the list of optimizers that can be done again by hand.
#pragma once

#include <support/stepper.hpp>

namespace support {

/// Those of policies() whose rule works tile by tile on a basis or on the whole gradient: what tests assume that do the
/// algebra of a step again. Whole optimizers, rules on all of R and selections have tests of their own.
template <class S>
std::vector<Policy<S>> tilewise_policies();

}  // namespace support
