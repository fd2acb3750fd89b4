// In how many bits a matrix is kept between steps.
#pragma once

#include <lowrank/core/abi.hpp>

namespace lowrank::inline LOWRANK_ABI {

/// Full: the state's scalar. Int8, Int4: codes of so many bits, with an offset and a step for every 256 rows of a column. Bf16: numbers
/// of 16 bits.
enum class Storage { Full, Int8, Int4, Bf16 };

}  // namespace lowrank
