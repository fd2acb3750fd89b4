// Settings: everything a user can choose, with its default. Nothing else decides what the program does.
#pragma once

#include <cctype>  // std::isdigit
#include <cstdlib>  // std::atoi
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "examples/pretrain/layout.hpp"

namespace finetune {

using pretrain::Index;

/// The headers of the newest C++ standard library under /usr/include/c++; empty where there is none.
inline std::string standard_library_headers() {
  std::string newest;
  int version = -1;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator("/usr/include/c++", none)) {
    const std::string name = entry.path().filename().string();
    if (!entry.is_directory() || std::isdigit(static_cast<unsigned char>(name[0])) == 0) continue;
    if (const int found = std::atoi(name.c_str()); found > version) version = found, newest = entry.path().string();
  }
  return newest;
}

struct Settings {
  // what to do
  std::string from = "pretrain-out", base;  // pretrain's folder, and which of its runs; empty: the best
  std::string corpus = standard_library_headers(), out = "finetune-out";
  std::vector<std::string> methods;         // empty: all
  bool resume = false, fresh = false;
  int threads = 0;       // 0: OpenMP's own default
  Index stop_after = 0;  // steps; 0: never

  // training
  std::optional<Index> numbers;  // to train; otherwise what LoRA of rank d / 32 trains
  std::vector<double> lr;        // one run each; empty: the recorded one of the method
  Index steps = 300, batch = 16;
  std::uint64_t seed = 0;
  double warmup = 0.1;    // fraction of the steps
  double final_lr = 0.1;  // of the peak
  double clip = 1;        // bound of the gradient's norm; 0: none

  // looking at it
  Index eval_windows = 512, curve_windows = 128, eval_every = 25, checkpoint_every = 50;
};

/// f(name on the command line, field) for what decides the bits of every run: a run that goes on must agree in these.
template <class S, class F>
void visit_deciding(S& s, const F& f) {
  f("method", s.methods), f("numbers", s.numbers), f("lr", s.lr), f("steps", s.steps), f("batch", s.batch);
  f("seed", s.seed), f("warmup", s.warmup), f("final-lr", s.final_lr), f("clip", s.clip);
  f("eval-windows", s.eval_windows), f("curve-windows", s.curve_windows), f("eval-every", s.eval_every);
}

}  // namespace finetune
