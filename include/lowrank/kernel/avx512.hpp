// Avx512: 512-bit registers (AVX-512 F, BW, DQ, VL).
#pragma once

#include <lowrank/kernel/codes.hpp>
#include <lowrank/kernel/operations.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace kernel {

struct Avx512 : Operations<64>, Codes<64> {
  static constexpr const char* name = "avx512";
};

}  // namespace kernel
}  // namespace lowrank
