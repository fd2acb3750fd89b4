// The kernel set is a type: a struct of static functions on raw pointers. It is a template argument of everything that
// computes, so it is part of every symbol's name. Best is the widest set the translation unit is compiled for; another
// one is chosen by an argument, never by a macro:
//
//   Optimizer opt(W, Subspace{.rank = 8}, AdamW{}, BackProject{}, kernel::Portable{});
//
// A set of your own derives from one of these and overrides a function.
#pragma once

#include <concepts>  // std::convertible_to

#include <lowrank/kernel/portable.hpp>
#if LOWRANK_VECTOR_BYTES >= 32
#include <lowrank/kernel/avx2.hpp>
#endif
#if LOWRANK_VECTOR_BYTES >= 64
#include <lowrank/kernel/avx512.hpp>
#endif
#include <lowrank/kernel/avx512_bf16.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace kernel {

#if defined(LOWRANK_BF16)
using Best = Avx512Bf16;
#elif LOWRANK_VECTOR_BYTES >= 64
using Best = Avx512;
#elif LOWRANK_VECTOR_BYTES >= 32
using Best = Avx2;
#else
using Best = Portable;
#endif

template <class K>
concept Kernel = requires(Index n, const float* x, float* y, const Bf16Pair* pairs, Bf16Pair* to) {
  { K::name } -> std::convertible_to<const char*>;
  { K::tile_cols } -> std::convertible_to<Index>;
  { K::template lanes<float> } -> std::convertible_to<Index>;
  K::template gemm_tile<1>(n, x, x, n, n, y, n, true);
  K::template update_tile<1>(n, x, x, n, n, x, Target<float>{}, Motion<float>{});
  K::move(n, x, Target<float>{}, Motion<float>{});
  K::template gemm_tile<1>(n, pairs, pairs, n, n, y, n, true);
  K::template update_tile<1>(n, pairs, pairs, n, n, x, Target<float>{}, Motion<float>{});
  K::pair_columns(n, n, x, n, to, n);
  K::pair_rows(n, x, to);
  K::pair(n, x, x, to);
  K::stage_rows(n, n, x, n, y);
  K::group_squares(n, x, static_cast<double*>(nullptr), 0.5);
  { K::group_stride(n) } -> std::convertible_to<Index>;
  K::adam(n, x, y, y, y, 0.9, 0.999, 1e-8);
  K::rmsprop(n, x, y, y, 0.9, 1e-6);
  K::momentum(n, x, y, y, 0.9, 1.0, false);
  K::lion(n, x, y, y, 0.9, 0.99);
  K::update(n, y, x, 1.0, 1.0, 1.0);
  K::combine(n, 1.0, x, 0.0, x, y);
  K::multiply(n, x, x, y);
  { K::sum_squares(n, x) } -> std::convertible_to<double>;
  { K::sum_squares(n, x, 0.5) } -> std::convertible_to<double>;
  { K::sum_abs(n, x) } -> std::convertible_to<double>;
  K::transpose(n, n, x, n, y, n);
  K::transpose_past(n, n, x, n, y, n);
  K::column_squares(n, n, x, n, static_cast<double*>(nullptr));
  K::random_halves(n, std::uint64_t(), std::uint64_t(), std::uint64_t(), static_cast<std::uint16_t*>(nullptr));
  K::decode8(n, static_cast<const std::int8_t*>(nullptr), static_cast<const std::uint8_t*>(nullptr), 1.0f, 1.0f, y, y);
  K::largest(n, x, x, *y, *y);
  K::encode8(n, x, x, 1.0f, 1.0f, static_cast<const std::uint16_t*>(nullptr), static_cast<std::int8_t*>(nullptr), static_cast<std::uint8_t*>(nullptr));
  K::adam8(n, x, static_cast<std::int8_t*>(nullptr), static_cast<std::uint8_t*>(nullptr), y, y, 0.9, 0.999, 1e-8, std::uint64_t(), std::uint64_t(), std::uint64_t());
  K::adam_bf16(n, x, static_cast<std::uint16_t*>(nullptr), static_cast<std::uint16_t*>(nullptr), y, 0.9, 0.999, 1e-8, std::uint64_t(), std::uint64_t(), std::uint64_t());
  K::decode_bf16(n, static_cast<const std::uint16_t*>(nullptr), y);
  K::encode_bf16(n, x, static_cast<const std::uint16_t*>(nullptr), false, static_cast<std::uint16_t*>(nullptr));
};

static_assert(Kernel<Best> && Kernel<Portable>);

}  // namespace kernel
}  // namespace lowrank
