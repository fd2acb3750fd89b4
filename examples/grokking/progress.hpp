// What a person who waits for all runs wants to know: which run, how far, the accuracies, the time left at the
// rate so far. On a terminal one line that is redrawn, elsewhere a line every ten seconds.
#pragma once

#include <chrono>
#include <cstdio>

#include "examples/grokking/training.hpp"
#include "examples/pretrain/progress.hpp"

namespace grokking {

class Progress {
 public:
  /// `runs` runs of `steps` steps each will be made, one after another.
  Progress(Index runs, Index steps) : runs_(runs), steps_(steps) {}

  void begin(const char* method, Index seed) { method_ = method, seed_ = seed, started_ = Clock::now(); }

  void show(const Row& row) {
    const auto now = Clock::now();
    if (!terminal_ && now - shown_ < std::chrono::seconds(10)) return;
    shown_ = now;
    std::printf("%s%-10s seed %ld  step %5ld/%ld  train %.3f  test %.3f", terminal_ ? "\r\033[K" : "", method_,
                long(seed_), long(row.step), long(steps_), row.train_accuracy, row.test_accuracy);
    const double done = double(finished_ * steps_ + row.step), all = double(runs_ * steps_);
    if (done > 0) std::printf("  left %s", pretrain::clock_text(seconds(begin_, now) / done * (all - done)).c_str());
    if (!terminal_) std::printf("\n");
    std::fflush(stdout);
  }

  /// The run's last line, which stays.
  void finish(const Row& last) {
    ++finished_;
    std::printf("%s%-10s seed %ld  train %.3f  test %.3f  |J| %8.3f  A %.3f  in %s\n", terminal_ ? "\r\033[K" : "",
                method_, long(seed_), last.train_accuracy, last.test_accuracy, last.jacobian_norm, last.alignment,
                pretrain::clock_text(seconds(started_, Clock::now())).c_str());
    std::fflush(stdout);
  }

 private:
  using Clock = std::chrono::steady_clock;
  static double seconds(Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
  }

  Index runs_, steps_, finished_ = 0, seed_ = 0;
  const char* method_ = "";
  const bool terminal_ = pretrain::Progress::style_of(stdout) == pretrain::Progress::Style::Bar;
  const Clock::time_point begin_ = Clock::now();
  Clock::time_point started_ = begin_, shown_ = begin_;
};

}  // namespace grokking
