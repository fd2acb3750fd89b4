// What a study found: the table, the pairs that three seeds can tell apart, two charts.
#pragma once

#include <algorithm>  // std::sort
#include <filesystem>
#include <string>
#include <vector>

#include "examples/pretrain/bracket.hpp"
#include "examples/pretrain/dot_plot.hpp"
#include "examples/pretrain/methods.hpp"
#include "examples/pretrain/panels.hpp"
#include "examples/pretrain/table.hpp"

namespace pretrain {

/// What is kept of a run that is over.
struct Outcome {
  double held_out, ms_per_step, optimizer_ms;
  std::size_t state_bytes;
};

struct Found {
  std::string method;
  Grid grid;
  Tried tried;
  double rate;                   // the best
  std::vector<double> held_out;  // at that rate, one a seed
  Outcome first;                 // of the first seed
};

inline std::vector<Found> by_mean(std::vector<Found> found) {
  std::sort(found.begin(), found.end(),
            [](const Found& a, const Found& b) { return mean(a.held_out) < mean(b.held_out); });
  return found;
}

/// sqrt(mean variance): what a seed changes, over all methods.
inline double pooled_deviation(const std::vector<Found>& found) {
  std::vector<double> squares;
  for (const Found& f : found)
    if (std::isfinite(mean(f.held_out)) && f.held_out.size() > 1)
      squares.push_back(deviation(f.held_out) * deviation(f.held_out));
  return squares.empty() ? 0 : std::sqrt(mean(squares));
}

/// One sentence for each method about those after it.
inline void print_pairs(std::FILE* out, const std::vector<Found>& sorted, const Distance& apart) {
  for (std::size_t i = 0; i + 1 < sorted.size(); ++i) {
    std::string clear, alone, none;
    for (std::size_t j = i + 1; j < sorted.size(); ++j) {
      const double difference = mean(sorted[j].held_out) - mean(sorted[i].held_out);
      std::string& list = difference >= apart.many_pairs ? clear : difference >= apart.one_pair ? alone : none;
      list += (list.empty() ? "" : ", ") + sorted[j].method;
    }
    std::string line = sorted[i].method + ":";
    if (!clear.empty()) line += " better than " + clear + ";";
    if (!alone.empty()) line += " better than " + alone + " only if no other pair had been looked at;";
    if (!none.empty()) line += " not separable from " + none + ";";
    line.back() = '.';
    std::fprintf(out, "%s\n", line.c_str());
  }
}

inline void print_study(std::FILE* out, const std::vector<Found>& found, const Settings& settings) {
  const std::vector<Found> sorted = by_mean(found);
  std::fprintf(out, "\n");
  Table table({"method", "best rate", "bits/byte", "deviation", "seeds", "optimizer bytes", "ms/step", "optimizer ms"});
  for (const Found& f : sorted)
    table.add({f.method, number(f.rate) + (bracketed(f.tried) ? "" : " (open)"), format("%.3f", mean(f.held_out)),
               f.held_out.size() > 1 ? format("%.3f", deviation(f.held_out)) : "-", std::to_string(f.held_out.size()),
               grouped(f.first.state_bytes), format("%.1f", f.first.ms_per_step), format("%.2f", f.first.optimizer_ms)});
  table.print(out);
  const double seed_deviation = pooled_deviation(found);
  const Distance apart = distance(std::size_t(settings.study_seeds), seed_deviation);
  std::fprintf(out,
               "\nRates include the recipe's scale where the two are one number. A seed's deviation over all methods is "
               "%.3f.\nTwo means are told apart at %.3f bits/byte, one pair alone at %.3f.\n",
               seed_deviation, apart.many_pairs, apart.one_pair);
  for (const Found& f : sorted)
    if (!bracketed(f.tried))
      std::fprintf(out, "%s: no rate on the grid had a worse one on both sides, the best may lie beyond.\n",
                   f.method.c_str());
  print_pairs(out, sorted, apart);
  std::fprintf(out, "%ld steps are early training, which flatters methods with large updates.\n", long(settings.steps));
}

inline void write_study_charts(const std::filesystem::path& out, const std::vector<Found>& found,
                               const Settings& settings) {
  const std::vector<Found> sorted = by_mean(found);
  std::vector<Dot> dots;
  for (const Found& f : sorted)
    dots.push_back({f.method, mean(f.held_out), deviation(f.held_out), grouped(f.first.state_bytes) + " bytes"});
  const std::string title = format("Held-out loss after %ld steps, mean and deviation of %ld seeds, and optimizer state",
                                   long(settings.steps), long(settings.study_seeds));
  svg::write(out / "study.svg", dot_plot(title, "bits per byte", dots));

  const double best = sorted.empty() ? 0 : mean(sorted[0].held_out);
  std::vector<Series> rates;
  for (const Found& f : sorted) {
    rates.push_back({f.method, {}});
    Series& series = rates.back();
    for (const auto& [place, loss] : f.tried) series.points.push_back({f.grid.rate(place), loss});
  }
  svg::write(out / "study_rates.svg",
             panels("Held-out loss over the peak rate of attention and MLP matrices", {"rate (with scale)", Axis::Scale::Log},
                    {"bits per byte", Axis::Scale::Linear, std::isfinite(best) ? best + 0.8 : 8.0}, rates));
}

}  // namespace pretrain
