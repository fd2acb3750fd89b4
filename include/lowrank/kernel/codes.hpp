// Codes<Bytes>: moments in few bits, a register at a time. Decoding is products alone, so its bits are those of every kernel set and
// flag; sets built with the same flags encode to the same codes (a compiler may fuse a multiply with an add there). A step of Adam8bit
// or AdamBf16 on 4096 x 4096 takes a twentieth of the time it took number by number.
#pragma once

#include <algorithm>  // std::max
#include <cstdint>    // std::int8_t, std::uint8_t, std::uint16_t, std::uint64_t
#include <limits>     // std::numeric_limits

#include <lowrank/kernel/vector.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace kernel {

namespace detail {

/// n numbers of type T in one vector.
template <class T, Index n>
struct Pack {
  typedef T Raw __attribute__((vector_size(n * Index(sizeof(T)))));
};

}  // namespace detail

template <int Bytes>
class Codes {
  template <class S>
  using Register = Vec<S, Bytes>;

 public:
  /// Numbers first, first + 1, ... of 16 random bits: halves of the 32-bit words of (seed, stream), the lower one first.
  /// first is a multiple of 8; there is room for n rounded up to 64. Philox on 64-bit lanes (core/rng.hpp), a block in each.
  static void random_halves(Index n, std::uint64_t seed, std::uint64_t stream, std::uint64_t first, std::uint16_t* out) {
    using U = typename detail::Pack<std::uint64_t, Bytes / 8>::Raw;
    constexpr Index L = Bytes / 8;
    const U low = U{} + 0xFFFFFFFFu;
    for (Index e = 0; e < n; e += 8 * L, out += 8 * L) {
      U block = U{} + (first + std::uint64_t(e)) / 8;
      for (Index l = 0; l < L; ++l) block[l] += std::uint64_t(l);
      U c0 = block & low, c1 = block >> 32, c2 = U{} + (stream & 0xFFFFFFFFu), c3 = U{} + (stream >> 32);
      auto k0 = std::uint32_t(seed), k1 = std::uint32_t(seed >> 32);
      for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        const U a = multiply_low_halves(c0, U{} + 0xD2511F53u), b = multiply_low_halves(c2, U{} + 0xCD9E8D57u);
        c0 = (b >> 32) ^ (c1 & low) ^ k0;
        c2 = (a >> 32) ^ (c3 & low) ^ k1;
        c1 = b;
        c3 = a;
      }
      const U front = (c0 & low) | (c1 << 32), back = (c2 & low) | (c3 << 32);
      for (Index l = 0; l < L; ++l) {
        const std::uint64_t words[2] = {front[l], back[l]};
        std::memcpy(out + 8 * l, words, 16);
      }
    }
  }

  /// m = scale_m sgn(q) (q / 127)^2,  v = scale_v (c / 255)^4
  template <class S>
  static void decode8(Index n, const std::int8_t* q, const std::uint8_t* c, S scale_m, S scale_v, S* m, S* v) {
    const auto one = Register<S>::all(scale_m / S(127 * 127)), two = Register<S>::all(scale_v), unit = Register<S>::all(S(1) / S(255 * 255));
    static_assert(S(255 * 255) * (S(1) / S(255 * 255)) == 1, "the largest of a block comes back as it is");
    sweep<S>(n, [&](Index i, Index part) LOWRANK_LAMBDA_INLINE {
      const Register<S> x = numbers<S>(q + i, part), y = numbers<S>(c + i, part);
      (one * (x * abs(x))).store(m + i, part);
      const Register<S> square = (y * y) * unit;
      (two * (square * square)).store(v + i, part);
    });
  }

  /// The largest |m| and v of a block.
  template <class S>
  static void largest(Index n, const S* m, const S* v, S& of_m, S& of_v) {
    Register<S> a = Register<S>::zero(), b = Register<S>::zero();
    sweep<S>(n, [&](Index i, Index part) LOWRANK_LAMBDA_INLINE {
      const Register<S> x = abs(Register<S>::load(m + i, part)), y = Register<S>::load(v + i, part);
      a.v = x.v > a.v ? x.v : a.v;
      b.v = y.v > b.v ? y.v : b.v;
    });
    of_m = of_v = 0;
    for (Index l = 0; l < Register<S>::lanes; ++l) {
      of_m = a.v[l] > of_m ? a.v[l] : of_m;
      of_v = b.v[l] > of_v ? b.v[l] : of_v;
    }
  }

  /// The codes of m and v >= 0, whose largest are given: q to nearest; c the code below or the one above, between which v lies,
  /// the upper one when a random number of 16 bits says so, right on average; never 0 unless v is.
  template <class S>
  static void encode8(Index n, const S* m, const S* v, S scale_m, S scale_v, const std::uint16_t* random, std::int8_t* q,
                      std::uint8_t* c) {
    constexpr S tiny = std::numeric_limits<S>::min(), top = S(255.0 * 255.0 * 255.0 * 255.0);
    const auto one = Register<S>::all(S(1) / std::max(scale_m, tiny)), two = Register<S>::all(S(1) / std::max(scale_v, tiny));
    const auto zero = Register<S>::zero(), unit = Register<S>::all(S(1));
    const auto power = [](Register<S> x) LOWRANK_LAMBDA_INLINE { return (x * x) * (x * x); };
    sweep<S>(n, [&](Index i, Index part) LOWRANK_LAMBDA_INLINE {
      const Register<S> x = Register<S>::load(m + i, part), y = Register<S>::load(v + i, part) * two, u = numbers<S>(random + i, part);
      const Register<S> near = whole(sqrt(abs(x) * one) * Register<S>::all(S(127)) + Register<S>::all(S(0.5)));
      store_codes(Register<S>{x.v < zero.v ? -near.v : near.v}, q + i, part);
      const Register<S> root = whole(sqrt(sqrt(y)) * Register<S>::all(S(255)));
      const Register<S> below{root.v > S(254) ? zero.v + S(254) : root.v}, lower = power(below), step = power(below + unit) - lower;
      const Register<S> beyond = y * Register<S>::all(top) - lower, chance = u * Register<S>::all(S(1) / S(65536)) * step;
      const Register<S> code{chance.v < beyond.v ? below.v + S(1) : below.v};
      const Register<S> kept{code.v < unit.v ? unit.v : code.v};
      store_codes(Register<S>{Register<S>::load(v + i, part).v > zero.v ? kept.v : zero.v}, c + i, part);
    });
  }

  /// bf16 is the upper half of a float.
  template <class S>
  static void decode_bf16(Index n, const std::uint16_t* x, S* out) {
    sweep<S>(n, [&](Index i, Index part) LOWRANK_LAMBDA_INLINE {
      const Words<S> bits = __builtin_convertvector(raw<S>(x + i, part), Words<S>) << 16;
      Register<S>{__builtin_convertvector(reinterpret<Floats<S>>(bits), typename Register<S>::Raw)}.store(out + i, part);
    });
  }
  /// Rounded to one of the two neighbours, right on average: 16 random bits are added to the 16 that are cut off. `turn`: the bytes
  /// of a random number exchanged, for a second use of it. Numbers beyond 3.3e38 become that.
  template <class S>
  static void encode_bf16(Index n, const S* x, const std::uint16_t* random, bool turn, std::uint16_t* out) {
    const auto limit = Register<S>::all(S(3.3e38f)), minus = Register<S>::all(S(-3.3e38f));
    sweep<S>(n, [&](Index i, Index part) LOWRANK_LAMBDA_INLINE {
      Register<S> a = Register<S>::load(x + i, part);
      a.v = a.v > limit.v ? limit.v : a.v < minus.v ? minus.v : a.v;
      const Words<S> bits = reinterpret<Words<S>>(__builtin_convertvector(a.v, Floats<S>));
      Words<S> u = __builtin_convertvector(raw<S>(random + i, part), Words<S>);
      if (turn) u = ((u & 255) << 8) | (u >> 8);
      const auto rounded = __builtin_convertvector((bits + u) >> 16, Halves<S>);
      std::memcpy(out + i, &rounded, std::size_t(part) * sizeof(std::uint16_t));
    });
  }

 private:
  template <class S>
  using Words = typename detail::Pack<std::uint32_t, Register<S>::lanes>::Raw;
  template <class S>
  using Floats = typename detail::Pack<float, Register<S>::lanes>::Raw;
  template <class S>
  using Halves = typename detail::Pack<std::uint16_t, Register<S>::lanes>::Raw;
  template <class S>
  using Whole = typename detail::Pack<std::int32_t, Register<S>::lanes>::Raw;

  template <class To, class From>
  static LOWRANK_INLINE To reinterpret(const From& x) {
    static_assert(sizeof(To) == sizeof(From));
    To y;
    std::memcpy(&y, &x, sizeof(To));
    return y;
  }
  template <class S, class T>
  static LOWRANK_INLINE auto raw(const T* p, Index part) {
    typename detail::Pack<T, Register<S>::lanes>::Raw x{};
    std::memcpy(&x, p, std::size_t(part) * sizeof(T));
    return x;
  }
  /// In two steps from bytes: g++ 12 widens them to 32 bits one by one.
  template <class S, class T>
  static LOWRANK_INLINE Register<S> numbers(const T* p, Index part) {
    using Middle = std::conditional_t<std::is_signed_v<T>, std::int16_t, std::uint16_t>;
    const auto middle = __builtin_convertvector(raw<S>(p, part), typename detail::Pack<Middle, Register<S>::lanes>::Raw);
    return {__builtin_convertvector(__builtin_convertvector(middle, Whole<S>), typename Register<S>::Raw)};
  }
  /// x >= 0 without its fraction.
  template <class S>
  static LOWRANK_INLINE Register<S> whole(Register<S> x) {
    return {__builtin_convertvector(__builtin_convertvector(x.v, Whole<S>), typename Register<S>::Raw)};
  }
  template <class S, class T>
  static LOWRANK_INLINE void store_codes(Register<S> x, T* p, Index part) {
    const auto codes = __builtin_convertvector(__builtin_convertvector(x.v, Whole<S>), typename detail::Pack<T, Register<S>::lanes>::Raw);
    std::memcpy(p, &codes, std::size_t(part) * sizeof(T));
  }
  /// f(i, number of lanes in use), that number a constant for all but the last register.
  template <class S, class F>
  static LOWRANK_INLINE void sweep(Index n, const F& f) {
    Index i = 0;
    for (; i + Register<S>::lanes <= n; i += Register<S>::lanes) f(i, Register<S>::lanes);
    if (i < n) f(i, n - i);
  }
};

}  // namespace kernel
}  // namespace lowrank
