// Watch: what the bases of a run do, matrix by matrix, as <method>.watch.csv and a heat map <method>.watch.svg. It only
// looks: a run that is watched has the bits of one that is not.
//
// A matrix has a row after every `watch_every`-th step, counted from the first, and after the steps in which a basis that is
// kept for longer than a step was renewed. captured and drift are the optimizer's. Angles are those between the basis and
// the one it replaced in this very step: the largest, the median, and kept = mean cos^2, which is the share of the old
// subspace that is in the new one, or of the indices that stayed. svd, dct, rows and random: what other bases of this
// rank would hold of this gradient.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "examples/pretrain/basis.hpp"
#include "examples/pretrain/csv.hpp"
#include "examples/pretrain/trainer.hpp"

namespace pretrain {

class Watch {
 public:
  /// Goes on after so many steps with the rows of before; 0: begins anew.
  Watch(const Settings& settings, const Method& method, Index steps);

  /// Before and after step t, counted from 0.
  void before(const Trainer& trainer);
  void after(const Trainer& trainer, Index t);
  /// Draws what was seen so far.
  void draw() const;

 private:
  struct Row {
    Index step, rank;
    std::string parameter;
    bool refreshed;
    double captured, drift;
    std::optional<double> largest, median, kept;  // of a basis that had a predecessor
    Energies others;
  };
  static const std::vector<std::string> header;

  std::vector<std::string> cells(const Row& row) const;

  std::string method_;
  std::filesystem::path path_;  // without the extension
  Index every_, steps_;
  bool lasting_;  // bases are kept for longer than a step
  std::vector<Row> rows_;
  std::optional<CsvWriter> csv_;
  std::vector<Snapshot> snapshots_;
};

/// Whether a method has bases to watch: they are kept (APOLLO and FLORA draw theirs again, Dion forms and forgets it).
bool has_basis(const Trainer& trainer);

}  // namespace pretrain
