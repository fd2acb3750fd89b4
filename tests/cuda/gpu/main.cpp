// On a GPU: its results are HostDevice's to rounding, the same bits each time and with either allocator, and a replayed graph's are
// those of steps that were taken. Exit code 77, with a word about it, where there is no GPU.
#include <cmath>
#include <cstdio>

#include <support/host_device.hpp>

#include "scenarios.hpp"

bool there_is_a_gpu();
std::vector<scenarios::Result> on_a_gpu(bool pooled);
double worst_of_replays();

int main() {
  support::HostDevice machine;
  const auto expected = scenarios::all(machine);
  int failures = 0;
  for (const auto& r : expected)
    if (!r.skips) std::printf("FAILED: %s: a NaN changed the weight on the CPU\n", r.name.c_str()), ++failures;
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
  const double replayed = worst_of_replays();
  std::printf("%s captured graphs differ from steps by %.2e\n", replayed == 0 ? "ok    " : "FAILED:", replayed);
  return failures > 0 || replayed != 0 ? 1 : 0;
}
