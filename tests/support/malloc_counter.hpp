// Counts calls of malloc and its relatives, operator new included (it calls them), in every thread of the program. Include
// it in one source file of a program only: it defines malloc.
//
//   const AllocationCount count;  step();  CHECK(count.since() == 0);
//
// Under a sanitizer, or without glibc, nothing is counted and `counted` is false.
#pragma once

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define LOWRANK_TEST_SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LOWRANK_TEST_SANITIZED
#endif

namespace support {

inline std::atomic<long> allocations{0};

class AllocationCount {
 public:
#if defined(__GLIBC__) && !defined(LOWRANK_TEST_SANITIZED)
  static constexpr bool counted = true;
#else
  static constexpr bool counted = false;
#endif
  long since() const { return allocations - begin_; }

 private:
  long begin_ = allocations;
};

}  // namespace support

#if defined(__GLIBC__) && !defined(LOWRANK_TEST_SANITIZED)
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t bytes) noexcept {
  ++support::allocations;
  return __libc_malloc(bytes);
}
void* calloc(std::size_t n, std::size_t bytes) noexcept {
  ++support::allocations;
  return __libc_calloc(n, bytes);
}
void* realloc(void* old, std::size_t bytes) noexcept {
  ++support::allocations;
  return __libc_realloc(old, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept {
  ++support::allocations;
  return __libc_memalign(alignment, bytes);
}
void* memalign(std::size_t alignment, std::size_t bytes) noexcept {
  ++support::allocations;
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** out, std::size_t alignment, std::size_t bytes) noexcept {
  ++support::allocations;
  *out = __libc_memalign(alignment, bytes);
  return *out == nullptr ? ENOMEM : 0;
}
}
#endif
