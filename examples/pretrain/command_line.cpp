#include "examples/pretrain/command_line.hpp"

#include <algorithm>  // std::find
#include <iterator>   // std::begin, std::end
#include <memory>     // std::make_shared
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "examples/pretrain/methods.hpp"
#include "examples/pretrain/switches.hpp"

namespace pretrain {
namespace {

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}
std::string text_of_variants() {
  std::string text = "also\n";
  std::size_t width = 0;
  for (const Method& m : all_methods()) {
    if (std::find(std::begin(compared_by_default), std::end(compared_by_default), m.name) != std::end(compared_by_default))
      continue;
    if (width + m.name.size() > 60) text += ",\n", width = 0;
    text += (width > 0 ? ", " : "") + m.name;
    width += m.name.size() + 2;
  }
  return text;
}
CLI::Validator known() {
  return {[](std::string& name) {
            for (const Method& m : all_methods())
              if (m.name == name) return std::string();
            return "no method '" + name + "'; there are " + listed(method_names());
          },
          "NAMES"};
}

void describe_task(CLI::App& app, Settings& s) {
  app.add_option("-m,--method", s.methods, "One run each, by default adamw,galore,fira,dct_adamw; " + text_of_variants())
      ->delimiter(',')->check(known());
  app.add_option("-c,--corpus", s.corpus, "File or folder to train on, by default the headers of Eigen;\n"
                 "one file in twenty is held out");
  app.add_option("-o,--out", s.out, "Folder for tables, curves, weights and the checkpoint")->capture_default_str();
  describe_session(app, s, "an unfinished run or a study");
  app.add_flag("--study", s.study, "Bracket the rate of every recipe, then three seeds each");
  app.add_flag("--plan", s.plan, "Print what each optimizer would keep for each matrix, and stop");
}

void describe_recipes(CLI::App& app, Settings& s) {
  const std::string group = "Recipes";
  app.add_option("--rank", s.rank, "Rank of the projection, default d/4 (apollo_mini: always 1)")
      ->check(at_least(1))->group(group);
  app.add_option("--refresh-every", s.refresh_every, "Steps from one basis, restart or swap to the next; default: as published,\nor what 600 steps have room for")
      ->check(at_least(1))->group(group);
  app.add_option("--scale", s.scale, "Of the update; where rate and scale are one number the rate follows")
      ->check(positive())->group(group);
  app.add_option("--weight-decay", s.weight_decay, "Of attention and MLP matrices")
      ->check(at_least(0))->capture_default_str()->group(group);
  app.add_option("--option", s.options, "[method.]name=value, any other option of the recipe, e.g.\n"
                 "transport=rotate; a wrong name lists them")->group(group);
  app.add_option("--rebalance-every", s.rebalance_every, "Steps from one sharing out of the state's bytes over all matrices\n"
                 "to the next, 0: none; needs --option adapt.energy=0.9")
      ->check(at_least(0))->capture_default_str()->group(group);
}

void describe_training(CLI::App& app, Settings& s) {
  const std::string group = "Training";
  app.add_option("--steps", s.steps, "Steps")->check(at_least(1))->capture_default_str()->group(group);
  app.add_option("--batch", s.batch, "Windows of text a step")
      ->check(between(1, 4096))->capture_default_str()->group(group);
  app.add_option("--lr", s.lr, "Peak rate of attention and MLP matrices; default: the recorded one of the method")
      ->check(positive())->group(group);
  app.add_option("--aux-lr", s.aux_lr, "Peak rate of embedding, head and norms, which AdamW trains in every run")
      ->check(positive())->capture_default_str()->group(group);
  app.add_option("--warmup", s.warmup, "Fraction of the steps in which the rates rise")
      ->check(between(0, 1))->capture_default_str()->group(group);
  app.add_option("--final-lr", s.final_lr, "What the cosine falls to, as a fraction of the peak")
      ->check(between(0, 1))->capture_default_str()->group(group);
  app.add_option("--clip", s.clip, "Bound of the gradient's norm; 0: none")
      ->check(at_least(0))->capture_default_str()->group(group);
  app.add_option("--seed", s.seed, "Of weights, batches and bases")->capture_default_str()->group(group);
}

void describe_model(CLI::App& app, Settings& s) {
  const std::string group = "Model";
  app.add_option("--d-model", s.model.d_model, "Width")->check(between(2, 4096))->capture_default_str()->group(group);
  app.add_option("--layers", s.model.layers, "Layers")->check(between(1, 64))->capture_default_str()->group(group);
  app.add_option("--heads", s.model.heads, "Heads; d-model must be an even multiple")
      ->check(between(1, 256))->capture_default_str()->group(group);
  app.add_option("--d-ff", s.model.d_ff, "Width of the MLP, default 8/3 of d-model")
      ->check(between(1, 16384))->group(group);
  app.add_option("--context", s.model.context, "Bytes a window")
      ->check(between(2, 4096))->capture_default_str()->group(group);
}

void describe_measurement(CLI::App& app, Settings& s) {
  const std::string group = "Measurement";
  app.add_option("--eval-windows", s.eval_windows, "Held-out windows at the end; fewer than 1024 are a rough guess")
      ->check(at_least(1))->capture_default_str()->group(group);
  describe_curve(app, s, group);
  app.add_flag("--watch", s.watch, "Write what the bases capture and how they turn, as a table and a heat map")
      ->group(group);
  app.add_option("--watch-every", s.watch_every, "Steps from one row of --watch to the next")
      ->check(at_least(1))->capture_default_str()->group(group);
  app.add_option("--study-seeds", s.study_seeds, "Seeds of a study at the best rate")
      ->check(between(1, 100))->capture_default_str()->group(group);
}

}  // namespace

std::optional<int> parse(int argc, char** argv, Settings& s) {
  CLI::App app("Trains a byte-level decoder with low-rank optimizers and compares held-out loss, memory and time.",
               "pretrain");
  app.formatter(std::make_shared<Formatter>());
  app.get_formatter()->column_width(30);
  describe_task(app, s), describe_recipes(app, s), describe_training(app, s), describe_model(app, s);
  describe_measurement(app, s);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  if (app.count("--d-model") > 0 && app.count("--d-ff") == 0) s.model.d_ff = swiglu_width(s.model.d_model);
  return {};
}

}  // namespace pretrain
