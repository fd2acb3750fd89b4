// The table for people, in Markdown, and the one for programs, in CSV.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <bench/report/targets.hpp>
#include <examples/pretrain/csv.hpp>
#include <examples/pretrain/table.hpp>

namespace report {

using pretrain::format;

/// Which row of a problem is the library's: of an adapter's orders the one that it chooses. Empty when there is none.
inline std::string ours_of(const Results& all, const std::string& problem) {
  for (const char* who : {"lowrank", "auto"})
    for (const auto& [key, row] : all.rows)
      if (key.problem == problem && key.who == who && !row.ms.empty()) return who;
  return {};
}

namespace detail {

inline std::string short_number(double x) {
  return format(x >= 99.5 ? "%.0f" : x >= 9.95 ? "%.1f" : x >= 0.0995 ? "%.2f" : "%.3g", x);
}

/// f(row, threads) for one thread and two, "a / b"; "-" where there is no row, and nothing when f gives nothing twice.
template <class F>
std::string both(const Results& all, const std::string& problem, const std::string& who, const F& f) {
  std::vector<std::string> texts;
  bool any = false;
  for (const auto& [threads, roof] : all.roofs) {
    const Row* row = all.find({problem, who, threads});
    texts.push_back(row == nullptr ? "" : f(*row, threads));
    any = any || !texts.back().empty();
  }
  std::string text;
  for (std::size_t i = 0; any && i < texts.size(); ++i) text += (i > 0 ? " / " : "") + (texts[i].empty() ? "-" : texts[i]);
  return text;
}

/// How many times as long the others take.
inline std::string peers(const Results& all, const std::string& problem, const std::string& ours) {
  std::vector<std::string> names;
  std::string text;
  for (const auto& [key, row] : all.rows)
    if (key.problem == problem && key.who != ours && std::find(names.begin(), names.end(), key.who) == names.end()) names.push_back(key.who);
  for (const std::string& who : names) {
    std::string ratios = both(all, problem, who, [&](const Row& peer, int threads) {
      const Row* row = all.find({problem, ours, threads});
      return row == nullptr ? std::string() : short_number(peer.time() / row->time());
    });
    if (!ratios.empty()) text += (text.empty() ? "" : ", ") + who + " " + ratios;
  }
  return text;
}

inline std::string value_text(const Target& t, double value) {
  if (t.measure == Measure::Roof || t.measure == Measure::Streaming) return format("%.0f", 100 * value);
  if (t.measure == Measure::Counter) return format("%.4g", value);
  return short_number(value);
}
inline std::string unit_text(const Target& t, const std::string& against) {
  switch (t.measure) {
    case Measure::Roof: return " % of the roof";
    case Measure::Streaming: return " % of streaming";
    case Measure::GflopsPerThread: return " GFLOP/s a thread";
    case Measure::Counter: return std::string(" ") + t.peer + (*t.where != 0 ? std::string(" over ") + t.where : "");
    case Measure::Ratio: break;
  }
  return " x " + against;
}

}  // namespace detail

/// All that is asked of a row: "85 / 80 % of the roof: 81 / 79, missed".
struct Judged {
  std::string text;
  int met = 0, missed = 0;
};

inline Judged judge(const Results& all, const std::string& problem, const std::string& ours) {
  Judged judged;
  for (const Target& t : targets()) {
    std::string least, value, word, against;
    for (const auto& [threads, roof] : all.roofs) {
      const Row* row = all.find({problem, ours, threads});
      const auto verdict = row == nullptr ? std::nullopt : judge(all, t, {problem, ours, threads}, *row);
      if (!verdict) continue;
      const std::string join = value.empty() ? "" : " / ";
      ++(verdict->met() ? judged.met : judged.missed);
      const std::string mine = detail::value_text(t, verdict->least), now = verdict->met() ? "met" : "missed";
      least += least == mine ? "" : join + mine;
      value += join + detail::value_text(t, verdict->value);
      word += word == now ? "" : join + now;
      against = verdict->against;
    }
    if (!value.empty())
      judged.text += (judged.text.empty() ? "" : "; ") + least + detail::unit_text(t, against) + ": " + value + ", **" + word + "**";
  }
  return judged;
}

/// Rows of a step beside which another program keeps a core busy are called as those of the step alone, after this.
inline constexpr std::string_view busy = "busy_core/";

/// What else a row says of itself, and a busy machine's row of the step on a free one.
inline std::string also(const Results& all, const std::string& problem, const std::string& ours) {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : ", ") + part; };
  for (const auto& [counter, how] : {std::pair{"captured_%", "captures %s %%"}, {"tokens_per_s", "%s tokens/s"}, {"optimizer_ms", "of which the optimizer %s ms"}}) {
    const std::string values = detail::both(all, problem, ours, [&, name = counter](const Row& row, int) {
      const double x = row.has(name) ? row.counter(name) : 0;
      return row.has(name) ? format(x >= 1e4 ? "%.0f" : "%.4g", x) : std::string();
    });
    if (!values.empty()) add(format(how, values.c_str()));
  }
  if (problem.rfind(busy, 0) == 0)
    for (const auto& [key, row] : all.rows)
      if (const Row* free = all.find({problem.substr(busy.size()), key.who, key.threads}); key.problem == problem && !row.ms.empty() && free != nullptr)
        add(key.who + " " + detail::short_number(row.time() / free->time()) + " times as long as on free cores");
  return text;
}

