// Codes<Bytes>: moments in few bits, a register at a time, and the steps of Adam on them.
//
// What is stored does not depend on the kernel set, the compiler or the machine (the GPU's codes are the same, lowrank/cuda/rule.cuh):
// no product that was rounded feeds a sum directly, where one compiler would fuse the two and another not. Between them stands a
// comparison. Where a fused and an unfused result are the same, as of small whole numbers, the compiler may do as it likes.
#pragma once

#include <algorithm>  // std::max, std::min
#include <cstdint>    // std::int8_t, std::uint8_t, std::uint16_t, std::uint64_t
#include <limits>     // std::numeric_limits

#include <lowrank/kernel/convert.hpp>
#include <lowrank/kernel/operations.hpp>
#include <lowrank/kernel/philox.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace kernel {

/// Entries in runs of `length`: the numbers of a run begin `values` behind those of the run before, its codes `codes`.
struct Runs {
  Index length = 256, values = 256, codes = 256;
};

template <int Bytes>
class Codes {
  template <class S>
  using Register = Vec<S, Bytes>;

 public:
  /// The most entries that share a scale.
  static constexpr Index code_block = 256;

  /// Numbers first, first + 1, ... of 16 random bits: halves of the 32-bit words of (seed, stream), the lower one first.
  /// first is a multiple of 8; there is room for n rounded up to 64.
  static void random_halves(Index n, std::uint64_t seed, std::uint64_t stream, std::uint64_t first, std::uint16_t* out) {
    const Philox<Bytes> random(seed, stream);
    for (Index e = 0; e < n; e += group) random.draw(first + std::uint64_t(e), out + e);
  }

  /// m = scale_m sgn(q) (q / 127)^2,  v = scale_v (c / 255)^4
  template <class S>
  static void decode8(Index n, const std::int8_t* q, const std::uint8_t* c, S scale_m, S scale_v, S* m, S* v) {
    const Decode8<S> decode(scale_m, scale_v);
    groups(n, [&](Index e, Index count) LOWRANK_LAMBDA_INLINE {
      Registers<S> first, second;
      decode(q + e, c + e, count, first, second);
      first.store(m + e, count);
      second.store(v + e, count);
    });
  }

  /// The largest |m| and v of a block.
  template <class S>
  static void largest(Index n, const S* m, const S* v, S& of_m, S& of_v) {
    Largest<S> most;
    groups(n, [&](Index e, Index count) LOWRANK_LAMBDA_INLINE { most(Registers<S>::load(m + e, count), Registers<S>::load(v + e, count)); });
    of_m = lane_maximum(most.m);
    of_v = lane_maximum(most.v);
  }

  /// The codes of m and v >= 0, whose largest are given: q to nearest; c the code below or the one above, between which v lies,
  /// the upper one when a random number of 16 bits says so, right on average; never 0 unless v is.
  template <class S>
  static void encode8(Index n, const S* m, const S* v, S scale_m, S scale_v, const std::uint16_t* random, std::int8_t* q,
                      std::uint8_t* c) {
    const Encode8<S> encode(scale_m, scale_v);
    groups(n, [&](Index e, Index count) LOWRANK_LAMBDA_INLINE {
      encode(Registers<S>::load(m + e, count), Registers<S>::load(v + e, count), random + e, count, q + e, c + e);
    });
  }

