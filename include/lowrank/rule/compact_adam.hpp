// CompactAdam: AdamW (rule/adamw.hpp has the equations) whose moments are kept in fewer bits. A tile of moments is decoded, a
// step is taken in S, and N is made from what came out before it is encoded again, so rounding enters through the state only.
//
// Int8 (blocks of 256 consecutive entries of a tile of 64 columns, one scale s = max for each moment):
//   M = s sgn(q) (q / 127)^2, rounded to nearest;   V = s (q / 255)^4, rounded up with the probability that makes it right on
//   average, and never to 0 unless V is 0. Rounded deterministically, V would stick: it changes by 1 - b2 a step, its codes
//   are 4 / q apart. A block that decays as a whole decays in its scale, to the rounding of S.
// Bf16: both moments stochastically rounded. Rounded to nearest, 0.999 v is v for every bf16 v.
// The number of a rounding is half e (16 bits) of stream 2 t (+ 1 in new coordinates) under `seed`, t the rule's steps; for bf16 that
// is as many bits as are cut off, and V takes the same number with its bytes exchanged.
// State: Int8 2 r k bytes and 2 scales per started block; Bf16 4 r k bytes.
#pragma once

#include <cstdint>  // std::int8_t, std::uint8_t
#include <numeric>  // std::gcd
#include <vector>

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

  /// Whether the pieces of columns of r that begin at multiples of moment_block have blocks of their own.
  static bool splits(Index r) { return r % moment_block == 0; }

  /// A step of Adam on n entries in runs, from entry e on, which begins the b-th block of tile t.
  template <class Ahead>
  void step(Index t, Index b, Index e, Index n, const kernel::Runs& runs, const S* g, S* out, const auto& options, double eps,
            std::uint64_t stream, Ahead& ahead) {
    K::adam8(n, g, first_.data() + e, second_.data() + e, &scales_(2 * b, t), out, options.beta1, options.beta2, eps, options.seed, stream,
             std::uint64_t(e), runs, ahead);
  }
  /// n <= 256 entries from entry e, the b-th block of tile t.
  void load(Index t, Index b, Index e, Index n, S* m, S* v) const {
    K::decode8(n, first_.data() + e, second_.data() + e, scales_(2 * b, t), scales_(2 * b + 1, t), m, v);
  }
  void store(Index t, Index b, Index e, Index n, const S* m, const S* v, std::uint64_t seed, std::uint64_t stream) {
    std::uint16_t random[moment_block];
    K::random_halves(n, seed, stream, std::uint64_t(e), random);
    S& one = scales_(2 * b, t);
    S& two = scales_(2 * b + 1, t);
    K::largest(n, m, v, one, two);
    K::encode8(n, m, v, one, two, random, first_.data() + e, second_.data() + e);
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

  static bool splits(Index r) { return r % 8 == 0; }  // numbers of a draw

  template <class Ahead>
  void step(Index, Index, Index e, Index n, const kernel::Runs& runs, const S* g, S* out, const auto& options, double eps,
            std::uint64_t stream, Ahead& ahead) {
    K::adam_bf16(n, g, bits(first_) + e, bits(second_) + e, out, options.beta1, options.beta2, eps, options.seed, stream, std::uint64_t(e), runs,
                 ahead);
  }
  void load(Index, Index, Index e, Index n, S* m, S* v) const {
    K::decode_bf16(n, bits(first_) + e, m);
    K::decode_bf16(n, bits(second_) + e, v);
  }
  void store(Index, Index, Index e, Index n, const S* m, const S* v, std::uint64_t seed, std::uint64_t stream) {
    std::uint16_t random[moment_block];
    K::random_halves(n, seed, stream, std::uint64_t(e), random);
    K::encode_bf16(n, m, random, false, bits(first_) + e);
    K::encode_bf16(n, v, random, true, bits(second_) + e);
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
  static_assert(sizeof(Eigen::bfloat16) == sizeof(std::uint16_t));
  static std::uint16_t* bits(Buffer<Eigen::bfloat16>& x) { return reinterpret_cast<std::uint16_t*>(x.data()); }
  static const std::uint16_t* bits(const Buffer<Eigen::bfloat16>& x) { return reinterpret_cast<const std::uint16_t*>(x.data()); }

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

  /// Columns that end where a block does, so that they can be handled alone, some thousand entries; 64 always do.
  static Index columns_at_once(Index r) {
    const Index least = moment_block / std::gcd(r, moment_block);
    return std::min(linalg::tile_columns, std::max<Index>(1, 4096 / (least * r)) * least);
  }

  /// Whether rows [i0, i0 + 256) can be handled alone, i0 a multiple of 256.
  static bool splits(Index r) { return Moments::splits(r); }

  /// Whole columns, contiguous: ldr = ldn = m = r, i0 = 0, j0 a multiple of columns_at_once(r) within a tile of 64. Where r splits, also
  /// rows [i0, i0 + m), no more than 256, of columns from anywhere on, ldr = ldn. `ahead` is asked once for every 64 bytes of N.
  template <class Ahead = kernel::Idle>
  void direction(const S* R, Index ldr, S* N, Index, Index i0, Index m, Index j0, Index w, Ahead ahead = {}) {
    const bool after = options_.epsilon == Epsilon::AfterCorrection;
    const double eps = options_.eps * (after ? std::sqrt(correction(options_.beta2)) : 1.0);
    const Index r = moments_.rows();
    const kernel::Runs runs = ldr == r && m == r ? kernel::Runs{} : kernel::Runs{m, ldr, r};
    for (Index c = 0, columns = 0; c < w; c += columns) {
      const Index t = (j0 + c) / linalg::tile_columns, first = (j0 + c) % linalg::tile_columns;
      columns = std::min(linalg::tile_columns - first, w - c);
      moments_.step(t, (first * r + i0) / moment_block, (j0 + c) * r + i0, columns * m, runs, R + c * ldr, N + c * ldr, options_, eps,
                    2 * steps_, ahead);
    }
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

  /// f(tile, block, first entry of the state, first entry of these columns, count)
  template <class F>
  static void each_block(Index r, Index j0, Index w, const F& f) {
    const Index first = j0 % linalg::tile_columns * r / moment_block;
    for (Index b = 0; b * moment_block < r * w; ++b)
      f(j0 / linalg::tile_columns, first + b, j0 * r + b * moment_block, b * moment_block, std::min(moment_block, r * w - b * moment_block));
  }

  Options options_;
  Moments moments_;
  std::uint64_t steps_ = 0;
  const char* who_ = "";
};

}  // namespace detail
}  // namespace lowrank
