// Study: methods compared with the care that makes the comparison worth something. Per method a grid of rates, extended
// until the best has a worse one on both sides; then several seeds at the best rate; then which differences are larger
// than chance. Every run that is over is one row of study.csv, from which a study that was stopped goes on.
#pragma once

#include <algorithm>  // std::find
#include <filesystem>
#include <map>
#include <optional>
#include <stdexcept>  // std::logic_error, std::runtime_error
#include <string>
#include <vector>

#include "examples/pretrain/bracket.hpp"
#include "examples/pretrain/compare.hpp"
#include "examples/pretrain/study_report.hpp"

namespace pretrain {

class Study {
 public:
  explicit Study(const Settings& settings)
      : settings_(quiet(settings)), out_(settings.out), corpus_(Corpus::read(settings.corpus, settings.model.context + 1)),
        networks_(settings.model, settings.batch) {
    for (const std::string& name : settings_.methods)  // every option is checked before the first run
      make_trainer(spec_of(method(name), settings_), settings_, network(method(name)));
  }

  static Json read(const std::filesystem::path& out) { return read_json(out / "study.json"); }

  /// The methods of a study that goes on: those it had, then the new ones.
  static std::vector<std::string> methods(const Json& study, const std::vector<std::string>& more) {
    std::vector<std::string> all = study.at("methods");
    for (const std::string& name : more)
      if (std::find(all.begin(), all.end(), name) == all.end()) all.push_back(name);
    return all;
  }

  Exit run() {
    std::filesystem::create_directories(out_);
    const Json settings = stored(settings_, corpus_.fingerprint);
    if (settings_.resume) {
      check_same(read(out_), settings, out_);
      for (const auto& row : read_csv(out_ / "study.csv")) remember(row);
    } else {
      std::filesystem::remove(out_ / "study.csv");
    }
    write_json(out_ / "study.json", settings);
    CsvWriter csv(out_ / "study.csv", header, CsvWriter::Open::Append);

    print_task(stdout, settings_, corpus_, network(method(settings_.methods[0])));
    Index runs = 0;
    for (const std::string& name : settings_.methods)
      runs += method(name).grid.count + settings_.study_seeds - 1;
    Progress progress(stderr, Progress::style_of(stderr), runs * settings_.steps, settings_.steps);
    for (const std::string& name : settings_.methods)
      if (search(method(name), csv, progress) == Exit::Interrupted) {
        progress.clear();
        std::printf("stopped; %zu finished runs are in %s; go on with: pretrain --study --resume --out %s\n",
                    known_.size(), (out_ / "study.csv").c_str(), out_.c_str());
        return Exit::Interrupted;
      }
    progress.clear();
    print_study(stdout, found_, settings_);
    write_study_charts(out_, found_, settings_);
    std::printf("\nevery run is in %s, with study.svg and study_rates.svg beside it\n", (out_ / "study.csv").c_str());
    return Exit::Done;
  }

 private:
  static constexpr int most_rates = 12;
  static inline const std::vector<std::string> header{"method", "rate", "lr", "seed", "bits_per_byte", "steps",
                                                      "ms_per_step", "optimizer_ms", "state_bytes"};

  struct Key {
    std::string method, rate;
    std::uint64_t seed;
    auto operator<=>(const Key&) const = default;
  };
  Network& network(const Method& m) { return networks_.of(m.recipe.weights); }
  /// A study looks at the end of a run only.
  static Settings quiet(Settings s) {
    s.eval_every = 0;
    return s;
  }

  void remember(const std::vector<std::string>& row) {
    try {
      known_[{row.at(0), row.at(1), std::stoull(row.at(3))}] = {std::stod(row.at(4)), std::stod(row.at(6)),
                                                                std::stod(row.at(7)), std::stoull(row.at(8))};
    } catch (const std::logic_error&) {  // too few cells, or no number
      throw std::runtime_error((out_ / "study.csv").string() + " has a row that is none of a study's");
    }
  }
  const Outcome& outcome(const Method& m, double rate, std::uint64_t seed) const {
    return known_.at({m.name, number(rate), seed});
  }

  Exit search(const Method& m, CsvWriter& csv, Progress& progress) {
    Tried tried;
    const auto at = [&](int place) { return outcome(m, m.grid.rate(place), settings_.seed).held_out; };
    while (const auto place = next_place(tried, m.grid.count, most_rates)) {
      if (*place < 0 || *place >= m.grid.count) progress.skip(-settings_.steps);
      if (train(m, m.grid.rate(*place), settings_.seed, csv, progress) == Exit::Interrupted) return Exit::Interrupted;
      tried[*place] = at(*place);
    }
    const std::optional<int> best = best_place(tried);
    if (!best) progress.skip((settings_.study_seeds - 1) * settings_.steps);  // it diverged at every rate
    const int place = best.value_or(tried.begin()->first);
    Found found{m.name, m.grid, tried, m.grid.rate(place), {tried.at(place)}, outcome(m, m.grid.rate(place), settings_.seed)};
    for (Index i = 1; best && i < settings_.study_seeds; ++i) {
      const std::uint64_t seed = settings_.seed + std::uint64_t(i);
      if (train(m, found.rate, seed, csv, progress) == Exit::Interrupted) return Exit::Interrupted;
      found.held_out.push_back(outcome(m, found.rate, seed).held_out);
    }
    found_.push_back(std::move(found));
    return Exit::Done;
  }

  /// One run, unless it is known already.
  Exit train(const Method& m, double rate, std::uint64_t seed, CsvWriter& csv, Progress& progress) {
    if (known_.contains({m.name, number(rate), seed})) {
      progress.skip(settings_.steps);
      return Exit::Done;
    }
    RunSpec spec = spec_of(m, settings_, rate);
    spec.seed = seed;
    Run run(settings_, spec, corpus_, network(m));
    progress.begin(m.name + " " + format("%.2g", rate), 0, settings_.steps);
    while (!run.finished()) {
      const Run::Stepped step = run.step();
      progress.step(run.record().steps, step.loss, run.tokens_per_step(), step.seconds);
      ++steps_made_;
      if (Interrupt::asked() || steps_made_ == settings_.stop_after) return Exit::Interrupted;
    }
    progress.skip(settings_.steps - run.record().steps);
    run.finish();
    const RunRecord& r = run.record();
    const std::vector<std::string> row{m.name, number(rate), number(r.spec.lr), std::to_string(seed),
                                       number(r.held_out), std::to_string(r.steps), number(r.ms_per_step()),
                                       number(r.ms_per_step() * r.optimizer_share()),
                                       std::to_string(r.memory.state())};
    csv.row(row);
    remember(row);
    progress.clear();
    std::printf("%-18s rate %-7s seed %llu  %s bits/byte\n", m.name.c_str(), number(rate).c_str(),
                static_cast<unsigned long long>(seed), bits_text(r).c_str());
    std::fflush(stdout);
    return Exit::Done;
  }

  Settings settings_;
  std::filesystem::path out_;
  Corpus corpus_;
  Networks networks_;
  std::map<Key, Outcome> known_;
  std::vector<Found> found_;
  Index steps_made_ = 0;
};

}  // namespace pretrain