/// The problems that have a row of the library's, and none of the roof's own.
inline std::vector<std::string> compared(const Results& all) {
  std::vector<std::string> problems;
  for (const std::string& p : all.problems)
    if (p.rfind("roof/", 0) != 0 && !ours_of(all, p).empty()) problems.push_back(p);
  return problems;
}

/// One line a problem; `before`: an earlier run, or nullptr. Only those with a target when `targets_only`.
inline std::string markdown_table(const Results& all, const Results* before, bool targets_only) {
  std::string threads;
  for (const auto& [n, roof] : all.roofs) threads += (threads.empty() ? "" : " / ") + std::to_string(n);
  std::string text = "| | ms, " + threads + " threads | GFLOP/s | GB/s | % of the roof |" + (before != nullptr ? " before, times as long |" : "") +
                     " others, times as long | also | target: reached |\n|---|---|---|---|---|" + (before != nullptr ? "---|" : "") + "---|---|---|\n";
  for (const std::string& problem : compared(all)) {
    const std::string ours = ours_of(all, problem);
    const Judged judged = judge(all, problem, ours);
    if (targets_only && judged.text.empty()) continue;
    const auto column = [&](const auto& f) { return detail::both(all, problem, ours, f) + " | "; };
    const auto positive = [](double x, const char* how) { return x > 0 ? format(how, x) : std::string(); };
    text += "| " + problem + " | " + column([](const Row& row, int) { return detail::short_number(row.time()); }) +
            column([&](const Row& row, int) { return positive(gflops(row), "%.0f"); }) +
            column([&](const Row& row, int) { return positive(gigabytes(row), "%.1f"); }) +
            column([&](const Row& row, int n) { return positive(100 * share_of_roof(all.roofs.at(n), row), "%.0f"); });
    if (before != nullptr)
      text += column([&](const Row& row, int n) {
        const Row* old = before->find({problem, ours, n});
        return old == nullptr ? std::string() : detail::short_number(old->time() / row.time());
      });
    text += detail::peers(all, problem, ours) + " | " + also(all, problem, ours) + " | " + judged.text + " |\n";
  }
  return text;
}

/// A line for every row that was measured, peers as well.
inline void write_csv(const std::filesystem::path& path, const Results& all) {
  pretrain::CsvWriter csv(path, {"problem", "who", "threads", "ms", "ms_low", "ms_high", "repetitions", "gflops", "gigabytes_per_s",
                                 "roof", "captured_percent", "tokens_per_s", "error"}, pretrain::CsvWriter::Open::Fresh);
  const auto number = [](double x) { return x != 0 ? format("%.6g", x) : std::string(); };
  for (const std::string& problem : all.problems)
    for (const auto& [key, row] : all.rows) {
      if (key.problem != problem) continue;
      std::string error = row.error;
      std::replace(error.begin(), error.end(), ',', ';');
      std::vector<std::string> cells{key.problem, key.who, std::to_string(key.threads)};
      if (row.ms.empty()) {
        cells.insert(cells.end(), {"", "", "", "0", "", "", "", "", "", error});
      } else {
        const auto roof = all.roofs.find(key.threads);
        cells.insert(cells.end(), {number(row.time()), number(quantile(row.ms, 0.25)), number(quantile(row.ms, 0.75)),
                                   std::to_string(row.ms.size()), number(gflops(row)), number(gigabytes(row)),
                                   roof == all.roofs.end() ? "" : number(share_of_roof(roof->second, row)),
                                   number(row.counter("captured_%")), number(row.counter("tokens_per_s")), error});
      }
      csv.row(cells);
    }
}

}  // namespace report
