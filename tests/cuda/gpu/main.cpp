// On a GPU: its results are HostDevice's to rounding, the same bits each time, with either allocator and beside another thread, and a
// replayed graph's are those of steps that were taken. Exit code 77, with a word about it, where there is no GPU.
#include <cmath>
#include <cstdio>

#include <support/host_device.hpp>

#include "gpu.hpp"

int main(int argc, char**) {
  if (argc > 1) return there_is_a_gpu() ? 0 : 77;  // --is-there-a-gpu
  support::HostDevice machine;
  const auto expected = scenarios::all(machine);
  int failures = 0;
  for (const auto& r : expected)
    if (!r.skips) std::printf("FAILED: %s: a NaN changed the weight on the CPU\n", r.name.c_str()), ++failures;
  const auto check = [&](bool good, const std::string& what) {
    std::printf("%s %s\n", good ? "ok    " : "FAILED:", what.c_str());
    failures += good ? 0 : 1;
  };
  check(contexts_ask_for_nothing(), "a Context that nothing is asked of asks nothing of the device");
  if (!there_is_a_gpu()) {
    std::printf("skipped: no CUDA device; %zu scenarios compiled, linked and run on the CPU\n", expected.size());
    return failures > 0 ? 1 : 77;
  }
  const auto first = on_a_gpu(false), again = on_a_gpu(false), pooled = on_a_gpu(true);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto& e = expected[i].weights;
    double largest = 0, worst = 0;
    bool same = true;
    for (std::size_t j = 0; j < e.size(); ++j) {
      largest = std::max(largest, std::abs(e[j]));
      worst = std::max(worst, std::abs(e[j] - first[i].weights[j]));
      same = same && first[i].weights[j] == again[i].weights[j] && first[i].weights[j] == pooled[i].weights[j];
    }
    const bool good = worst <= expected[i].tolerance * largest && same && first[i].skips;
    std::printf("%s %-28s differs from the CPU by %.2e of the change%s%s\n", good ? "ok    " : "FAILED:", expected[i].name.c_str(), worst / largest,
                same ? "" : ", and from itself", first[i].skips ? "" : ", and a NaN changed it");
    failures += good ? 0 : 1;
  }
  for (const Replay& r : replays())
    check(r.error.empty() && r.difference == 0, "a captured step of " + r.name + ": " + (r.error.empty() ? "differs by " + std::to_string(r.difference) : r.error));
  check(threads_agree(), "two threads with a Context each get the bits of one alone");
  return failures > 0 ? 1 : 0;
}
