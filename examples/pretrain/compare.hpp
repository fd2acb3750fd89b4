// Compare: one run per method on the same text and seed, then one table. Whatever stops it, --resume goes on.
#pragma once

#include <filesystem>
#include <iostream>
#include <optional>
#include <stdexcept>  // std::runtime_error
#include <string>
#include <vector>

#include "examples/pretrain/checkpoint.hpp"
#include "examples/pretrain/interrupt.hpp"
#include "examples/pretrain/memory.hpp"
#include "examples/pretrain/results.hpp"
#include "examples/pretrain/threads.hpp"
#include "examples/pretrain/watch.hpp"

namespace pretrain {

/// What the program gives back to the shell.
enum class Exit { Done = 0, Interrupted = 130 };

inline std::string size_text(std::size_t bytes) {
  return bytes < 1u << 20 ? format("%.0f kB", double(bytes) / 1e3) : format("%.1f MB", double(bytes) / 1e6);
}

inline void print_task(std::FILE* out, const Settings& s, const Corpus& corpus, const Network& model) {
  std::fprintf(out, "text: %s, %s in %zu files to train on, %s in %zu held out\n", s.corpus.c_str(),
               size_text(corpus.training.size()).c_str(), corpus.training_files,
               size_text(corpus.held_out.size()).c_str(), corpus.held_out_files);
  std::fprintf(out, "model: %s weights (d %ld, %ld layers, %ld heads, d_ff %ld), %s of activations; "
               "%ld steps of %ld x %ld bytes on %d threads\n\n",
               grouped(std::size_t(model.layout().parameters())).c_str(), long(s.model.d_model), long(s.model.layers),
               long(s.model.heads), long(s.model.d_ff), size_text(model.activation_bytes()).c_str(), long(s.steps),
               long(s.batch), long(s.model.context), available_threads());
  std::fflush(out);
}

class Comparison {
 public:
  /// Reads the text and checks every method's options. Throws for what does not fit together.
  explicit Comparison(const Settings& settings)
      : settings_(settings), out_(settings.out), corpus_(Corpus::read(settings.corpus, settings.model.context + 1)),
        networks_(settings.model, settings.batch), checkpoint_(out_) {
    for (const std::string& name : settings_.methods) specs_.push_back(spec_of(method(name), settings_));
    bool watched = false;
    for (const RunSpec& spec : specs_) {
      const auto made = trainer(spec);
      uses_.push_back(made->memory());
      watched = watched || has_basis(*made);
    }
    if (settings_.watch && !watched)
      throw std::invalid_argument("--watch: the method keeps no basis, see --help");
  }

  /// Before anything is trained: what each method would keep, matrix by matrix.
  void print_plans() {
    for (const RunSpec& spec : specs_) {
      std::cout << spec.method << '\n';
      trainer(spec)->print_plan(std::cout);
      std::cout << '\n';
    }
  }

  Exit run() {
    std::filesystem::create_directories(out_);
    const Json settings = stored(settings_, corpus_.fingerprint);
    Json from;
    if (settings_.resume) {
      from = Checkpoint::read(out_);
      check_same(from, settings, out_);
      checkpoint_.resume(settings, from);
      finished_ = Checkpoint::finished(from);
    } else {
      checkpoint_.begin(settings);
    }

    print_task(stdout, settings_, corpus_, network(specs_[0]));
    print_memory(stdout, settings_.methods, uses_);
    write_memory(out_ / "memory.csv", settings_.methods, uses_);
    std::printf("\n");
    std::fflush(stdout);

    const Index runs_left = Index(specs_.size() - finished_.size());
    Progress progress(stderr, Progress::style_of(stderr), runs_left * settings_.steps,
                      std::max<Index>(1, settings_.steps / 10));
    while (finished_.size() < specs_.size()) {
      write_results(out_, finished_);
      const RunSpec& spec = specs_[finished_.size()];
      Run run(settings_, spec, corpus_, network(spec));
      if (!from.is_null() && !from.at("current").is_null()) checkpoint_.restore(from, run);
      from = nullptr;
      if (train(run, progress) == Exit::Interrupted) return stop(run, progress);
      run.finish();
      write_weights(out_ / (spec.method + ".safetensors"), run.network(), run.trainer().replacements());
      finished_.push_back(run.record());
      checkpoint_.save(finished_, nullptr);
    }
    progress.clear();
    write_results(out_, finished_);
    print_results(stdout, finished_, 2 * sizeof(float) * std::size_t(network(specs_[0]).layout().parameters()));
    std::printf("\ncurves, tables and weights are in %s\n", out_.c_str());
    return Exit::Done;
  }

 private:
  Network& network(const RunSpec& spec) { return networks_.of(method(spec.method).recipe.weights); }
  std::unique_ptr<Trainer> trainer(const RunSpec& spec) {
    return make_trainer(spec, settings_, network(spec));
  }

  Exit train(Run& run, Progress& progress) {
    std::optional<Watch> watch;
    if (settings_.watch && has_basis(run.trainer()))
      watch.emplace(settings_, method(run.record().spec.method), run.record().steps);
    progress.begin(run.record().spec.method, run.record().steps, settings_.steps);
    while (!run.finished()) {
      if (watch) watch->before(run.trainer());
      const Run::Stepped step = run.step();
      if (watch && !run.record().diverged) watch->after(run.trainer(), run.record().steps - 1);
      progress.step(run.record().steps, step.loss, run.tokens_per_step(), step.seconds);
      ++steps_made_;
      if (Interrupt::asked() || steps_made_ == settings_.stop_after) {
        if (watch) watch->draw();
        return Exit::Interrupted;
      }
      if (run.record().steps % settings_.checkpoint_every == 0) checkpoint_.save(finished_, &run);
    }
    progress.skip(settings_.steps - run.record().steps);
    if (watch) watch->draw();
    return Exit::Done;
  }

  Exit stop(Run& run, Progress& progress) {
    progress.clear();
    checkpoint_.save(finished_, &run);
    std::vector<RunRecord> so_far = finished_;
    so_far.push_back(run.record());
    write_results(out_, so_far);
    std::printf("stopped after step %ld of %ld of %s; go on with: pretrain --resume --out %s\n",
                long(run.record().steps), long(settings_.steps), run.record().spec.method.c_str(), out_.c_str());
    return Exit::Interrupted;
  }

  const Settings& settings_;
  std::filesystem::path out_;
  Corpus corpus_;
  Networks networks_;
  Checkpoint checkpoint_;
  std::vector<RunSpec> specs_;
  std::vector<MemoryUse> uses_;
  std::vector<RunRecord> finished_;
  Index steps_made_ = 0;
};

}  // namespace pretrain
