// Rules on a device: what happens in the projected coordinates. Elementwise rules are an element function, applied wherever R is at
// hand: over the core, or between a gradient and a weight.
//
// RuleState<Options, S, B> has
//   RuleState(options, r, k, fan_out, fan_in)     the moments' shape and the user's
//   follows_memory   of a gradient that is not projected the moments lie as the weight does; otherwise always by columns
//   element()        a value with begin(control) and S operator()(S x, Index at): the direction of entry `at`, moments updated
//   kernel(R, N, control)    where there is no element(): a kernel from all of R to N
//   motion()         a value: Motion operator()(t, lr), of the rule's t-th step
//   beta1(), beta2() of the bias corrections that a transport of the moments needs; 0: none
//   visit(f)         f(name, Array): what is kept between steps
// Here is Adam's family; momentum_rule.cuh has Lion and Muon's.
#pragma once

#include <lowrank/cuda/control.cuh>
#include <lowrank/cuda/random.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

template <class Options, class S, class B>
class RuleState;

namespace detail {

inline void check_decay(const char* who, double weight_decay) {
  require(weight_decay >= 0 && weight_decay < 1e30, who, "weight_decay", weight_decay, "a number >= 0");
}
inline void check_beta(const char* who, const char* name, double beta) {
  require(beta >= 0 && beta < 1, who, name, beta, "0 <= beta < 1");
}
template <class Options>
void check_adam(const char* who, const Options& o) {
  check_beta(who, "beta1", o.beta1), check_beta(who, "beta2", o.beta2), check_decay(who, o.weight_decay);
  // without it an element that never had a gradient is 0 / 0
  require(o.eps >= 1e-30 && o.eps < 1e30, who, "eps", o.eps, "a number >= 1e-30");
}

}  // namespace detail

/// Of AdamW and its compact forms: bc_i = 1 - beta_i^t.
template <class Options>
struct AdamMotion {
  Options o;

  LOWRANK_HOST_DEVICE double correction(double beta, std::uint64_t t) const {
    if constexpr (requires { o.bias_correction; })
      if (o.bias_correction == BiasCorrection::Off) return 1;
    return 1 - std::pow(beta, double(t));
  }
  LOWRANK_HOST_DEVICE Motion operator()(std::uint64_t t, double lr) const {
    const double root = std::sqrt(correction(o.beta2, t)), decay = 1 - lr * o.weight_decay;
    const bool first = o.decay_order == DecayOrder::BeforeUpdate;
    return {root / correction(o.beta1, t), first ? decay : 1, first ? 1 : decay, root};
  }
};

/// What the rules of Adam's family share: the options and what follows from them.
template <class Options>
class AdamState {
 public:
  AdamState() = default;
  explicit AdamState(const Options& options) : options_(options) {}

  Options& options() { return options_; }
  const Options& options() const { return options_; }
  AdamMotion<Options> motion() const { return {options_}; }
  double beta1() const { return corrected(options_.beta1); }
  double beta2() const { return corrected(options_.beta2); }

 protected:
  Options options_;

 private:
  double corrected(double beta) const {
    if constexpr (requires { options_.bias_correction; }) return options_.bias_correction == BiasCorrection::On ? beta : 0;
    else return beta;
  }
};

/// m <- b1 m + (1-b1) x;  v <- b2 v + (1-b2) x^2;  m / (sqrt(v) + eps)      (arXiv 1412.6980)
template <class S>
struct Adam {
  S b1, c1, b2, c2;
  double eps;
  bool corrected;  // eps is added to the corrected root
  S small = 0;

  template <class Options>
  explicit Adam(const Options& o)
      : b1(S(o.beta1)), c1(S(1 - o.beta1)), b2(S(o.beta2)), c2(S(1 - o.beta2)), eps(o.eps),
        corrected(o.epsilon == Epsilon::AfterCorrection) {}

  LOWRANK_DEVICE void begin(const Control<S>& c) { small = S(eps * (corrected ? c.motion.root : 1.0)); }
  LOWRANK_DEVICE S operator()(S x, S& m, S& v) const {
    m = b1 * m;
    v = b2 * v;
    return add(x, m, v);
  }
  /// From b1 m and b2 v.
  LOWRANK_DEVICE S add(S x, S& m, S& v) const {
    m = std::fma(c1, x, m);
    v = std::fma(c2 * x, x, v);
    return m / (std::sqrt(v) + small);
  }
};

