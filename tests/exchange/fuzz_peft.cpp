// Mutated PEFT directories under the sanitizers, for a bounded time: a configuration and a tensor file, each read or
// refused with a runtime_error or invalid_argument, and whatever is read is used.
#include <chrono>
#include <cstdio>
#include <random>

#include <lowrank/exchange/peft.hpp>

namespace {

using namespace lowrank;
using Bytes = std::vector<std::byte>;

Bytes load(const std::string& name) {
  std::ifstream file(std::string(LOWRANK_TEST_DATA) + "/data/peft/" + name, std::ios::binary);
  const std::vector<char> text(std::istreambuf_iterator<char>(file), {});
  const auto* begin = reinterpret_cast<const std::byte*>(text.data());
  return {begin, begin + text.size()};
}

void use(const Bytes& config, const Bytes& tensors) {
  try {
    const exchange::PeftDirectory directory(
        exchange::PeftConfig::parse({reinterpret_cast<const char*>(config.data()), config.size()}), io::Safetensors::parse(tensors, "fuzz"), "fuzz");
    for (const std::string& name : directory.modules()) {
      (void)directory.config().targets(name);
      try {
        switch (directory.config().type) {
          case exchange::PeftConfig::Type::Dora: (void)directory.dora<float>(name, Eigen::MatrixXf::Ones(6, 8).eval()); break;
          case exchange::PeftConfig::Type::Vera: (void)directory.vera<float>(name, 6, 8, directory.vera_bases<float>(8, 8)); break;
          case exchange::PeftConfig::Type::RandLora: (void)directory.randlora<float>(name, 6, 8, directory.randlora_bases<float>(8, 8)); break;
          default: (void)directory.lora<float>(name);
        }
      } catch (const std::runtime_error&) {
      } catch (const std::invalid_argument&) {
      }
    }
  } catch (const std::runtime_error&) {
  }
}

}  // namespace

int main() {
  const char* names[] = {"lora", "rslora", "dora", "vera", "vera_seed", "randlora", "randlora_sparse", "adalora"};
  std::vector<std::pair<Bytes, Bytes>> seeds;
  for (const char* name : names) {
    seeds.emplace_back(load(std::string(name) + "/adapter_config.json"), load(std::string(name) + "/adapter_model.safetensors"));
    if (seeds.back().first.empty() || seeds.back().second.empty()) return std::fprintf(stderr, "no seed file\n"), 1;
  }
  const char* words[] = {"{", "}", "[", "]", "\"", ",", ":", "0", "1", "-1", "1e9", "18446744073709551615", "null", "true", "lora_A", "\"r\":",
                         "(.*\\\\.)?", "(", "|", "*", ".default", "F16", "BF16", "I64"};
  std::mt19937_64 bits(1);
  const auto below = [&](std::size_t n) { return std::size_t(bits() % n); };
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  long runs = 0;
  for (; std::chrono::steady_clock::now() < end; ++runs) {
    auto [config, tensors] = seeds[below(seeds.size())];
    if (below(4) == 0) tensors = seeds[below(seeds.size())].second;  // one method's tensors under another's name
    Bytes& victim = below(2) == 0 ? config : tensors;
    for (std::size_t changes = 1 + below(3); changes-- > 0 && !victim.empty();) {
      // half of the changes in the first bytes, where the header's length and the types of tensors are
      const std::size_t at = below(below(2) == 0 ? std::min<std::size_t>(600, victim.size()) : victim.size());
      const auto where = victim.begin() + std::ptrdiff_t(at);
      switch (below(4)) {
        case 0: victim[at] ^= std::byte(1u << below(8)); break;
        case 1: victim.resize(at); break;
        case 2: victim.erase(where, where + std::ptrdiff_t(below(std::min<std::size_t>(16, victim.size() - at)))); break;
        default: {
          const std::string_view w = words[below(std::size(words))];
          const auto* begin = reinterpret_cast<const std::byte*>(w.data());
          // in place of as many bytes, so that lengths stay what they are
          if (at + w.size() <= victim.size() && below(2) == 0) std::copy(begin, begin + w.size(), where);
          else victim.insert(where, begin, begin + w.size());
        }
      }
    }
    use(config, tensors);
  }
  std::printf("%ld mutated directories\n", runs);
  return runs > 200 ? 0 : 1;
}
