// Philox: the counter-based random numbers of core/rng.hpp, a register at a time.
#pragma once

#include <cstdint>  // std::uint16_t, std::uint32_t, std::uint64_t

#include <lowrank/kernel/vector.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace kernel {

/// Philox4x32-10 (SC '11, section 3.3), a block of 128 bits on every 64-bit lane of two registers.
template <int Bytes>
class Philox {
  static constexpr Index L = Bytes / 8;
  using U = typename Pack<std::uint64_t, L>::Raw;

 public:
  /// Not inlined, for the keys to stay in memory: kept in registers, they do not fit, and are put together again from others.
  LOWRANK_NOINLINE Philox(std::uint64_t seed, std::uint64_t stream) : stream_(stream) {
    for (int round = 0; round < 10; ++round) {
      keys_[2 * round] = std::uint32_t(seed) + std::uint32_t(round) * 0x9E3779B9u;
      keys_[2 * round + 1] = std::uint32_t(seed >> 32) + std::uint32_t(round) * 0xBB67AE85u;
    }
    for (Index l = 0; l < L; ++l) lane_[l] = std::uint64_t(l);
  }

  /// Numbers first, ..., first + Bytes - 1 of 16 random bits: the halves of the words, the lower one first. first is a multiple of 8.
  LOWRANK_INLINE void draw(std::uint64_t first, std::uint16_t* out) const {
    Words x = begin(first);
    rounds(x, 0, 10);
    finish(x, out);
  }

  /// The same in steps, since each round waits for the one before: rounds [0, 10) in pieces, between which other work is done.
  struct Words {
    U c0, c1, c2, c3;
  };
  LOWRANK_INLINE Words begin(std::uint64_t first) const {
    // a product takes the lower half of a lane, so what is in the upper one does not matter until the end
    const U c0 = lane_ + first / 8, c2 = U{} + stream_;
    return {c0, c0 >> 32, c2, c2 >> 32};
  }
  LOWRANK_INLINE void rounds(Words& x, Index from, Index to) const {
    for (Index round = from; round < to; ++round) {
      const U a = multiply_low_halves(x.c0, U{} + 0xD2511F53u), b = multiply_low_halves(x.c2, U{} + 0xCD9E8D57u);
      x.c0 = exclusive_or(b >> 32, x.c1, keys_[2 * round]);
      x.c2 = exclusive_or(a >> 32, x.c3, keys_[2 * round + 1]);
      x.c1 = b;
      x.c3 = a;
    }
  }
  LOWRANK_INLINE void finish(const Words& x, std::uint16_t* out) const {
    const U low = U{} + 0xFFFFFFFFu;
    const Vec<std::uint64_t, Bytes> front{(x.c0 & low) | (x.c1 << 32)}, back{(x.c2 & low) | (x.c3 << 32)};
    Vec<std::uint64_t, Bytes> lower, upper;
    detail::interleave(front, back, lower, upper, std::make_index_sequence<std::size_t(L)>{});
    std::memcpy(out, &lower, Bytes);
    std::memcpy(out + 4 * L, &upper, Bytes);
  }

 private:
  std::uint64_t keys_[20], stream_;
  U lane_{};
};

}  // namespace kernel
}  // namespace lowrank