template <class S>
struct AdamElement {
  Adam<S> adam;
  S *first, *second;

  LOWRANK_DEVICE AdamElement begin(const Control<S>& c) const {
    AdamElement e = *this;
    e.adam.begin(c);
    return e;
  }
  LOWRANK_DEVICE S operator()(S x, Index at) const { return adam(x, first[at], second[at]); }
};

template <class S, class B>
class RuleState<AdamW, S, B> : public AdamState<AdamW> {
  using AdamState<AdamW>::options_;

 public:
  static constexpr bool follows_memory = true;

  RuleState() = default;
  RuleState(const AdamW& options, Index r, Index k, Index = 1, Index = 1) : AdamState<AdamW>(options), first_(r, k), second_(r, k) { check(); }

  void check() const { detail::check_adam("lowrank::AdamW", options_); }
  AdamElement<S> element() const { return {Adam<S>(options_), first_.data(), second_.data()}; }
  S* first() const { return first_.data(); }
  S* second() const { return second_.data(); }
  void visit(auto&& f) { f("exp_avg", first_), f("exp_avg_sq", second_); }

 private:
  Array<S, B> first_, second_;
};

/// The moments in bf16, stochastically rounded by half e of stream 2 t under the rule's seed, V by the same with its bytes exchanged, as on
/// the CPU (kernel/codes.hpp).
template <class S>
struct AdamBf16Element {
  Adam<S> adam;
  Bf16 *first, *second;
  std::uint64_t seed, stream = 0;

  LOWRANK_DEVICE AdamBf16Element begin(const Control<S>& c) const {
    AdamBf16Element e = *this;
    e.adam.begin(c);
    e.stream = 2 * c.rule_step;
    return e;
  }
  LOWRANK_DEVICE S operator()(S x, Index at) const {
    S m = S(widen(first[at])), v = S(widen(second[at]));
    const S out = adam(x, m, v);
    const std::uint32_t u = random_half(seed, stream, std::uint64_t(at));
    first[at] = rounded(m, u);
    second[at] = rounded(v, (u & 255) << 8 | u >> 8);
    return out;
  }

 private:
  /// 16 random bits are added to the 16 that are cut off.
  LOWRANK_DEVICE static Bf16 rounded(S x, std::uint32_t u) {
    const float within = float(most(S(-3.3e38f), least(S(3.3e38f), x)));
    return bit_cast<Bf16>(std::uint16_t((bit_cast<std::uint32_t>(within) + u) >> 16));
  }
};

template <class S, class B>
class RuleState<AdamBf16, S, B> : public AdamState<AdamBf16> {
  using AdamState<AdamBf16>::options_;

 public:
  static constexpr bool follows_memory = false;

  RuleState() = default;
  RuleState(const AdamBf16& options, Index r, Index k, Index = 1, Index = 1) : AdamState<AdamBf16>(options), first_(r, k), second_(r, k) { check(); }

  void check() const { detail::check_adam("lowrank::AdamBf16", options_); }
  AdamBf16Element<S> element() const { return {Adam<S>(options_), first_.data(), second_.data(), options_.seed}; }
  void visit(auto&& f) { f("exp_avg", first_), f("exp_avg_sq", second_); }

 private:
  Array<Bf16, B> first_, second_;
};

/// Moments of one byte in blocks of 256 consecutive entries of a tile of 64 columns, one scale each; lowrank/rule/compact_adam.hpp has the
/// codes and the numbers that V is rounded by. R becomes N block by block; N may be R.
template <class S>
struct EightBitDirection {
  static constexpr int threads = 256, tile = 64;
  Adam<S> adam;
  std::int8_t* first;
  std::uint8_t* second;
  S* scales;
  Index r, k;
  std::uint64_t seed;
  const S* core;
  S* direction;
  const Control<S>* control;