  /// A step of Adam (Operations::adam) on n entries whose moments are codes, every code_block of them with two scales: those at
  /// scales[0], scales[1], then the next. Entry 0 has number `first` among the random numbers, a multiple of 8. Runs are such blocks,
  /// and as many blocks of codes as lie between two, as many pairs of scales. `ahead` is asked for a line of 64 bytes with every 64 of out.
  template <class S, class Ahead = Idle>
  static void adam8(Index n, const S* g, std::int8_t* q, std::uint8_t* c, S* scales, S* out, double beta1, double beta2, double epsilon,
                    std::uint64_t seed, std::uint64_t stream, std::uint64_t first, const Runs& runs = {}, Ahead&& ahead = {}) {
    struct Block {
      S m[code_block], v[code_block];
      std::uint16_t random[code_block];
    } blocks[2];
    const Philox<Bytes> random(seed, stream);
    const typename Operations<Bytes>::template AdamStep<S> step(beta1, beta2, epsilon);
    // a block is encoded while the next one is decoded and stepped: divisions and roots leave the other units idle
    const Index apart = runs.codes / code_block * 2;
    for (Index b = 0, then = 0, now = 0; b * code_block < n + code_block; ++b, then = now) {
      now = std::min(code_block, std::max(n - b * code_block, Index(0)));
      Block& block = blocks[b % 2];
      const Block& last = blocks[(b + 1) % 2];
      const Index at = b * runs.values, code = b * runs.codes;
      S* scale = scales + b * apart;
      // m <- b1 m + (1-b1) x of m = scale w / 127^2, w = sgn(q) q^2, and v of v = scale p / 255^4, p = c^4: one factor for each
      const auto b1 = number<S>(now > 0 ? double(S(beta1)) * double(scale[0]) / square_127 : 0);
      const auto b2 = number<S>(now > 0 ? double(S(beta2)) * double(scale[1]) / fourth_255 : 0);
      const Encode8<S> encode(then > 0 ? scale[-apart] : S(0), then > 0 ? scale[1 - apart] : S(0));
      Largest<S> most;
      const auto forward = [&](Index e, Index count) LOWRANK_LAMBDA_INLINE {
        Registers<S> one = numbers<S>(q + code + e, count), two = numbers<S>(c + code + e, count), x = Registers<S>::load(g + at + e, count);
        auto words = random.begin(first + std::uint64_t(code + e));
        each<S>([&](Index t) LOWRANK_LAMBDA_INLINE {
          one[t] = b1 * (one[t] * abs(one[t]));
          two[t] = two[t] * two[t];
          two[t] = b2 * (two[t] * two[t]);
          x[t] = step.add(x[t], one[t], two[t]);
          random.rounds(words, 10 * t / Registers<S>::count, 10 * (t + 1) / Registers<S>::count);
        });
        x.store(out + at + e, count);
        for (Index line = 0; line < group * Index(sizeof(S)); line += 64) ahead.next();
        fetch_group(g + at + e + far * runs.values);
        fetch_group(q + code + e + far * runs.codes), fetch_group(c + code + e + far * runs.codes);
        one.store(block.m + e, group);
        two.store(block.v + e, group);
        most(one, two);
        random.finish(words, block.random + e);
      };
      const auto finish = [&](Index e, Index count) LOWRANK_LAMBDA_INLINE {
        const Index begin = code - runs.codes + e;
        encode(Registers<S>::load(last.m + e, group), Registers<S>::load(last.v + e, group), last.random + e, count, q + begin, c + begin);
      };
      for (Index e = 0; e < code_block; e += group) {
        if (e + group <= now) forward(e, group);
        else if (e < now) forward(e, now - e);
        if (e + group <= then) finish(e, group);
        else if (e < then) finish(e, then - e);
      }
      if (now > 0) {
        scale[0] = lane_maximum(most.m);
        scale[1] = lane_maximum(most.v);
      }
    }
  }

  /// bf16 is the upper half of a float.
  template <class S>
  static void decode_bf16(Index n, const std::uint16_t* x, S* out) {
    groups(n, [&](Index e, Index count) LOWRANK_LAMBDA_INLINE { from_bf16<S>(x + e, count).store(out + e, count); });
  }
  /// Rounded to one of the two neighbours, right on average: 16 random bits are added to the 16 that are cut off. `turn`: the bytes
  /// of a random number exchanged, for a second use of it. Numbers beyond 3.3e38 become that.
  template <class S>
  static void encode_bf16(Index n, const S* x, const std::uint16_t* random, bool turn, std::uint16_t* out) {
    groups(n, [&](Index e, Index count) LOWRANK_LAMBDA_INLINE { to_bf16(Registers<S>::load(x + e, count), random + e, turn, count, out + e); });
  }

