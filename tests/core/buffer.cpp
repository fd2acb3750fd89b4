// A large Buffer asks for huge pages, and is zero and aligned all the same; a small one asks for nothing.
#include <support/catch.hpp>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>

#include <lowrank/core/buffer.hpp>

using namespace lowrank;

namespace {

/// The flags of the mapping that holds p, as the kernel tells them; empty where it does not.
std::string flags_of(const void* p) {
  std::ifstream maps("/proc/self/smaps");
  const auto at = reinterpret_cast<std::uintptr_t>(p);
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t begin = 0, end = 0;
    char dash = 0;
    std::istringstream text(line);
    if (text >> std::hex >> begin >> dash >> end && dash == '-') inside = begin <= at && at < end;
    if (inside && line.rfind("VmFlags:", 0) == 0) return line;
  }
  return {};
}

}  // namespace

TEST_CASE("Huge pages are asked for where whole ones fit", "[core]") {
  constexpr Index mebi = 1 << 20;
  const Buffer<std::byte> large(16 * mebi, 1), small(64, 1);
  CHECK(reinterpret_cast<std::uintptr_t>(large.data()) % Buffer<std::byte>::alignment == 0);
  bool zero = true;
  for (Index i = 0; i < large.size(); i += 4096) zero = zero && large[i] == std::byte{};
  CHECK(zero);
#if defined(MADV_HUGEPAGE)
  const std::string flags = flags_of(large.data() + 8 * mebi);
  std::ifstream enabled("/sys/kernel/mm/transparent_hugepage/enabled");
  if (flags.empty() || !enabled) {
    WARN("this system tells nothing of huge pages");
    return;
  }
  CHECK(flags.find(" hg") != std::string::npos);
  CHECK(flags_of(small.data()).find(" hg") == std::string::npos);
#endif
}
