// Linked to tests that are compiled with AVX-512 BF16: where the machine does not execute the instruction, they end before they begin, with
// the exit code that ctest shows as skipped.
#include <cstdio>
#include <cstdlib>

#include <support/bf16_probe.hpp>

namespace {

[[maybe_unused]] const bool executes = [] {
  if (support::executes_bf16()) return true;
  std::puts("SKIPPED: this machine does not execute vdpbf16ps");
  std::fflush(stdout);
  std::_Exit(77);
}();

}  // namespace
