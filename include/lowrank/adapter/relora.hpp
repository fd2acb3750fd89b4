// ReLoRA: a LoRA that is merged into its weight and begun anew, so that low-rank changes add up to one of high rank
// (arXiv 2307.05695). After every `every` steps:
//
//   relora.restart(W, t, editors, workspace);   // W <- W + s B A;  A ~ U(+-1/sqrt(n)), B = 0;  moments pruned
//
// Restart, pruning of the moments and a new warm-up of the learning rate (relora_rate) belong together: the paper's
// ablation diverges or gains nothing without one of them. Pruned moments are the reference's 99.9 % of random entries, a
// share of the smallest, or all of them, then with the step count of the bias correction.
//
// Of the published code's defects none is here: it began with A = B = 0, which has no gradient until the first restart,
// and reset its trainable scale to zero, which has none for ever (this scale is fixed).
#pragma once

#include <algorithm>  // std::nth_element

#include <lowrank/adapter/lora.hpp>

namespace lowrank::inline LOWRANK_ABI {

/// What becomes of the moments of A and B at a restart. Random, Smallest: a share of their entries, of each moment by
/// itself, is set to zero. All: every entry, and the rule counts its steps anew.
enum class Prune { Random, Smallest, All };

struct ReLoraOptions {
  LoraOptions lora = {.rank = 128, .alpha = 32, .dropout = 0.1};
  std::uint64_t every = 5000;  // steps
  Prune prune = Prune::Random;
  double share = 0.999;        // of Random and Smallest
};

/// A learning rate with restarts, t from 0, as a multiple of the peak: linear warm-up, then a cosine over all steps that
/// ends at `least`; after each restart a linear ramp up to where the cosine is by then.
struct ReLoraRate {
  std::uint64_t total = 1, warm_up = 0, every = 1, ramp = 0;
  double least = 0.1;

  double operator()(std::uint64_t t) const {
    if (t >= total) return least;
    const auto cosine = [&](std::uint64_t at) {
      if (at >= total) return least;
      const double progress = total > warm_up ? double(at - warm_up) / double(total - warm_up) : 1;
      return least + (1 - least) * 0.5 * (1 + std::cos(3.14159265358979323846 * progress));
    };
    if (t < warm_up) return double(t + 1) / double(warm_up);
    const std::uint64_t begun = t / every * every;  // the last restart
    if (begun == 0 || begun < warm_up || t >= begun + ramp) return cosine(t);
    return cosine(begun + ramp) * double(t - begun + 1) / double(ramp + 1);
  }
};

template <class S, class K = kernel::Best>
class ReLora : public Lora<S, K> {
 public:
  ReLora(Index m, Index n, const ReLoraOptions& options = {}) : Lora<S, K>(m, n, options.lora), options_(options) {
    const char* name = "lowrank::ReLora";
    if (options.every < 1) detail::bad_argument(name, "every = 0", "a number of steps");
    if (!(options.share >= 0 && options.share <= 1)) detail::bad_argument(name, "share = " + std::to_string(options.share), "a number in [0, 1]");
    entries_ = Buffer<S>(std::max(m, n) * options.lora.rank, 1);
  }

  const ReLoraOptions& options() const { return options_; }
  /// After this many optimizer steps, from 1.
  bool due(std::uint64_t t) const { return t > 0 && t % options_.every == 0; }
  std::uint64_t restarts() const { return restarts_; }

  /// editors("A") and editors("B") are the StateEditors of the two parameters.
  template <class M, class E>
  MergeReport restart(M&& W, std::uint64_t t, const E& editors, Workspace& workspace) {
    const MergeReport report = this->add_change(W, 1, workspace);  // refuses what is not finite, before anything else
    ++restarts_;
    restarted_at_ = t;
    detail::fill_uniform(this->A().value, 1 / std::sqrt(double(this->cols())), options_.lora.seed, 16 + restarts_);
    this->B().value.set_zero();
    auto a = editors("A");
    auto b = editors("B");
    prune(a, 0);
    prune(b, 1);
    return report;
  }

  void visit_kept(auto&& f) { f("restarts", restarts_), f("restarted_at", restarted_at_); }
  void visit_kept(auto&& f) const { f("restarts", restarts_), f("restarted_at", restarted_at_); }
  /// A restart that was forgotten is an error: merge and reset only work together.
  void on_step(std::uint64_t t, auto&&) {
    if (due(t) && restarted_at_ != t)
      detail::bad_argument("lowrank::ReLora::on_step", "step " + std::to_string(t) + " without its restart", "restart(W, t, editors, workspace) before");
  }

 private:
  template <StateEditor E>
  void prune(E& editor, std::uint64_t parameter) {
    if (options_.prune == Prune::All) return editor.reset();
    std::uint64_t moment = 0;
    editor.each([&](const auto& block) {
      const Index n = Index(block.size());
      const std::uint64_t stream = 4 * restarts_ + 2 * (moment++) + parameter;
      if (options_.prune == Prune::Random) {
        const auto below = std::uint64_t(options_.share * 0x1p32);
        for (Index i = 0; i < n; ++i)
          if (uniform_bits(options_.lora.seed + 0x9e3779b97f4a7c15u, stream, std::uint64_t(i)) < below) block.data[i] = 0;
        return;
      }
      const Index zeros = Index(options_.share * double(n));
      if (zeros == 0 || n > entries_.size()) return;
      for (Index i = 0; i < n; ++i) entries_[i] = S(std::abs(double(block.data[i])));
      std::nth_element(entries_.data(), entries_.data() + zeros - 1, entries_.data() + n);
      const S threshold = entries_[zeros - 1];
      Index left = zeros;  // of equal ones, the first
      for (Index i = 0; i < n; ++i) left -= S(std::abs(double(block.data[i]))) < threshold ? 1 : 0;
      for (Index i = 0; i < n; ++i) {
        const S size = S(std::abs(double(block.data[i])));
        if (size < threshold || (size == threshold && left-- > 0)) block.data[i] = 0;
      }
    });
  }

  ReLoraOptions options_;
  std::uint64_t restarts_ = 0, restarted_at_ = 0;
  Buffer<S> entries_;  // room for one moment's sizes
};

}  // namespace lowrank
