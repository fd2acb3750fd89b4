// Whether this machine executes vdpbf16ps, which CPUID need not tell: tried in a child process, since the answer no is SIGILL.
#pragma once

#include <immintrin.h>
#include <sys/wait.h>
#include <unistd.h>

namespace support {

inline bool executes_bf16() {
  const pid_t child = fork();
  if (child == 0) {
    const __m512i ones = _mm512_set1_epi32(0x3f803f80);
    const __m512 sum = _mm512_dpbf16_ps(_mm512_setzero_ps(), (__m512bh)ones, (__m512bh)ones);
    _exit(_mm512_cmpneq_ps_mask(sum, _mm512_set1_ps(2)) == 0 ? 0 : 1);
  }
  int status = 1;
  return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

}  // namespace support
