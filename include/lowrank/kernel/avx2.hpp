// Avx2: 256-bit registers with FMA.
#pragma once

#include <lowrank/kernel/codes.hpp>
#include <lowrank/kernel/operations.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace kernel {

struct Avx2 : Operations<32>, Codes<32> {
  static constexpr const char* name = "avx2";
};

}  // namespace kernel
}  // namespace lowrank
