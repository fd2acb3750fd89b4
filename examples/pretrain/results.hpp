// Results of a comparison as files and as the table at the end.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "examples/pretrain/csv.hpp"
#include "examples/pretrain/run.hpp"
#include "examples/pretrain/svg.hpp"
#include "examples/pretrain/table.hpp"

namespace pretrain {

inline std::string bits_text(const RunRecord& r) {
  return r.diverged ? "diverged" : std::isfinite(r.held_out) ? format("%.3f", r.held_out) : "-";
}

/// adamw_bytes: two moments for every weight of the dense model.
inline void print_results(std::FILE* out, const std::vector<RunRecord>& runs, std::size_t adamw_bytes) {
  Table table({"method", "rate", "bits/byte", "optimizer bytes", "of AdamW's", "ms/step", "optimizer ms", "share"});
  for (const RunRecord& r : runs) {
    table.add({r.spec.method, format("%.2g", r.spec.lr), bits_text(r), grouped(r.memory.state()),
               format("%.1f %%", 100 * double(r.memory.state()) / double(adamw_bytes)), format("%.1f", r.ms_per_step()),
               format("%.2f", r.ms_per_step() * r.optimizer_share()), format("%.1f %%", 100 * r.optimizer_share())});
  }
  table.print(out);
  for (const RunRecord& r : runs) {
    if (r.diverged)
      std::fprintf(out, "%s: the loss was no number any more at step %ld; a lower --lr than %.2g may help\n",
                   r.spec.method.c_str(), long(r.steps), r.spec.lr);
    if (r.skipped > 0)
      std::fprintf(out, "%s: %ld steps were skipped, their gradient was not finite\n", r.spec.method.c_str(),
                   long(r.skipped));
  }
}

/// results.csv, curves.csv and curves.svg; of a run that is not over yet the curve so far.
inline void write_results(const std::filesystem::path& out, const std::vector<RunRecord>& runs) {
  CsvWriter results(out / "results.csv", {"method", "rate", "seed", "steps", "bits_per_byte", "state_bytes",
                                          "ms_per_step", "optimizer_ms", "skipped"}, CsvWriter::Open::Fresh);
  CsvWriter curves(out / "curves.csv", {"method", "step", "training", "held_out"}, CsvWriter::Open::Fresh);
  Chart chart("Held-out loss", {"step"}, {"bits per byte"});
  for (const RunRecord& r : runs) {
    results.row({r.spec.method, number(r.spec.lr), std::to_string(r.spec.seed), std::to_string(r.steps), bits_text(r),
                 std::to_string(r.memory.state()), number(r.ms_per_step()),
                 number(r.ms_per_step() * r.optimizer_share()), std::to_string(r.skipped)});
    Series series{r.spec.method, {}};
    for (const CurvePoint& p : r.curve) {
      curves.row({r.spec.method, std::to_string(p.step), number(p.training), number(p.held_out)});
      series.points.push_back({double(p.step), p.held_out});
    }
    if (!series.points.empty()) chart.add(std::move(series));
  }
  chart.write(out / "curves.svg");
}

}  // namespace pretrain
