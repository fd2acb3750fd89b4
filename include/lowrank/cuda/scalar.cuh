// Scalars as they are stored on a device: float, double, and the two of 16 bits, which are widened to float to compute. Bf16 and
// Half are plain bits, the same as __nv_bfloat16's and __half's, converted the same way on both machines: to nearest, ties to even,
// or stochastically to the numbers the CPU library would choose.
#pragma once

#include <lowrank/cuda/device.cuh>
#include <lowrank/cuda/random.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

struct Bf16 {
  std::uint16_t bits = 0;
};
struct Half {
  std::uint16_t bits = 0;
};

template <class T>
concept StoredScalar = std::is_same_v<std::remove_const_t<T>, float> || std::is_same_v<std::remove_const_t<T>, double> ||
                       std::is_same_v<std::remove_const_t<T>, Bf16> || std::is_same_v<std::remove_const_t<T>, Half>;

/// What is computed in when a matrix is stored as T: double for double, float for everything else.
template <class T>
using compute_t = std::conditional_t<std::is_same_v<std::remove_const_t<T>, double>, double, float>;

LOWRANK_HOST_DEVICE inline float widen(float x) { return x; }
LOWRANK_HOST_DEVICE inline double widen(double x) { return x; }
LOWRANK_HOST_DEVICE inline float widen(Bf16 x) { return bit_cast<float>(std::uint32_t(x.bits) << 16); }
LOWRANK_HOST_DEVICE inline float widen(Half x) {
  const std::uint32_t sign = std::uint32_t(x.bits & 0x8000) << 16, rest = x.bits & 0x7fff;
  if (rest >= 0x7c00) return bit_cast<float>(sign | 0x7f800000u | (rest & 0x3ff) << 13);  // infinite or NaN
  if (rest >= 0x0400) return bit_cast<float>(sign | (rest + ((127 - 15) << 10)) << 13);
  return (sign != 0 ? -1.0f : 1.0f) * float(rest) * 0x1p-24f;  // below the normal numbers
}

namespace detail {

/// The narrow number nearest to x, ties to even.
LOWRANK_HOST_DEVICE inline void round_to(float& to, double x) { to = float(x); }
LOWRANK_HOST_DEVICE inline void round_to(float& to, float x) { to = x; }
LOWRANK_HOST_DEVICE inline void round_to(double& to, double x) { to = x; }
LOWRANK_HOST_DEVICE inline void round_to(Bf16& to, float x) {
  const auto u = bit_cast<std::uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) to.bits = 0x7fc0;  // as Eigen's: one NaN
  else to.bits = std::uint16_t((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
LOWRANK_HOST_DEVICE inline void round_to(Half& to, float x) {
  const auto u = bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = u >> 16 & 0x8000, size = u & 0x7fffffffu;
  std::uint32_t half;
  if (size > 0x7f800000u) half = 0x7e00;
  else if (size >= 0x477ff000u) half = 0x7c00;  // 65520 and beyond
  else if (size >= 0x38800000u) half = (size - (112u << 23) + 0xfff + (size >> 13 & 1)) >> 13;
  else half = bit_cast<std::uint32_t>(bit_cast<float>(size) + 0.5f) - 0x3f000000u;  // the adder rounds at 2^-24
  to.bits = std::uint16_t(sign | half);
}

template <class T>
constexpr int mantissa_bits = std::is_same_v<T, Bf16> ? 7 : 10;
template <class T>
constexpr int smallest_exponent = std::is_same_v<T, Bf16> ? -126 : -14;

/// x rounded to a neighbour in T, up with probability proportional to the distance: floor(x / ulp + u) ulp.
template <class T>
LOWRANK_HOST_DEVICE T round_stochastically(float x, float u) {
  T to;
  round_to(to, x);
  if (x == 0 || !is_finite(double(x))) return to;
  const int exponent = most(std::ilogb(x), smallest_exponent<T>);
  const double ulp = std::ldexp(1.0, exponent - mantissa_bits<T>);
  round_to(to, float(std::floor(double(x) / ulp + double(u)) * ulp));
  return to;
}

}  // namespace detail

/// x as a T: to nearest, or stochastically with the uniform number u in [0, 1).
template <class T, class S>
LOWRANK_HOST_DEVICE T narrow(S x) {
  T to;
  detail::round_to(to, x);
  return to;
}
template <class T, class S>
LOWRANK_HOST_DEVICE T narrow(S x, float u) {
  if constexpr (sizeof(T) == 2) return detail::round_stochastically<T>(float(x), u);
  else return narrow<T>(x);
}

}  // namespace cuda
}  // namespace lowrank
