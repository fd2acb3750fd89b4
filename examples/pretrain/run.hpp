// Run: one training of the decoder with one optimizer, step by step. What it has done so far is plain data (RunRecord),
// which together with the weights and the optimizer's state is all a run needs to go on.
#pragma once

#include <algorithm>  // std::min
#include <chrono>
#include <cmath>      // std::isfinite
#include <limits>
#include <memory>
#include <vector>


#include "examples/pretrain/corpus.hpp"
#include "examples/pretrain/methods.hpp"
#include "examples/pretrain/progress.hpp"
#include "examples/pretrain/schedule.hpp"

namespace pretrain {

/// In bits per byte; training is the mean since the point before.
struct CurvePoint {
  Index step = 0;
  double training = 0, held_out = 0;
};

struct RunRecord {
  RunSpec spec;
  Index steps = 0;  // made
  bool diverged = false;
  double held_out = std::numeric_limits<double>::infinity();  // bits per byte; known at the end
  std::vector<CurvePoint> curve;
  double loss_sum = 0;  // in nats, since the last point of the curve
  Index loss_count = 0;
  double model_seconds = 0, optimizer_seconds = 0;
  Index skipped = 0;  // steps that a gradient kept from being made
  MemoryUse memory;

  double ms_per_step() const { return steps > 0 ? 1000 * (model_seconds + optimizer_seconds) / double(steps) : 0; }
  double optimizer_share() const {
    return steps > 0 ? optimizer_seconds / (model_seconds + optimizer_seconds) : 0;
  }
};

class Run {
 public:
  /// Initialises the network, which must stay and be used by nobody else. Throws for a method's options.
  Run(const Settings& settings, const RunSpec& spec, const Corpus& corpus, Network& network)
      : settings_(settings), corpus_(corpus), network_(network) {
    network_.initialise(spec.seed);
    trainer_ = make_trainer(spec, settings, network_);
    record_.spec = spec;
    record_.memory = trainer_->memory();
  }

  const RunRecord& record() const { return record_; }
  RunRecord& record() { return record_; }
  Trainer& trainer() { return *trainer_; }
  const Trainer& trainer() const { return *trainer_; }
  Network& network() { return network_; }
  const Network& network() const { return network_; }

  bool finished() const { return record_.diverged || record_.steps == settings_.steps; }
  Index tokens_per_step() const { return settings_.batch * settings_.model.context; }

  struct Stepped {
    double loss;     // nats per byte, before the step
    double seconds;
  };
  /// One step, and a point of the curve when it is time for one.
  Stepped step() {
    const auto start = Clock::now();
    const Index t = record_.steps;
    corpus_.training_batch(record_.spec.seed, t, settings_.batch, window(), bytes_);
    network_.zero_gradients();
    trainer_->begin_step(t);
    const double loss = network_.forward_backward(bytes_, t);
    const auto middle = Clock::now();
    record_.steps = t + 1;
    if (!std::isfinite(loss)) {
      record_.diverged = true;
      return {loss, seconds(start, middle)};
    }
    if (trainer_->step(schedule(settings_, t), record_.spec.clip).skipped > 0) ++record_.skipped;
    const auto end = Clock::now();
    record_.model_seconds += seconds(start, middle);
    record_.optimizer_seconds += seconds(middle, end);
    record_.loss_sum += loss;
    ++record_.loss_count;
    if (settings_.eval_every > 0 && (record_.steps % settings_.eval_every == 0 || finished())) look();
    return {loss, seconds(start, end)};
  }

  /// After the last step: the held-out loss on all windows asked for.
  void finish() {
    if (!record_.diverged) record_.held_out = bits(held_out_loss(settings_.eval_windows));
    if (std::isfinite(record_.held_out)) return;
    record_.diverged = true;
    record_.held_out = std::numeric_limits<double>::infinity();
  }

 private:
  using Clock = std::chrono::steady_clock;

  static double seconds(Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
  }
  Index window() const { return settings_.model.context + 1; }

  void look() {
    record_.curve.push_back({record_.steps, bits(record_.loss_sum / double(record_.loss_count)),
                             bits(held_out_loss(settings_.curve_windows))});
    record_.loss_sum = 0;
    record_.loss_count = 0;
  }

  double held_out_loss(Index windows) {
    double sum = 0;
    for (Index first = 0; first < windows; first += settings_.batch) {
      const Index count = std::min(settings_.batch, windows - first);
      corpus_.held_out_batch(first, count, windows, window(), bytes_);
      sum += double(count) * network_.loss(bytes_);
    }
    return sum / double(windows);
  }

  const Settings& settings_;
  const Corpus& corpus_;
  Network& network_;
  std::unique_ptr<Trainer> trainer_;
  RunRecord record_;
  std::vector<Byte> bytes_;
};

}  // namespace pretrain
