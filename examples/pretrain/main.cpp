// pretrain: trains a small byte-level decoder on real text with low-rank optimizers and compares them.
//
//   pretrain                                    AdamW, GaLore, Fira and DCT-AdamW on Eigen's own headers, a few minutes
//   pretrain --method apollo --corpus ~/notes   one recipe on text of yours
//   pretrain --resume                           goes on where an interrupted run stopped, to the same bits
//   pretrain --study                            the careful comparison: rates bracketed, three seeds (an hour or so)
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>

#include <CLI/CLI.hpp>

#include "examples/pretrain/compare.hpp"
#include "examples/pretrain/interrupt.hpp"
#include "examples/pretrain/settings.hpp"
#include "examples/pretrain/study.hpp"

namespace {

using pretrain::Settings;

void describe(CLI::App& app, Settings& s) {
  app.description("Trains a byte-level decoder with low-rank optimizers and compares their validation loss, memory and time.");
  app.add_option("-m,--method", s.methods, "Recipes to train with, one run each: " + pretrain::method_names())
      ->delimiter(',')
      ->check(CLI::IsMember(pretrain::methods_by_name()));
  app.add_option("-c,--corpus", s.corpus, "File or folder to train on; one file in twenty is held out")
      ->capture_default_str();
  app.add_option("-o,--out", s.out, "Folder for tables, curves, weights and the checkpoint")->capture_default_str();
  app.add_flag("--resume", s.resume, "Go on with what is in the folder, with the settings it was started with");
  app.add_flag("--study", s.study, "Grid of rates per recipe until the best is bracketed, then several seeds");
  app.add_option("--threads", s.threads, "Threads; 0: as many as OpenMP finds. No result depends on them")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();

  const std::string training = "Training";
  app.add_option("--steps", s.steps, "Steps")->check(CLI::PositiveNumber)->capture_default_str()->group(training);
  app.add_option("--batch", s.batch, "Windows of text a step")->check(CLI::PositiveNumber)->capture_default_str()->group(training);
  app.add_option("--lr", s.lr, "Peak rate of attention and MLP matrices; default: the recorded one of the recipe")
      ->check(CLI::PositiveNumber)->group(training);
  app.add_option("--aux-lr", s.aux_lr, "Peak rate of embedding, head and norms, which AdamW trains in every run")
      ->check(CLI::PositiveNumber)->capture_default_str()->group(training);
  app.add_option("--warmup", s.warmup, "Fraction of the steps in which the rates rise")
      ->check(CLI::Range(0.0, 1.0))->capture_default_str()->group(training);
  app.add_option("--final-lr", s.final_lr, "What the cosine falls to, as a fraction of the peak")
      ->check(CLI::Range(0.0, 1.0))->capture_default_str()->group(training);
  app.add_option("--clip", s.clip, "Bound of the gradient's norm; 0: none")
      ->check(CLI::NonNegativeNumber)->capture_default_str()->group(training);
  app.add_option("--seed", s.seed, "Of weights and batches")->capture_default_str()->group(training);
}

}  // namespace