  /// A step of Adam on n entries with moments in bf16, entry 0 having number `first`, a multiple of 8: V is rounded by turned numbers.
  template <class S, class Ahead = Idle>
  static void adam_bf16(Index n, const S* g, std::uint16_t* m, std::uint16_t* v, S* out, double beta1, double beta2, double epsilon,
                        std::uint64_t seed, std::uint64_t stream, std::uint64_t first, const Runs& runs = {}, Ahead&& ahead = {}) {
    std::uint16_t halves[2][group];
    const Philox<Bytes> random(seed, stream);
    const typename Operations<Bytes>::template AdamStep<S> step(beta1, beta2, epsilon);
    random.draw(first, halves[0]);
    Index turn = 0;
    for (Index left = n; left > 0; left -= runs.length, first += std::uint64_t(runs.codes)) {
      const Index here = std::min(runs.length, left);
      groups(here, [&](Index e, Index count) LOWRANK_LAMBDA_INLINE {
        // the next ones: a long chain beside the divisions
        auto words = random.begin(first + std::uint64_t(e + group < here ? e + group : runs.codes));
        Registers<S> one = from_bf16<S>(m + e, count), two = from_bf16<S>(v + e, count), x = Registers<S>::load(g + e, count);
        each<S>([&](Index t) LOWRANK_LAMBDA_INLINE {
          x[t] = step(x[t], one[t], two[t]);
          random.rounds(words, 10 * t / Registers<S>::count, 10 * (t + 1) / Registers<S>::count);
        });
        random.finish(words, halves[1 - turn]);
        x.store(out + e, count);
        for (Index line = 0; line < group * Index(sizeof(S)); line += 64) ahead.next();
        fetch_group(g + e + far * runs.values), fetch_group(m + e + far * runs.codes), fetch_group(v + e + far * runs.codes);
        to_bf16(one, halves[turn], false, count, m + e);
        to_bf16(two, halves[turn], true, count, v + e);
        turn = 1 - turn;
      });
      g += runs.values, out += runs.values, m += runs.codes, v += runs.codes;
    }
  }

 private:
  /// So many entries go side by side, since every one alone is a long chain of operations; they share a draw of random numbers.
  static constexpr Index group = Bytes;
  template <class S>
  struct Registers {
    static constexpr Index count = group / Register<S>::lanes, lanes = Register<S>::lanes;
    Register<S> of[count];
    LOWRANK_INLINE Register<S>& operator[](Index t) { return of[t]; }
    LOWRANK_INLINE const Register<S>& operator[](Index t) const { return of[t]; }

    static LOWRANK_INLINE Registers load(const S* p, Index n) {
      Registers x;
      if (n == group) each<S>([&](Index t) LOWRANK_LAMBDA_INLINE { x[t] = Register<S>::load(p + t * lanes); });
      else each<S>([&](Index t) LOWRANK_LAMBDA_INLINE { x[t] = Register<S>::load(p + t * lanes, part(n, t)); });
      return x;
    }
    LOWRANK_INLINE void store(S* p, Index n) const {
      if (n == group) each<S>([&](Index t) LOWRANK_LAMBDA_INLINE { of[t].store(p + t * lanes); });
      else each<S>([&](Index t) LOWRANK_LAMBDA_INLINE { of[t].store(p + t * lanes, part(n, t)); });
    }
    /// How many of the first n entries register t holds.
    static LOWRANK_INLINE Index part(Index n, Index t) { return std::clamp<Index>(n - t * lanes, 0, lanes); }
  };
  /// f(0), f(1), ... for the registers of a group.
  template <class S, class F>
  static LOWRANK_INLINE void each(const F& f) {
    [&]<Index... T>(std::integer_sequence<Index, T...>) LOWRANK_LAMBDA_INLINE { (f(T), ...); }(std::make_integer_sequence<Index, Registers<S>::count>{});
  }
  template <class S, class F>
  static LOWRANK_INLINE const Registers<S>& each(const F& f, const Registers<S>& x) { each<S>(f); return x; }
  /// f(first entry, entries), of whole groups and what is left.
  template <class F>
  static LOWRANK_INLINE void groups(Index n, const F& f) {
    Index e = 0;
    for (; e + group <= n; e += group) f(e, group);
    if (e < n) f(e, n - e);
  }

