// The only file with an #if on compiler or instruction set.
//
// LOWRANK_ABI is the inline namespace every symbol of the library lives in. It carries what makes the same source
// compile to different code: the instruction set, OpenMP, -ffast-math. Two translation units built with different
// flags then never share a weak symbol; passing an Optimizer from one to the other is a link error, not a lottery.
#pragma once

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#if defined(__AVX512BF16__)
#define LOWRANK_ISA avx512_bf16
#define LOWRANK_BF16
#else
#define LOWRANK_ISA avx512
#endif
#define LOWRANK_VECTOR_BYTES 64
#elif defined(__AVX2__) && defined(__FMA__)
#define LOWRANK_ISA avx2
#define LOWRANK_VECTOR_BYTES 32
#else
#define LOWRANK_ISA portable
#define LOWRANK_VECTOR_BYTES 16
#endif

#if defined(_OPENMP)
#define LOWRANK_THREADS _omp
#else
#define LOWRANK_THREADS
#endif

#if defined(__FAST_MATH__)
#define LOWRANK_MATH _fastmath
#else
#define LOWRANK_MATH
#endif

#define LOWRANK_JOIN_(a, b, c) v0_##a##b##c
#define LOWRANK_JOIN(a, b, c) LOWRANK_JOIN_(a, b, c)
#define LOWRANK_ABI LOWRANK_JOIN(LOWRANK_ISA, LOWRANK_THREADS, LOWRANK_MATH)

#define LOWRANK_NOINLINE __attribute__((noinline))
#define LOWRANK_COLD __attribute__((noinline, cold))
#define LOWRANK_INLINE inline __attribute__((always_inline))
#define LOWRANK_LAMBDA_INLINE __attribute__((always_inline))
