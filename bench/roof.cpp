// Question: what can this machine do at most? Multiply-adds in registers, and reading, updating and copying a long array,
// 8 bytes counted for a float that is read and written. The other benchmarks measure the first three again for themselves.
#include <cstring>

#include <bench/support/roofline.hpp>

namespace bench {
namespace {

detail::Pass copying(int threads) {
  lowrank::Buffer<float>& memory = detail::long_array();
  const Index half = memory.cols() / 2;
  return {{0, 0, double(memory.bytes())}, [threads, half, &memory] {
            lowrank::detail::for_each(half, threads, [&](Index i, int) {
              std::memcpy(memory.column(half + i), memory.column(i), std::size_t(memory.rows()) * sizeof(float));
            });
          }};
}

void add_pass(const char* name, int threads, detail::Pass (*make)(int)) {
  add(std::string("roof/") + name + "/lowrank", threads, [=]() -> Case {
    const detail::Pass pass = make(threads);
    return {pass.run, pass.work};
  });
}

void rows(bool) {
  for (const int threads : thread_counts()) {
    add_pass("multiply_adds", threads, detail::multiply_adds);
#if defined(LOWRANK_BF16)
    add_pass("bf16_products", threads, detail::bf16_products);
#endif
    add_pass("read", threads, detail::reading);
    add_pass("update", threads, detail::updating);
    add_pass("copy", threads, copying);
  }
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) { return bench::run(argc, argv, bench::rows); }