  static Index blocks(Index r) { return ceil_div(r * tile, threads); }  // of a tile
  Grid grid() const { return {blocks(r) * ceil_div(k, tile), 2 * shared_bytes<S>(threads)}; }

  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    const Index per_tile = ceil_div(r * tile, threads), at = block.index() / per_tile, b = block.index() % per_tile;
    const Index e0 = at * tile * r + b * threads, n = least<Index>(threads, r * least<Index>(tile, k - at * tile) - b * threads);
    S* scale = scales + block.index() * 2;
    auto m = block.template local<S>();
    auto v = block.template local<S>();
    S* largest = block.template shared<S>(threads);
    S* largest_v = block.template shared<S>(threads);
    block.each([&](int t) {
      largest[t] = largest_v[t] = 0;
      if (t >= n) return;
      if (control->go == 0) {
        direction[e0 + t] = 0;
        return;
      }
      Adam<S> rule = adam;
      rule.begin(*control);
      // m <- b1 m + (1-b1) x of m = scale sgn(q) q^2 / 127^2, and v of v = scale c^4 / 255^4, one factor for each
      const int q = first[e0 + t], c = second[e0 + t];
      m[t] = S(double(adam.b1) * double(scale[0]) / (127.0 * 127.0)) * S(q < 0 ? -q * q : q * q);
      v[t] = S(double(adam.b2) * double(scale[1]) / (255.0 * 255.0 * 255.0 * 255.0)) * (S(c * c) * S(c * c));
      direction[e0 + t] = rule.add(core[e0 + t], m[t], v[t]);
      largest[t] = m[t] < 0 ? -m[t] : m[t];
      largest_v[t] = v[t];
    });
    for (int half = threads / 2; half > 0; half /= 2)
      block.each([&](int t) {
        if (t >= half) return;
        largest[t] = most(largest[t], largest[t + half]);
        largest_v[t] = most(largest_v[t], largest_v[t + half]);
      });
    block.each([&](int t) {
      if (t >= n || control->go == 0) return;
      const S one = largest[0], two = largest_v[0];
      if (t == 0) scale[0] = one, scale[1] = two;
      const Index e = e0 + t;
      constexpr S tiny = sizeof(S) == 4 ? S(0x1p-126) : S(0x1p-1022);
      const int q = int(std::nearbyint(std::sqrt((m[t] < 0 ? -m[t] : m[t]) * (1 / most(one, tiny))) * S(127)));
      first[e] = std::int8_t(m[t] < 0 ? -q : q);
      second[e] = fourth_root(v[t], v[t] * (1 / most(two, tiny)), random_half(seed, 2 * control->rule_step, std::uint64_t(e)));
    });
  }

 private:
  /// c with (c / 255)^4 = y on average, kernel/codes.hpp: the number of b >= 0 with b^4 + u ((b + 1)^4 - b^4) < 255^4 y, taken for 1 below that.
  LOWRANK_DEVICE static std::uint8_t fourth_root(S v, S share, std::uint32_t random) {
    if (!(v > 0)) return 0;
    constexpr S top = S(255.0 * 255.0 * 255.0 * 255.0), last = top * (1 - (sizeof(S) == 4 ? S(0x1p-24) : S(0x1p-53)));
    const S y = least(most(share * top, S(1)), last), u = S(random) * S(1.0 / 65536);
    const S b = std::nearbyint(std::sqrt(std::sqrt(y)) - u), h = b + S(0.5), step = h * ((h * h) * S(4) + 1);
    return std::uint8_t(u * step < y - least(b * b * (b * b), y) ? b + 1 : b);
  }
};

template <class S, class B>
class RuleState<Adam8bit, S, B> : public AdamState<Adam8bit> {
  using AdamState<Adam8bit>::options_;

 public:
  static constexpr bool follows_memory = false;

  RuleState() = default;
  RuleState(const Adam8bit& options, Index r, Index k, Index = 1, Index = 1)
      : AdamState<Adam8bit>(options), first_(r, k), second_(r, k), scales_(2 * EightBitDirection<S>::blocks(r), ceil_div(k, EightBitDirection<S>::tile)) { check(); }

  void check() const { detail::check_adam("lowrank::Adam8bit", options_); }
  /// In place of element(): a kernel from R to N.
  EightBitDirection<S> kernel(const S* core, S* direction, const Control<S>* control) const {
    return {Adam<S>(options_), first_.data(), second_.data(), scales_.data(), first_.rows(), first_.cols(), options_.seed, core, direction, control};
  }
  void visit(auto&& f) { f("exp_avg", first_), f("exp_avg_sq", second_), f("scales", scales_); }

 private:
  Array<std::int8_t, B> first_;
  Array<std::uint8_t, B> second_;
  Array<S, B> scales_;
};

}  // namespace cuda
}  // namespace lowrank
