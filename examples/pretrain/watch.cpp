#include "examples/pretrain/watch.hpp"

#include "examples/pretrain/heat_map.hpp"
#include "examples/pretrain/methods.hpp"
#include "examples/pretrain/table.hpp"

namespace pretrain {

const std::vector<std::string> Watch::header{"step",          "parameter",    "rank", "refreshed", "captured", "drift",
                                             "largest_angle", "median_angle", "kept", "svd",       "dct",      "rows",
                                             "random"};

Watch::Watch(const Settings& settings, const Method& method, Index steps)
    : method_(method.name), path_(std::filesystem::path(settings.out) / (method.name + ".watch")),
      every_(settings.watch_every), steps_(settings.steps),
      lasting_(method.has_period() && settings.refresh_every.value_or(method.refresh_every) > 1) {
  const std::string csv = path_.string() + ".csv";
  const auto number_of = [](const std::string& cell) { return cell.empty() ? std::optional<double>() : std::stod(cell); };
  if (steps > 0)
    for (const auto& c : read_csv(csv))
      if (const Index step = std::stol(c.at(0)); step <= steps)  // later ones are of steps that a kill undid
        rows_.push_back({step, std::stol(c.at(2)), c.at(1), c.at(3) == "1", std::stod(c.at(4)), std::stod(c.at(5)),
                         number_of(c.at(6)), number_of(c.at(7)), number_of(c.at(8)),
                         {std::stod(c.at(9)), std::stod(c.at(10)), std::stod(c.at(11)), std::stod(c.at(12))}});
  csv_.emplace(csv, header, CsvWriter::Open::Fresh);
  for (const Row& row : rows_) csv_->row(cells(row));
}

void Watch::before(const Trainer& trainer) {
  snapshots_.clear();
  for (const Basis& b : trainer.bases()) snapshots_.emplace_back(b);
}

void Watch::after(const Trainer& trainer, Index t) {
  std::size_t i = 0;
  for (const Basis& b : trainer.bases()) {
    const Snapshot& old = snapshots_[i++];
    if (t % every_ != 0 && t + 1 != steps_ && !(lasting_ && b.refreshed)) continue;
    Row row{t + 1, b.rank, b.name, b.refreshed, std::clamp(b.captured, 0.0, 1.0), b.drift, {}, {}, {}, energies(b)};
    if (b.refreshed && t > 0) {
      const std::vector<double> cosines = squared_cosines(old, b);
      double sum = 0;
      for (const double c : cosines) sum += c;
      row.largest = degrees(cosines.back());
      row.median = degrees(cosines[cosines.size() / 2]);
      row.kept = std::clamp(sum / double(cosines.size()), 0.0, 1.0);
    }
    csv_->row(cells(row));
    rows_.push_back(std::move(row));
  }
}

std::vector<std::string> Watch::cells(const Row& r) const {
  const auto text = [](const std::optional<double>& value) { return value ? format("%.4g", *value) : ""; };
  return {std::to_string(r.step), r.parameter,     std::to_string(r.rank), r.refreshed ? "1" : "0", text(r.captured),
          text(r.drift),          text(r.largest), text(r.median),         text(r.kept),            text(r.others.svd),
          text(r.others.dct),     text(r.others.rows), text(r.others.random)};
}

void Watch::draw() const {
  std::vector<HeatLine> lines;
  for (const Row& row : rows_) {
    std::string label = row.parameter;  // layers.0.attn.q.weight -> 0 attn.q
    if (label.starts_with("layers.")) label.erase(0, 7), label[label.find('.')] = ' ';
    if (label.ends_with(".weight")) label.resize(label.size() - 7);
    std::size_t i = 0;
    while (i < lines.size() && lines[i].label != label) ++i;
    if (i == lines.size()) lines.push_back({label, {}, {}, {}});
    lines[i].steps.push_back(double(row.step - 1));
    lines[i].shares.push_back(row.captured);
    if (lasting_ && row.refreshed) lines[i].marks.push_back(double(row.step - 1));
  }
  svg::write(path_.string() + ".svg",
             heat_map(method_ + ": what its bases hold of the gradient" + (lasting_ ? " (white: a new basis)" : ""),
                   "captured energy", double(steps_), lines));
}

bool has_basis(const Trainer& trainer) { return !trainer.bases().empty(); }

}  // namespace pretrain