  /// What is read is asked for so many runs before: hardware looks ahead within a page only.
  static constexpr Index far = 4;
  template <class T>
  static LOWRANK_INLINE void fetch_group(const T* p) {
    for (Index i = 0; i < group; i += 64 / Index(sizeof(T))) __builtin_prefetch(p + i);
  }
  static constexpr double square_127 = 127.0 * 127.0, fourth_255 = 255.0 * 255.0 * 255.0 * 255.0;
  template <class S>
  static LOWRANK_INLINE Register<S> number(double x) { return Register<S>::all(S(x)); }
  template <class S>
  using Words = typename Pack<std::uint32_t, Register<S>::lanes>::Raw;
  template <class S>
  using Floats = typename Pack<float, Register<S>::lanes>::Raw;
  template <class S>
  using Halves = typename Pack<std::uint16_t, Register<S>::lanes>::Raw;
  template <class S>
  using Whole = typename Pack<std::int32_t, Register<S>::lanes>::Raw;

  template <class S>
  struct Decode8 {
    Register<S> one, two;
    static_assert(S(255 * 255) * (S(1) / S(255 * 255)) == 1, "the largest of a block comes back as it is");

    Decode8(S scale_m, S scale_v) : one(Register<S>::all(scale_m / S(127 * 127))), two(Register<S>::all(scale_v)) {}
    LOWRANK_INLINE void operator()(const std::int8_t* q, const std::uint8_t* c, Index count, Registers<S>& m, Registers<S>& v) const {
      const Registers<S> x = numbers<S>(q, count), y = numbers<S>(c, count);
      each<S>([&](Index t) LOWRANK_LAMBDA_INLINE {
        const Register<S> square = (y[t] * y[t]) * Register<S>::all(S(1) / S(255 * 255));
        m[t] = one * (x[t] * abs(x[t]));
        v[t] = two * (square * square);
      });
    }
  };

  template <class S>
  struct Encode8 {
    Register<S> one, two;

    Encode8(S scale_m, S scale_v) : one(inverse(scale_m)), two(inverse(scale_v)) {}
    LOWRANK_INLINE void operator()(const Registers<S>& m, const Registers<S>& v, const std::uint16_t* random, Index count, std::int8_t* q,
                                   std::uint8_t* c) const {
      // c = the number of b >= 0 with b^4 + u ((b + 1)^4 - b^4) < y = 255^4 v / scale, u in [0, 1), y taken for 1 below that, and 0 for
      // v = 0, which gives c = 0. The fourth root of y, less u, is 0 to 0.21 above the b where both sides are equal: to nearest it is c or
      // c - 1, which the difference there tells. (b + 1)^4 - b^4 = 4 h^3 + h, h = b + 1/2. min(b^4, y) for b^4: see above. u = raw / 2^16.
      constexpr S top = S(fourth_255), last = top * (1 - std::numeric_limits<S>::epsilon() / 2), unit = S(1) / 65536;
      const Registers<S> raw = numbers<S>(random, group);
      Registers<S> y, b, beyond, root;
      Whole<S> below[Registers<S>::count];
      each<S>([&](Index t) LOWRANK_LAMBDA_INLINE {
        const Register<S> scaled = min((v[t] * two) * number<S>(top), number<S>(last));
        y[t].v = v[t].v > S(0) ? max(scaled, number<S>(1)).v : number<S>(0).v;
      });
      each<S>([&](Index t) LOWRANK_LAMBDA_INLINE { root[t] = sqrt(abs(m[t]) * one); });
      each<S>([&](Index t) LOWRANK_LAMBDA_INLINE {
        below[t] = nearest_int(fma(raw[t], number<S>(-unit), near_fourth_root(y[t])));
        b[t].v = __builtin_convertvector(below[t], typename Register<S>::Raw);
      });
      each<S>([&](Index t) LOWRANK_LAMBDA_INLINE {
        const Register<S> square = b[t] * b[t];
        beyond[t] = y[t] - min(square * square, y[t]);
      });
      // q = [127 sqrt(|m| / scale)]
      each<S>([&](Index t) LOWRANK_LAMBDA_INLINE { root[t] = with_sign_of(root[t] * number<S>(127), m[t]); });
      store_codes<S>([&](Index t) LOWRANK_LAMBDA_INLINE { return nearest_int(root[t]); }, q, count);
      store_codes<S>([&](Index t) LOWRANK_LAMBDA_INLINE {
        const Register<S> h = b[t] + number<S>(0.5), step = h * fma(h * h, number<S>(4 * unit), number<S>(unit));
        const auto more = (raw[t] * step).v < beyond[t].v;
        return below[t] - __builtin_convertvector(more, Whole<S>);
      }, c, count);
    }

