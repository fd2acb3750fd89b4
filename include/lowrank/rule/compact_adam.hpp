// CompactAdam: AdamW (rule/adamw.hpp has the equations) whose moments are kept in fewer bits. A tile of moments is decoded, a
// step is taken in S, and N is made from what came out before it is encoded again, so rounding enters through the state only.
//
// Int8 (blocks of 256 consecutive entries of a tile of 64 columns, one scale s = max for each moment):
//   M = s sgn(q) (q / 127)^2, rounded to nearest;   V = s (q / 255)^4, rounded up with the probability that makes it right on
//   average, and never to 0 unless V is 0. Rounded deterministically, V would stick: it changes by 1 - b2 a step, its codes
//   are 4 / q apart. A block that decays as a whole decays exactly, in its scale.
// Bf16: both moments stochastically rounded. Rounded to nearest, 0.999 v is v for every bf16 v.
// The number of a rounding is element e of stream 2 t (+ 1 in new coordinates) under `seed`, t the rule's steps.
// State: Int8 2 r k bytes and 2 scales per started block; Bf16 4 r k bytes.
#pragma once

#include <cstdint>  // std::int8_t, std::uint8_t
#include <vector>

#include <lowrank/core/rng.hpp>
#include <lowrank/linalg/store.hpp>
#include <lowrank/rule/rule.hpp>

namespace lowrank::inline LOWRANK_ABI {
namespace detail {

constexpr Index moment_block = 256;

template <class S, class K>
class Int8Moments {
 public:
  Int8Moments() = default;
  Int8Moments(Index r, Index k)
      : first_(Buffer<std::int8_t>::shaped(r, k)),
        second_(Buffer<std::uint8_t>::shaped(r, k)),
        scales_(Buffer<S>::shaped(2 * ((r * linalg::tile_columns + moment_block - 1) / moment_block),
                                  (k + linalg::tile_columns - 1) / linalg::tile_columns)) {}

  Index rows() const { return first_.rows(); }
  Index cols() const { return first_.cols(); }

  /// n <= 256 entries from entry e, the b-th block of tile t.
  void load(Index t, Index b, Index e, Index n, S* m, S* v) const {
    const S one = scales_(2 * b, t) / S(127 * 127), two = scales_(2 * b + 1, t);
    for (Index i = 0; i < n; ++i) {
      const int q = first_[e + i];
      const S root = S(second_[e + i]) / S(255), square = root * root;
      m[i] = one * S(q < 0 ? -q * q : q * q);
      v[i] = two * (square * square);
    }
  }
  void store(Index t, Index b, Index e, Index n, const S* m, const S* v, std::uint64_t seed, std::uint64_t stream) {
    S one = 0, two = 0;
    for (Index i = 0; i < n; ++i) {
      one = std::max(one, m[i] < 0 ? -m[i] : m[i]);
      two = std::max(two, v[i]);
    }
    scales_(2 * b, t) = one;
    scales_(2 * b + 1, t) = two;
    std::array<std::uint32_t, 4> words{};
    for (Index i = 0; i < n; ++i) {
      if (i == 0 || (e + i) % 4 == 0) words = random_block(seed, stream, std::uint64_t(e + i) / 4);
      const double x = one > 0 ? std::sqrt(std::abs(double(m[i])) / double(one)) * 127 : 0;
      const int q = int(x + 0.5);
      first_[e + i] = std::int8_t(m[i] < 0 ? -q : q);
      second_[e + i] = fourth_root(two > 0 ? double(v[i]) / double(two) : 0, unit(words[std::size_t((e + i) % 4)]));
    }
  }

  void set_zero() {
    first_.set_zero();
    second_.set_zero();
    scales_.set_zero();
  }
  bool valid() const {
    for (Index i = 0; i < scales_.size(); ++i)
      if (!(scales_[i] >= 0)) return false;
    return true;
  }
  static void visit(auto& self, auto&& f) {
    f("exp_avg", self.first_);
    f("exp_avg_sq", self.second_);
    f("scales", self.scales_);
  }

