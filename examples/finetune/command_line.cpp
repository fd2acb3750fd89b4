#include "examples/finetune/command_line.hpp"

#include <memory>  // std::make_shared

#include "examples/finetune/learner.hpp"
#include "examples/pretrain/switches.hpp"

namespace finetune {
namespace {

using pretrain::at_least;
using pretrain::between;
using pretrain::positive;

CLI::Validator known() {
  return {[](std::string& name) {
            std::string there;
            for (const Method& m : all_methods()) {
              if (m.name == name) return std::string();
              there += (there.empty() ? "" : ", ") + m.name;
            }
            return "no method '" + name + "'; there are " + there;
          },
          "NAMES"};
}

void describe_task(CLI::App& app, Settings& s) {
  app.add_option("-f,--from", s.from, "Folder of pretrain with the weights to begin from")->capture_default_str();
  app.add_option("--base", s.base, "Which of its runs, by method; by default the one of the lowest held-out loss");
  app.add_option("-m,--method", s.methods, "One run each, by default full,lora,dora,vera,randlora")->delimiter(',')->check(known());
  app.add_option("-c,--corpus", s.corpus, "File or folder to adapt to; one file in twenty is held out")->capture_default_str();
  app.add_option("-o,--out", s.out, "Folder for adapters, tables, curves and the checkpoint")->capture_default_str();
  pretrain::describe_session(app, s, "an unfinished session");
}

void describe_training(CLI::App& app, Settings& s) {
  const std::string group = "Training";
  app.add_option("--numbers", s.numbers, "To train; every adapter gets the rank that comes nearest.\n"
                 "Default: those of LoRA at rank d/32")->check(at_least(1))->group(group);
  app.add_option("--lr", s.lr, "Peak rates, one run each; default: the recorded one of the method")
      ->delimiter(',')->check(positive())->group(group);
  app.add_option("--steps", s.steps, "Steps")->check(at_least(1))->capture_default_str()->group(group);
  app.add_option("--batch", s.batch, "Windows of text a step")->check(between(1, 4096))->capture_default_str()->group(group);
  app.add_option("--warmup", s.warmup, "Fraction of the steps in which the rate rises")
      ->check(between(0, 1))->capture_default_str()->group(group);
  app.add_option("--final-lr", s.final_lr, "What the cosine falls to, as a fraction of the peak")
      ->check(between(0, 1))->capture_default_str()->group(group);
  app.add_option("--clip", s.clip, "Bound of the gradient's norm; 0: none")->check(at_least(0))->capture_default_str()->group(group);
  app.add_option("--seed", s.seed, "Of batches, first values and bases")->capture_default_str()->group(group);
}

void describe_measurement(CLI::App& app, Settings& s) {
  const std::string group = "Measurement";
  app.add_option("--eval-windows", s.eval_windows, "Held-out windows at the end, for each form of the result")
      ->check(at_least(1))->capture_default_str()->group(group);
  pretrain::describe_curve(app, s, group);
}

}  // namespace

std::optional<int> parse(int argc, char** argv, Settings& s) {
  CLI::App app("Adapts a decoder that pretrain trained to other text with LoRA, DoRA, VeRA, RandLoRA and in full, at matched\n"
               "numbers of trained parameters; writes the adapters for PEFT and llama.cpp and shows that they are what was trained.",
               "finetune");
  app.formatter(std::make_shared<pretrain::Formatter>());
  app.get_formatter()->column_width(30);
  describe_task(app, s), describe_training(app, s), describe_measurement(app, s);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  return {};
}

}  // namespace finetune
