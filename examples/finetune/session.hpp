// Session: one run per method and rate from the same weights on the same text, then the tables. Whatever stops it,
// --resume goes on.
#pragma once

#include <chrono>
#include <cmath>  // std::isfinite
#include <filesystem>
#include <memory>
#include <string>
#include <vector>


#include "examples/finetune/checkpoint.hpp"
#include "examples/finetune/report.hpp"
#include "examples/pretrain/interrupt.hpp"
#include "examples/pretrain/progress.hpp"
#include "examples/pretrain/schedule.hpp"

namespace finetune {

/// What the program gives back to the shell.
enum class Exit { Done = 0, Interrupted = 130 };

class Session {
 public:
  /// Reads the weights and the text. Throws for what is missing or does not fit together.
  explicit Session(const Settings& settings)
      : settings_(settings), out_(settings.out), base_(Base::read(settings.from, settings.base)),
        corpus_(pretrain::Corpus::read(settings.corpus, base_.config.context + 1)), held_out_(corpus_, settings.batch),
        checkpoint_(out_) {
    for (const std::string& method : settings_.methods)
      for (const double rate : rates(method)) {
        Record& r = runs_.emplace_back();
        r.name = settings_.lr.size() > 1 ? method + "-" + number(rate) : method;
        r.method = method, r.lr = rate;
      }
  }

  Exit run() {
    const Json settings = stored(settings_, base_, corpus_);
    Json from;
    if (settings_.resume) {
      from = Checkpoint::read(out_);
      pretrain::check_same(from, settings, out_);
      checkpoint_.resume(settings, from);
      finished_ = Checkpoint::finished(from);
    } else {
      checkpoint_.begin(settings);
    }
    introduce();

    const Index runs_left = Index(runs_.size() - finished_.size());
    pretrain::Progress progress(stderr, pretrain::Progress::style_of(stderr), runs_left * settings_.steps,
                                std::max<Index>(1, settings_.steps / 5));
    while (finished_.size() < runs_.size()) {
      write_results(out_, finished_, before_);
      Record record = runs_[finished_.size()];
      const std::unique_ptr<Learner> learner = make(record.method);
      if (!from.is_null() && !from.at("current").is_null()) checkpoint_.restore(from.at("current"), record, *learner);
      else record.curve.push_back({0, before_curve_, before_curve_});
      from = nullptr;
      if (train(record, *learner, progress) == Exit::Interrupted) return stop(record, *learner, progress);
      finish(record, *learner);
      finished_.push_back(record);
      checkpoint_.save(finished_, nullptr, nullptr);
    }
    progress.clear();
    write_results(out_, finished_, before_);
    print_results(stdout, finished_, before_);
    std::printf("\nadapters, merged weights, tables and curves are in %s\n", out_.c_str());
    return Exit::Done;
  }

 private:
  using Clock = std::chrono::steady_clock;

  std::vector<double> rates(const std::string& method) const {
    if (!settings_.lr.empty()) return settings_.lr;
    for (const Method& m : all_methods())
      if (m.name == method) return {m.rate};
    throw std::invalid_argument("no method '" + method + "'");
  }
  Index numbers() const { return settings_.numbers.value_or(default_numbers(base_.config)); }
  std::unique_ptr<Learner> make(const std::string& method) const {
    return make_learner(method, base_, settings_.batch, numbers(), settings_.seed);
  }
  void batch(Index step) { corpus_.training_batch(settings_.seed, step, settings_.batch, base_.config.context + 1, bytes_); }