 private:
  /// q with (q / 255)^4 = x on average: the code below or the one above, between which x lies.
  static std::uint8_t fourth_root(double x, float u) {
    if (!(x > 0)) return 0;
    const double below = std::min(254.0, std::floor(255 * std::sqrt(std::sqrt(x))));
    const auto power = [](double q) { return q * q * q * q; };
    const double y = x * power(255), share = (y - power(below)) / (power(below + 1) - power(below));
    const double q = below + (double(u) < share ? 1 : 0);
    return std::uint8_t(std::max(1.0, q));
  }

  Buffer<std::int8_t> first_;
  Buffer<std::uint8_t> second_;
  Buffer<S> scales_;
};

template <class S, class K>
class Bf16Moments {
 public:
  Bf16Moments() = default;
  Bf16Moments(Index r, Index k)
      : first_(Buffer<Eigen::bfloat16>::shaped(r, k)), second_(Buffer<Eigen::bfloat16>::shaped(r, k)) {}

  Index rows() const { return first_.rows(); }
  Index cols() const { return first_.cols(); }

  void load(Index, Index, Index e, Index n, S* m, S* v) const {
    for (Index i = 0; i < n; ++i) {
      m[i] = S(float(first_[e + i]));
      v[i] = S(float(second_[e + i]));
    }
  }
  void store(Index, Index, Index e, Index n, const S* m, const S* v, std::uint64_t seed, std::uint64_t stream) {
    std::array<std::uint32_t, 4> words{};
    for (Index i = 0; i < n; ++i) {
      const Index at = e + i;
      if (i == 0 || at % 2 == 0) words = random_block(seed, stream, std::uint64_t(at) / 2);
      const auto word = std::size_t(2 * (at % 2));
      first_[at] = round(m[i], unit(words[word]));
      second_[at] = round(v[i], unit(words[word + 1]));
    }
  }

  void set_zero() {
    first_.set_zero();
    second_.set_zero();
  }
  bool valid() const {
    for (Index i = 0; i < second_.size(); ++i)
      if (!(float(second_[i]) >= 0) || !is_finite(double(float(second_[i]))) || !is_finite(double(float(first_[i])))) return false;
    return true;
  }
  static void visit(auto& self, auto&& f) {
    f("exp_avg", self.first_);
    f("exp_avg_sq", self.second_);
  }

 private:
  static Eigen::bfloat16 round(S x, float u) {
    constexpr S largest = S(3.3e38f);  // below bf16's
    return linalg::detail::round_stochastically<Eigen::bfloat16>(float(std::clamp(x, -largest, largest)), u);
  }

  Buffer<Eigen::bfloat16> first_, second_;
};

template <class Options, class S, class K, class Moments>
class CompactAdam {
 public:
  static constexpr bool whole_tiles = true;

  CompactAdam() = default;
  CompactAdam(const char* who, const Options& options, Index r, Index k) : options_(options), moments_(r, k), who_(who) { check(); }

  Options& options() { return options_; }
  const Options& options() const { return options_; }

  void check() const {
    check_beta(who_, "beta1", options_.beta1);
    check_beta(who_, "beta2", options_.beta2);
    require(options_.eps >= 1e-30 && options_.eps < 1e30, who_, "eps", options_.eps, "a number >= 1e-30");
    check_decay(who_, options_.weight_decay);
  }

  void advance() { ++steps_; }

  /// Whole columns, contiguous: ldr = ldn = m = r, i0 = 0, j0 a multiple of 64.
  void direction(const S* R, Index, S* N, Index, Index, Index r, Index j0, Index w) {
    const bool after = options_.epsilon == Epsilon::AfterCorrection;
    const double eps = options_.eps * (after ? std::sqrt(correction(options_.beta2)) : 1.0);
    S m[moment_block], v[moment_block];
    for (Index c = 0; c < w; c += linalg::tile_columns)
      each_block(r, j0 + c, std::min(linalg::tile_columns, w - c), [&](Index t, Index b, Index e, Index from, Index n) {
        moments_.load(t, b, e, n, m, v);
        K::adam(n, R + c * r + from, m, v, N + c * r + from, options_.beta1, options_.beta2, eps);
        moments_.store(t, b, e, n, m, v, options_.seed, 2 * steps_);
      });
  }

