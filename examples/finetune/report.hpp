// Tables, CSV files and the chart.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "examples/finetune/record.hpp"
#include "examples/pretrain/csv.hpp"
#include "examples/pretrain/svg.hpp"
#include "examples/pretrain/table.hpp"

namespace finetune {

using pretrain::CsvWriter;
using pretrain::format;
using pretrain::grouped;
using pretrain::number;

inline void print_memory(std::FILE* out, const std::vector<Record>& runs, const std::vector<MemoryUse>& uses, Index weights) {
  pretrain::Table table({"bytes", "rank", "trained", "of all", "gradients", "optimizer", "adapters", "frozen bases", "passes"});
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const MemoryUse& u = uses[i];
    table.add({runs[i].name, u.rank > 0 ? std::to_string(u.rank) : "-", grouped(std::size_t(u.trained)),
               format("%.1f %%", 100 * double(u.trained) / double(weights)), grouped(u.gradients), grouped(u.optimizer),
               grouped(u.adapters), grouped(u.shared), grouped(u.passes)});
  }
  table.print(out);
}

inline void write_memory(const std::filesystem::path& path, const std::vector<Record>& runs, const std::vector<MemoryUse>& uses) {
  CsvWriter csv(path, {"run", "rank", "trained", "gradients", "optimizer", "adapters", "frozen_bases", "passes"}, CsvWriter::Open::Fresh);
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const MemoryUse& u = uses[i];
    csv.row({runs[i].name, std::to_string(u.rank), std::to_string(u.trained), std::to_string(u.gradients),
             std::to_string(u.optimizer), std::to_string(u.adapters), std::to_string(u.shared), std::to_string(u.passes)});
  }
}

inline std::string loss_text(const Record& r, const char* how) {
  return r.diverged ? "diverged" : std::isfinite(r.held_out) ? format(how, r.held_out) : "-";
}
inline double ms_per_step(const Record& r) { return r.steps > 0 ? 1000 * r.seconds / double(r.steps) : 0; }

/// before: the held-out loss of the checkpoint as it is.
inline void print_results(std::FILE* out, const std::vector<Record>& runs, double before) {
  pretrain::Table losses({"bits/byte", "rate", "before", "after", "gain", "ms/step"});
  pretrain::Table files({"bits/byte", "trained", "from PEFT", "from GGUF", "merged", "merge error", "PEFT bytes", "GGUF bytes"});
  const auto or_none = [](const std::optional<double>& loss) { return loss ? format("%.6f", *loss) : "-"; };
  for (const Record& r : runs) {
    const Written& w = r.written;
    losses.add({r.name, format("%.2g", r.lr), format("%.3f", before), loss_text(r, "%.3f"),
                r.diverged ? "-" : format("%.3f", before - r.held_out), format("%.1f", ms_per_step(r))});
    if (!r.diverged)
      files.add({r.name, format("%.6f", r.held_out), or_none(w.peft), or_none(w.gguf), format("%.6f", w.merged),
                 w.peft ? format("%.1e", w.merge_error) : "-", w.peft ? grouped(w.peft_bytes) : "-",
                 w.gguf ? grouped(w.gguf_bytes) : "-"});
  }
  losses.print(out);
  std::fprintf(out, "\n");
  files.print(out);
  for (const Record& r : runs) {
    if (r.diverged)
      std::fprintf(out, "%s: the loss was no number any more at step %ld; a lower --lr than %.2g may help\n",
                   r.name.c_str(), long(r.steps), r.lr);
    if (r.skipped > 0)
      std::fprintf(out, "%s: %ld steps were skipped, their gradient was not finite\n", r.name.c_str(), long(r.skipped));
  }
}

/// results.csv, curves.csv and curves.svg; of a run that is not over yet the curve so far.
inline void write_results(const std::filesystem::path& out, const std::vector<Record>& runs, double before) {
  CsvWriter results(out / "results.csv", {"run", "method", "rate", "steps", "before", "bits_per_byte", "peft", "gguf", "merged",
                                          "merge_error", "peft_bytes", "gguf_bytes", "skipped", "ms_per_step"}, CsvWriter::Open::Fresh);
  CsvWriter curves(out / "curves.csv", {"run", "step", "training", "held_out"}, CsvWriter::Open::Fresh);
  pretrain::Chart chart("Held-out loss while adapting", {"step"}, {"bits per byte"});
  const auto or_none = [](const std::optional<double>& loss) { return loss ? number(*loss) : "-"; };
  for (const Record& r : runs) {
    const Written& w = r.written;
    const bool over = std::isfinite(r.held_out);
    results.row({r.name, r.method, number(r.lr), std::to_string(r.steps), number(before),
                 r.diverged ? "diverged" : over ? number(r.held_out) : "-", or_none(w.peft), or_none(w.gguf),
                 over ? number(w.merged) : "-", number(w.merge_error), std::to_string(w.peft_bytes),
                 std::to_string(w.gguf_bytes), std::to_string(r.skipped), number(ms_per_step(r))});
    pretrain::Series series{r.name, {}};
    for (const pretrain::CurvePoint& p : r.curve) {
      curves.row({r.name, std::to_string(p.step), number(p.training), number(p.held_out)});
      series.points.push_back({double(p.step), p.held_out});
    }
    if (!series.points.empty()) chart.add(std::move(series));
  }
  chart.write(out / "curves.svg");
}

}  // namespace finetune
