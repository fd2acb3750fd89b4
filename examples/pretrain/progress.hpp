// Progress: what a person who waits wants to know. On a terminal one line that is redrawn (a bar, the loss, tokens per
// second, the time left for this run and for all of them); anywhere else a plain line every so many steps.
#pragma once

#include <algorithm>  // std::min
#include <chrono>
#include <cmath>      // std::log
#include <cstdio>
#include <string>

#include <unistd.h>  // isatty

#include "examples/pretrain/layout.hpp"

namespace pretrain {

/// 7.3 s, 4:05, 1:02:07.
inline std::string clock_text(double seconds) {
  char text[32];
  const long s = long(seconds + 0.5);
  if (seconds < 9.95)
    std::snprintf(text, sizeof text, "%.1f s", seconds);
  else if (s < 3600)
    std::snprintf(text, sizeof text, "%ld:%02ld", s / 60, s % 60);
  else
    std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
  return text;
}

/// Natural logarithm to bits.
inline double bits(double nats) { return nats / std::log(2.0); }

class Progress {
 public:
  enum class Style { Bar, Lines };

  static Style style_of(std::FILE* out) { return isatty(fileno(out)) ? Style::Bar : Style::Lines; }

  /// all_steps: of every run to come. every: steps between plain lines.
  Progress(std::FILE* out, Style style, Index all_steps, Index every)
      : out_(out), style_(style), every_(every), left_in_all_(all_steps) {}
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// A run that has `done` of `steps` steps behind it.
  void begin(std::string label, Index done, Index steps) {
    label_ = std::move(label);
    steps_ = steps;
    loss_ = 0;
    left_in_all_ -= done;
    shown_ = Clock::now() - std::chrono::seconds(1);
  }

  /// After a step: its loss in nats, its tokens and the seconds it took.
  void step(Index done, double loss, Index tokens, double seconds) {
    // a mean over the last twenty steps or so; at the start over those there are
    loss_ += (loss - loss_) / double(std::min<Index>(done, 20));
    const double weight = seconds_per_step_ == 0 ? 1 : 0.05;
    seconds_per_step_ += weight * (seconds - seconds_per_step_);
    --left_in_all_;
    ++made_;
    if (style_ == Style::Bar) {
      if (Clock::now() - shown_ < std::chrono::milliseconds(100) && done < steps_) return;
      shown_ = Clock::now();
      draw(done, tokens);
    } else if (done % every_ == 0 || done == steps_) {
      std::fprintf(out_, "%-12s step %5ld/%ld  %.3f bits/byte  %6.0f tokens/s  left %s, all %s\n", label_.c_str(),
                   long(done), long(steps_), bits(loss_), double(tokens) / seconds_per_step_, run_left(done).c_str(),
                   all_left().c_str());
      std::fflush(out_);
    }
  }

  /// Steps that were planned and will not be made, or (negative) that turned out to be needed.
  void skip(Index steps) { left_in_all_ -= steps; }

  /// Takes the bar away, so that something else can be printed.
  void clear() {
    if (style_ == Style::Bar) std::fputs("\r\033[K", out_);
    std::fflush(out_);
  }

 private:
  using Clock = std::chrono::steady_clock;

  /// At the pace so far, with what lies between two steps: points of the curve, checkpoints.
  std::string left(Index steps) const {
    const double elapsed = std::chrono::duration<double>(Clock::now() - started_).count();
    return clock_text(elapsed / double(std::max<Index>(1, made_)) * double(std::max<Index>(0, steps)));
  }
  std::string run_left(Index done) const { return left(steps_ - done); }
  std::string all_left() const { return left(left_in_all_); }

  void draw(Index done, Index tokens) const {
    // eighths of a cell, so that a slow run is seen to move
    static constexpr const char* eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    constexpr Index cells = 12;  // the whole line fits into 80 columns
    const Index filled = steps_ > 0 ? 8 * cells * done / steps_ : 0;
    std::string bar;
    for (Index i = 0; i < filled / 8; ++i) bar += "█";
    bar += eighths[filled % 8];
    for (Index i = (filled + 7) / 8; i < cells; ++i) bar += " ";
    std::fprintf(out_, "\r\033[K%-11s▕%s▏%4ld/%ld %.3f bits/byte %3.0fk tok/s left %s of %s", label_.c_str(),
                 bar.c_str(), long(done), long(steps_), bits(loss_), double(tokens) / seconds_per_step_ / 1000,
                 run_left(done).c_str(), all_left().c_str());
    std::fflush(out_);
  }

  std::FILE* out_;
  Style style_;
  Index every_, left_in_all_, steps_ = 0, made_ = 0;
  std::string label_;
  double loss_ = 0, seconds_per_step_ = 0;
  Clock::time_point started_ = Clock::now(), shown_;
};

}  // namespace pretrain