  /// The task, the loss before, and what each method will need.
  void introduce() {
    const pretrain::ModelConfig& c = base_.config;
    pretrain::Model<float> model(c, settings_.batch);
    base_.copy_to(model);
    before_ = held_out_(model, settings_.eval_windows);
    before_curve_ = held_out_(model, settings_.curve_windows);
    const auto weights = model.layout().parameters();
    std::printf("from: %s, %s weights (d %ld, %ld layers, %ld heads, d_ff %ld)\n", base_.path.c_str(),
                grouped(std::size_t(weights)).c_str(), long(c.d_model), long(c.layers), long(c.heads), long(c.d_ff));
    std::printf("text: %s, %.1f MB in %zu files to train on, %.1f MB in %zu held out: %.3f bits/byte before\n",
                settings_.corpus.c_str(), double(corpus_.training.size()) / 1e6, corpus_.training_files,
                double(corpus_.held_out.size()) / 1e6, corpus_.held_out_files, before_);
    std::printf("task: %ld steps of %ld x %ld bytes on %d threads; adapters of about %s trained numbers\n\n",
                long(settings_.steps), long(settings_.batch), long(c.context), pretrain::available_threads(),
                grouped(std::size_t(numbers())).c_str());
    std::vector<MemoryUse> uses;
    batch(0);
    for (const Record& r : runs_) uses.push_back(make(r.method)->memory(bytes_));
    print_memory(stdout, runs_, uses, weights);
    std::printf("\n");
    std::fflush(stdout);
    write_memory(out_ / "memory.csv", runs_, uses);
  }

  Exit train(Record& r, Learner& learner, pretrain::Progress& progress) {
    progress.begin(r.name, r.steps, settings_.steps);
    while (r.steps < settings_.steps && !r.diverged) {
      const auto start = Clock::now();
      batch(r.steps);
      const double loss = learner.forward_backward(bytes_);
      if (std::isfinite(loss)) {
        if (!learner.step(r.lr * pretrain::schedule(settings_, r.steps), settings_.clip)) ++r.skipped;
        r.loss_sum += loss, ++r.loss_count;
      }
      r.diverged = !std::isfinite(loss);
      ++r.steps;
      const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
      r.seconds += seconds;
      if (!r.diverged && settings_.eval_every > 0 && (r.steps % settings_.eval_every == 0 || r.steps == settings_.steps)) look(r, learner);
      progress.step(r.steps, loss, settings_.batch * base_.config.context, seconds);
      ++steps_made_;
      if (pretrain::Interrupt::asked() || steps_made_ == settings_.stop_after) return Exit::Interrupted;
      if (r.steps % settings_.checkpoint_every == 0) checkpoint_.save(finished_, &r, &learner);
    }
    progress.skip(settings_.steps - r.steps);
    return Exit::Done;
  }
  void look(Record& r, Learner& learner) const {
    r.curve.push_back({r.steps, pretrain::bits(r.loss_sum / double(r.loss_count)), learner.held_out(held_out_, settings_.curve_windows)});
    r.loss_sum = 0, r.loss_count = 0;
  }

  /// The held-out loss on all windows asked for, and the same of everything that is written.
  void finish(Record& r, Learner& learner) const {
    if (!r.diverged) r.held_out = learner.held_out(held_out_, settings_.eval_windows);
    r.diverged = r.diverged || !std::isfinite(r.held_out);
    if (!r.diverged) r.written = learner.write(out_ / r.name, held_out_, settings_.eval_windows);
  }

  Exit stop(const Record& r, const Learner& learner, pretrain::Progress& progress) const {
    progress.clear();
    checkpoint_.save(finished_, &r, &learner);
    std::vector<Record> so_far = finished_;
    so_far.push_back(r);
    write_results(out_, so_far, before_);
    std::printf("stopped after step %ld of %ld of %s; go on with: finetune --resume --out %s\n", long(r.steps),
                long(settings_.steps), r.name.c_str(), out_.c_str());
    return Exit::Interrupted;
  }

  const Settings& settings_;
  std::filesystem::path out_;
  Base base_;
  pretrain::Corpus corpus_;
  HeldOut held_out_;
  Checkpoint checkpoint_;
  std::vector<Record> runs_, finished_;
  double before_ = 0, before_curve_ = 0;
  Index steps_made_ = 0;
  std::vector<pretrain::Byte> bytes_;
};

}  // namespace finetune
