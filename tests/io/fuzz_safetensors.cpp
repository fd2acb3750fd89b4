// Mutated files under the sanitizers, for a bounded time: each is read or refused with a runtime_error, never anything
// else. The same entry serves libFuzzer: clang++ -fsanitize=fuzzer -DLIBFUZZER.
#include <chrono>
#include <cstdio>
#include <random>

#include <lowrank/io/safetensors.hpp>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t n) {
  const auto* begin = reinterpret_cast<const std::byte*>(bytes);
  try {
    const auto file = lowrank::io::Safetensors::parse({begin, begin + n}, "fuzz");
    volatile unsigned sum = 0;
    for (const auto& tensor : file.tensors())
      for (const std::byte b : tensor.data) sum = sum + unsigned(b);
  } catch (const std::runtime_error&) {
  }
  return 0;
}

#if !defined(LIBFUZZER)
int main() {
  std::vector<std::vector<std::uint8_t>> seeds;
  for (const char* name : {"reference", "plain"}) {
    std::ifstream file(std::string(LOWRANK_TEST_DATA) + "/data/" + name + ".safetensors", std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    if (seeds.back().empty()) return std::fprintf(stderr, "no seed file\n"), 1;
  }
  const char* words[] = {"{", "}", "[", "]", "\"", ",", ":", "0", "1", "-", "18446744073709551615", "4294967296", "null", "\\u0000",
                         "\xff", "F32", "U8", "data_offsets", "shape", "dtype", "__metadata__"};
  std::mt19937_64 bits(1);
  const auto below = [&](std::size_t n) { return std::size_t(bits() % n); };
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  long runs = 0;
  for (; std::chrono::steady_clock::now() < end; ++runs) {
    auto bytes = seeds[below(seeds.size())];
    for (std::size_t changes = 1 + below(4); changes-- > 0 && !bytes.empty();) {
      const std::size_t at = below(4) == 0 ? below(8 < bytes.size() ? 8 : bytes.size()) : below(bytes.size());
      const auto where = bytes.begin() + std::ptrdiff_t(at);
      switch (below(6)) {
        case 0: bytes[at] ^= std::uint8_t(1u << below(8)); break;
        case 1: bytes[at] = std::uint8_t(bits()); break;
        case 2: bytes.resize(at); break;
        case 3: bytes.erase(where, where + std::ptrdiff_t(below(std::min<std::size_t>(16, bytes.size() - at)))); break;
        case 4: {
          const std::string_view w = words[below(std::size(words))];
          bytes.insert(where, w.begin(), w.end());
          break;
        }
        default: bytes.insert(where, bytes.begin(), bytes.begin() + std::ptrdiff_t(below(std::min<std::size_t>(64, bytes.size()))));
      }
      // half of the time the header's length is put right again, so that the JSON behind it is reached
      if (bytes.size() >= 8 && below(2) == 0) {
        std::uint64_t n = 0;
        std::memcpy(&n, bytes.data(), 8);
        if (n > bytes.size() - 8) n = bytes.size() - 8;
        std::memcpy(bytes.data(), &n, 8);
      }
    }
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::printf("%ld mutated files\n", runs);
  return runs > 1000 ? 0 : 1;
}
#endif
