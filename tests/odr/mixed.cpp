// Four objects of one program, compiled for different machines: each runs the code it was compiled to.
#include <cmath>
#include <cstdio>
#include <cstring>

#include "unit.hpp"

Result plain();
Result plain_openmp();
Result plain_fast();
Result avx2();

int main() {
  const Result a = plain(), b = plain_openmp(), fast = plain_fast();
  std::printf("plain: %s %.9g\nplain with OpenMP: %s %.9g\n", a.kernel, a.sum, b.kernel, b.sum);
  bool good = std::strcmp(a.kernel, "portable") == 0 && std::strcmp(b.kernel, "portable") == 0 && a.sum == b.sum;
  good = good && std::strcmp(fast.kernel, "portable") == 0 && std::fabs(a.sum - fast.sum) < 1e-4 * std::fabs(a.sum);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    const Result c = avx2();
    std::printf("AVX2: %s %.9g\n", c.kernel, c.sum);
    good = good && std::strcmp(c.kernel, "avx2") == 0 && std::fabs(a.sum - c.sum) < 1e-4 * std::fabs(a.sum);
  }
  return good ? 0 : 1;
}
