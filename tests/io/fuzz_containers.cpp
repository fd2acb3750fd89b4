// Mutated .npy and GGUF files under the sanitizers, for a bounded time: each is read or refused with a runtime_error.
#include <chrono>
#include <cstdio>
#include <iterator>
#include <random>

#include <lowrank/io/gguf.hpp>
#include <lowrank/io/npy.hpp>

namespace {

using Bytes = std::vector<std::byte>;

Bytes load(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> text(std::istreambuf_iterator<char>(file), {});
  const auto* begin = reinterpret_cast<const std::byte*>(text.data());
  return {begin, begin + text.size()};
}

/// Everything that was read is touched.
void use(const Bytes& bytes) {
  volatile unsigned sum = 0;
  try {
    const auto file = lowrank::io::Gguf::parse(bytes, "fuzz");
    for (const auto& t : file.tensors())
      for (const std::byte b : t.data) sum = sum + unsigned(b);
    for (const auto& [key, value] : file.metadata())
      for (const std::byte b : value.bytes) sum = sum + unsigned(b);
  } catch (const std::runtime_error&) {
  }
  try {
    for (const std::byte b : lowrank::io::Npy::parse(bytes, "fuzz").data) sum = sum + unsigned(b);
  } catch (const std::runtime_error&) {
  }
}

}  // namespace

int main() {
  const std::filesystem::path data = std::filesystem::path(LOWRANK_TEST_DATA) / "data";
  std::vector<Bytes> seeds;
  for (const char* name : {"c_order.npy", "fortran.npy", "vector.npy", "adapter.gguf"}) seeds.push_back(load(data / name));
  for (const Bytes& seed : seeds)
    if (seed.empty()) return std::fprintf(stderr, "no seed file\n"), 1;
  const char* words[] = {"(", ")", ",", "'", ":", "True", "0", "18446744073709551615", "'shape'", "'descr'", "<f8", "|b1", "GGUF", "general.alignment"};
  std::mt19937_64 bits(1);
  const auto below = [&](std::size_t n) { return std::size_t(bits() % n); };
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  long runs = 0;
  for (; std::chrono::steady_clock::now() < end; ++runs) {
    Bytes bytes = seeds[below(seeds.size())];
    for (std::size_t changes = 1 + below(3); changes-- > 0 && !bytes.empty();) {
      const std::size_t at = below(bytes.size());
      const auto where = bytes.begin() + std::ptrdiff_t(at);
      switch (below(6)) {
        case 0: bytes[at] ^= std::byte(1u << below(8)); break;
        case 1: bytes[at] = std::byte(bits()); break;
        case 2: bytes.resize(at); break;
        case 3: bytes.erase(where, where + std::ptrdiff_t(below(std::min<std::size_t>(16, bytes.size() - at)))); break;
        case 4: {  // a number of 64 bits, where GGUF has its counts and sizes
          const std::uint64_t n = below(2) == 0 ? bits() >> below(64) : below(100);
          for (std::size_t i = 0; i < 8 && at + i < bytes.size(); ++i) bytes[at + i] = std::byte(n >> (8 * i));
          break;
        }
        default: {
          const std::string_view w = words[below(std::size(words))];
          for (std::size_t i = 0; i < w.size() && at + i < bytes.size(); ++i) bytes[at + i] = std::byte(w[i]);
        }
      }
    }
    use(bytes);
  }
  std::printf("%ld mutated files\n", runs);
  return runs > 1000 ? 0 : 1;
}
