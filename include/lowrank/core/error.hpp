// Errors: std::invalid_argument that says which function, what it got and what it expected. The throwers are cold and
// out of line, so that a check costs a compare and a branch.
#pragma once

#include <bit>        // std::bit_cast
#include <cstddef>    // std::ptrdiff_t
#include <cstdint>    // std::uint64_t
#include <stdexcept>  // std::invalid_argument
#include <string>

#include <lowrank/core/abi.hpp>

namespace lowrank::inline LOWRANK_ABI {

/// Sizes and positions. Signed, as Eigen's.
using Index = std::ptrdiff_t;

namespace detail {

/// Neither NaN nor infinite: on the exponent's bits, since -ffast-math lets the compiler assume the answer.
inline bool is_finite(double x) {
  return (std::bit_cast<std::uint64_t>(x) & 0x7ff0000000000000u) != 0x7ff0000000000000u;
}

inline bool is_nan(double x) { return (std::bit_cast<std::uint64_t>(x) << 1) > (0x7ff0000000000000u << 1); }

inline std::string shape_text(Index rows, Index cols) { return std::to_string(rows) + "x" + std::to_string(cols); }

/// Throws "<who>: got <got>, expected <expected>".
[[noreturn]] LOWRANK_COLD inline void bad_argument(const char* who, const std::string& got, const std::string& expected) {
  throw std::invalid_argument(std::string(who) + ": got " + got + ", expected " + expected);
}

[[noreturn]] LOWRANK_COLD inline void bad_shape(const char* who, Index rows, Index cols, Index want_rows, Index want_cols) {
  bad_argument(who, shape_text(rows, cols), shape_text(want_rows, want_cols));
}

}  // namespace detail
}  // namespace lowrank
