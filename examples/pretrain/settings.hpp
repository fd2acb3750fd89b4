// Settings: everything a user can choose, with its default. Nothing else decides what the program does, so a text of
// the ones that decide the bits of a run identifies it (run.hpp).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "examples/pretrain/layout.hpp"

#if !defined(PRETRAIN_DEFAULT_CORPUS)
#define PRETRAIN_DEFAULT_CORPUS ""
#endif

namespace pretrain {

struct Settings {
  // what to do
  std::vector<std::string> methods;  // empty: the four of the default comparison, or all of them in a study
  std::string corpus = PRETRAIN_DEFAULT_CORPUS, out = "pretrain-out";
  bool study = false, resume = false;
  int threads = 0;  // 0: OpenMP's own default

  // the model
  ModelConfig model;

  // training
  Index steps = 600, batch = 16;
  std::uint64_t seed = 0;
  std::optional<double> lr;  // of the matrices; otherwise the recorded one of the method
  double aux_lr = 5e-3;      // of embedding, head and norms
  double warmup = 0.1;       // fraction of the steps
  double final_lr = 0.1;     // of the peak
  double clip = 1;           // bound of the gradient's norm; 0: none
  double weight_decay = 0;

  // the recipes
  std::optional<Index> rank, refresh_every;  // otherwise d / 4 and the recorded period
  std::optional<double> scale;
  std::vector<std::string> options;  // name=value

  // looking at it
  Index eval_windows = 1024, curve_windows = 256, eval_every = 50, checkpoint_every = 100;
  Index study_seeds = 3;
};

}  // namespace pretrain
