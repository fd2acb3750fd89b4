// Decide: the one place where a step becomes certain. From the norms of the gradient and of its projections it says whether the step
// happens, whether a candidate becomes the basis, and what the kernels that follow multiply by. Nothing was written before it, and a
// step that does not happen writes nothing after it: kernels return, products are made with alpha = -0 and beta = 1, which leaves
// every bit.
#pragma once

#include <lowrank/cuda/sums.cuh>

namespace lowrank::inline LOWRANK_ABI {
namespace cuda {

/// How a step comes about; known to the host.
struct Plan {
  bool refreshing = false;  // a candidate was made
  bool warm = false;        // from a basis in use
  bool declines = false;    // a candidate that holds nothing is turned down
  bool compares = false;    // and one that holds less than what it replaces
  bool reset = false;       // moments start anew with a new basis
  double threshold = 0;     // of drift
};

template <class S, class Motions>
struct Decide {
  static constexpr int threads = 256;
  const double *gradient;          // ||a_j||^2 of k columns; null: the caller knows the norm
  const double *core, *core_old;   // ||r_j||^2 with the basis that the step projects with, and with the one in use; null: no projection
  Index k;
  Motions motions;
  double beta1, beta2, scale;      // of the corrections, of the lift
  Plan plan;
  Control<S>* control;

  Grid grid() const { return {1, shared_bytes<double>(threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    double* room = block.template shared<double>(threads);
    double sums[3] = {0, 0, 0};
    if (gradient != nullptr) sums[0] = total(block, gradient, k, room);
    if (core != nullptr) sums[1] = total(block, core, k, room);
    if (core_old != nullptr) sums[2] = total(block, core_old, k, room);
    block.each([&](int t) {
      if (t == 0) decide(*control, sums[0], sums[1], sums[2]);
    });
  }

  LOWRANK_HOST_DEVICE void decide(Control<S>& c, double energy, double held, double held_before) const {
    auto& kept = c.kept;
    const double known = c.input.grad_norm * c.input.grad_scale;
    c.report = {};
    const bool given = c.input.grad_norm >= 0 || !is_finite(c.input.grad_norm);
    if (gradient == nullptr) energy = known * known;
    bool commit = plan.refreshing;
    if (plan.refreshing && plan.declines)
      commit = energy > 0 && held > 0 && is_finite(held) && (!plan.compares || !plan.warm || (held_before > 0 && held >= held_before));
    if (core_old != nullptr && !commit) held = held_before;
    c.go = usable<S>(energy) && usable<S>(held) && (!given || usable<S>(known * known));
    c.commit = c.go && commit;
    c.move = 0;
    c.write[0] = S(-0.0);
    c.write[1] = 1;
    if (c.go == 0) {
      c.report.skipped = true;
      return;
    }
    c.report.refreshed = commit;
    if (gradient != nullptr) c.report.grad_norm = std::sqrt(energy);
    if (core != nullptr) {
      const double captured = energy > 0 ? held / energy : 0;
      c.report.captured = captured;
      if (commit) {
        kept.captured_at_refresh = captured;
        kept.refresh_pending = 0;
        ++kept.refreshes;
      } else if (plan.refreshing && plan.compares && plan.warm && energy > 0 && !(held_before > 0)) {
        kept.captured_at_refresh = 0;  // the basis holds nothing of this gradient: the next step starts afresh
        kept.refresh_pending = 1;
      } else if (plan.threshold > 0 && captured < (1 - plan.threshold) * kept.captured_at_refresh) {
        kept.refresh_pending = 1;
      }
      if (kept.captured_at_refresh > 0 && energy > 0) c.report.drift = 1 - captured / kept.captured_at_refresh;
    }

    c.moved = commit && plan.warm && kept.steps > 0 && kept.rule_steps > 0;
    c.c1 = 1 - std::pow(beta1, double(kept.rule_steps));
    c.c2 = 1 - std::pow(beta2, double(kept.rule_steps));
    if (c.moved != 0 && plan.reset) kept.rule_steps = 0;
    c.step = kept.steps++;
    c.rule_step = ++kept.rule_steps;
    c.motion = motions(c.rule_step, c.input.lr);
    c.move = c.input.lr * c.motion.gain;
    c.write[0] = S(-c.move * c.motion.after * scale);
    c.write[1] = S(c.motion.before * c.motion.after);
  }
};

/// to <- from where the candidate was taken (or, with `kept`, where it was not).
template <class T, class S>
struct CopyIf {
  static constexpr int threads = 256;
  const T* from;
  T* to;
  Index n;
  const Control<S>* control;
  bool kept = false;

  Grid grid() const { return {ceil_div(n, 4 * threads)}; }
  template <class Block>
  LOWRANK_DEVICE void operator()(Block& block) const {
    block.each([&](int t) {
      if ((control->commit != 0) == kept) return;
      for (Index i = block.index() * 4 * threads + t, q = 0; q < 4 && i < n; ++q, i += threads) to[i] = from[i];
    });
  }
};

}  // namespace cuda
}  // namespace lowrank