  double gain() const { return std::sqrt(correction(options_.beta2)) / correction(options_.beta1); }
  Decay decay(double lr) const {
    const double factor = 1 - lr * options_.weight_decay;
    return options_.decay_order == DecayOrder::BeforeUpdate ? Decay{factor, 1} : Decay{1, factor};
  }

  void transport(const linalg::BasisChange<S>& change, const linalg::TransportWork<S, K>& work,
                 const linalg::Team<S, K>& team) {
    using Kind = typename linalg::BasisChange<S>::Kind;
    if (steps_ == 0 || change.kind == Kind::Stay) return;
    if (change.kind == Kind::Reset) {
      moments_.set_zero();
      steps_ = 0;
      return;
    }
    const linalg::MomentTransport<S, K> move(change, true, true, correction(options_.beta1), correction(options_.beta2), work, team);
    const Index r = moments_.rows(), k = moments_.cols(), tile = linalg::tile_columns;
    for_each((k + tile - 1) / tile, team.threads(), [&](Index t, int slot) {
      const Index w = std::min(tile, k - t * tile);
      S* M = work.tiles + (slot * 4 + 2) * r * tile;
      S* V = M + r * tile;
      each_block(r, t * tile, w, [&](Index i, Index b, Index e, Index from, Index n) { moments_.load(i, b, e, n, M + from, V + from); });
      move(M, V, w, slot);
      each_block(r, t * tile, w, [&](Index i, Index b, Index e, Index from, Index n) {
        moments_.store(i, b, e, n, M + from, V + from, options_.seed, 2 * steps_ + 1);
      });
    });
  }

  /// Moments of another rank: row i was row from[i], or starts at zero (-1). Allocates.
  void inherit(const CompactAdam& old, const std::vector<Index>& from) {
    steps_ = old.steps_;
    const Index r = moments_.rows(), before = old.moments_.rows(), k = moments_.cols(), tile = linalg::tile_columns;
    Buffer<S> then(before * tile, 2), now(r * tile, 2);
    for (Index t = 0; t * tile < k; ++t) {
      const Index w = std::min(tile, k - t * tile);
      each_block(before, t * tile, w, [&](Index i, Index b, Index e, Index at, Index n) {
        old.moments_.load(i, b, e, n, then.column(0) + at, then.column(1) + at);
      });
      for (Index m = 0; m < 2; ++m)
        for (Index j = 0; j < w; ++j)
          for (Index i = 0; i < r; ++i) {
            const Index was = from[std::size_t(i)];
            now(i + j * r, m) = was < 0 ? S(0) : then(was + j * before, m);
          }
      each_block(r, t * tile, w, [&](Index i, Index b, Index e, Index at, Index n) {
        moments_.store(i, b, e, n, now.column(0) + at, now.column(1) + at, options_.seed, 2 * steps_ + 1);
      });
    }
  }

  bool valid() const { return moments_.valid(); }
  void visit(auto&& f) {
    Moments::visit(moments_, f);
    f("rule_steps", steps_);
  }
  void visit(auto&& f) const {
    Moments::visit(moments_, f);
    f("rule_steps", steps_);
  }

 private:
  double correction(double beta) const { return 1 - std::pow(beta, double(steps_)); }

  /// f(tile, block, first entry of the state, first entry of the tile, count)
  template <class F>
  static void each_block(Index r, Index j0, Index w, const F& f) {
    for (Index b = 0; b * moment_block < r * w; ++b)
      f(j0 / linalg::tile_columns, b, j0 * r + b * moment_block, b * moment_block, std::min(moment_block, r * w - b * moment_block));
  }

  Options options_;
  Moments moments_;
  std::uint64_t steps_ = 0;
  const char* who_ = "";
};

}  // namespace detail
}  // namespace lowrank