   private:
    static Register<S> inverse(S scale) { return Register<S>::all(1 / std::max(scale, std::numeric_limits<S>::min())); }
  };

  template <class S>
  struct Largest {
    Register<S> m = Register<S>::zero(), v = m;
    LOWRANK_INLINE void operator()(const Registers<S>& x, const Registers<S>& y) {
      each<S>([&](Index t) LOWRANK_LAMBDA_INLINE {
        m = max(abs(x[t]), m);
        v = max(y[t], v);
      });
    }
  };

  template <class S>
  static LOWRANK_INLINE Registers<S> from_bf16(const std::uint16_t* p, Index n) {
    Registers<S> x;
    each<S>([&](Index t) LOWRANK_LAMBDA_INLINE {
      const auto bits = (Words<S>)widen<std::uint16_t, Register<S>::lanes>(raw<S>(p, n, t)) << 16;
      x[t].v = __builtin_convertvector((Floats<S>)bits, typename Register<S>::Raw);
    });
    return x;
  }
  template <class S>
  static LOWRANK_INLINE void to_bf16(const Registers<S>& x, const std::uint16_t* random, bool turn, Index n, std::uint16_t* p) {
    const auto limit = Register<S>::all(S(3.3e38f)), minus = Register<S>::all(S(-3.3e38f));
    each<S>([&](Index t) LOWRANK_LAMBDA_INLINE {
      auto u = raw<S>(random, group, t);
      if (turn) u = (u << 8) | (u >> 8);
      const auto bits = (Words<S>)__builtin_convertvector(max(min(x[t], limit), minus).v, Floats<S>);
      const auto rounded = __builtin_convertvector((bits + (Words<S>)widen<std::uint16_t, Register<S>::lanes>(u)) >> 16, Halves<S>);
      put<S>(rounded, p, n, t);
    });
  }

  /// The numbers of register t among the first n of a group.
  template <class S, class T>
  static LOWRANK_INLINE auto raw(const T* p, Index n, Index t) {
    typename Pack<T, Register<S>::lanes>::Raw x{};
    std::memcpy(&x, p + t * Register<S>::lanes, std::size_t(Registers<S>::part(n, t)) * sizeof(T));
    return x;
  }
  template <class S, class T, class Numbers>
  static LOWRANK_INLINE void put(const Numbers& x, T* p, Index n, Index t) {
    std::memcpy(p + t * Register<S>::lanes, &x, std::size_t(Registers<S>::part(n, t)) * sizeof(T));
  }
  template <class S, class T>
  static LOWRANK_INLINE Registers<S> numbers(const T* p, Index n) {
    Registers<S> x;
    each<S>([&](Index t) LOWRANK_LAMBDA_INLINE {
      x[t].v = __builtin_convertvector(widen<T, Register<S>::lanes>(raw<S>(p, n, t)), typename Register<S>::Raw);
    });
    return x;
  }
  /// The whole numbers x(t) of register t.
  template <class S, class T, class F>
  static LOWRANK_INLINE void store_codes(const F& x, T* p, Index n) {
    T room[group], *to = n == group ? p : room;
    for (Index t = 0; t < Registers<S>::count; t += 4) {
      const Whole<S> whole[4] = {x(t), x(t + 1), x(t + 2), x(t + 3)};
      store_narrow<T, Register<S>::lanes>(whole, to + t * Register<S>::lanes);
    }
    if (n < group) std::memcpy(p, room, std::size_t(n));
  }
  template <class S>
  static LOWRANK_INLINE S lane_maximum(Register<S> x) {
    x = fold<Register<S>::lanes / 2>(x, std::make_index_sequence<std::size_t(Register<S>::lanes)>{});
    return x.v[0];
  }
  /// The largest of lanes 0, ..., 2 half - 1 in lane 0.
  template <Index half, class S, std::size_t... I>
  static LOWRANK_INLINE Register<S> fold(Register<S> x, std::index_sequence<I...> lanes) {
    if constexpr (half == 0) return x;
    else return fold<half / 2>(max(x, Register<S>{__builtin_shufflevector(x.v, x.v, ((I + std::size_t(half)) % sizeof...(I))...)}), lanes);
  }
};

}  // namespace kernel
}  // namespace lowrank
