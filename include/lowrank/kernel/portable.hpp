// Portable: 128-bit registers and no instruction of its own: what every other kernel set is tested against.
#pragma once

#include <lowrank/kernel/codes.hpp>
#include <lowrank/kernel/operations.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace kernel {

struct Portable : Operations<16>, Codes<16> {
  static constexpr const char* name = "portable";
};

}  // namespace kernel
}  // namespace lowrank
