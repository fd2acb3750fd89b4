// Settings: everything a user can choose, with its default. Nothing else decides what the program does.
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
  std::vector<std::string> methods;  // empty: the four of the default comparison, or the recipes in a study
  std::string corpus = PRETRAIN_DEFAULT_CORPUS, out = "pretrain-out";
  bool study = false, resume = false, fresh = false, plan = false;
  int threads = 0;       // 0: OpenMP's own default
  Index stop_after = 0;  // steps; 0: never

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
  double weight_decay = 0;   // of the matrices

  // the recipes
  std::optional<Index> rank, refresh_every;  // otherwise d / 4 and the recorded period
  std::optional<double> scale;
  Index rebalance_every = 0;         // steps; 0: never
  std::vector<std::string> options;  // [method.]name=value

  // looking at it
  Index eval_windows = 1024, curve_windows = 256, eval_every = 50, checkpoint_every = 100;
  Index study_seeds = 3;
  bool watch = false;
  Index watch_every = 10;

  Index rank_or_default() const { return rank.value_or(std::max<Index>(1, model.d_model / 4)); }
};

/// f(name on the command line, field) for what decides the bits of every run: a run that goes on must agree in these.
/// What may differ: where files lie, threads, how often a checkpoint is written.
template <class S, class F>
void visit_run(S& s, const F& f) {
  f("d-model", s.model.d_model), f("layers", s.model.layers), f("heads", s.model.heads), f("d-ff", s.model.d_ff);
  f("context", s.model.context), f("steps", s.steps), f("batch", s.batch), f("seed", s.seed), f("aux-lr", s.aux_lr);
  f("warmup", s.warmup), f("final-lr", s.final_lr), f("clip", s.clip), f("weight-decay", s.weight_decay);
  f("rank", s.rank), f("refresh-every", s.refresh_every), f("scale", s.scale), f("option", s.options);
  f("eval-windows", s.eval_windows), f("rebalance-every", s.rebalance_every);
}

/// The same for a comparison. A study chooses methods and rates itself, and one that goes on may be given more methods.
template <class S, class F>
void visit_deciding(S& s, const F& f) {
  visit_run(s, f);
  if (s.study) return;
  f("method", s.methods), f("lr", s.lr), f("curve-windows", s.curve_windows), f("eval-every", s.eval_every);
}

}  // namespace pretrain
