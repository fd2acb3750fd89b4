// Memory: what the optimizers were counted to keep, beside what the formulas say, as a table and as a file.
#pragma once

#include <filesystem>
#include <vector>

#include "examples/pretrain/csv.hpp"
#include "examples/pretrain/trainer.hpp"
#include "examples/pretrain/table.hpp"

namespace pretrain {

inline void print_memory(std::FILE* out, const std::vector<std::string>& names, const std::vector<MemoryUse>& uses) {
  Table table({"bytes", "weights", "gradients", "basis", "moments", "errors", "state", "by formula", "workspace"});
  for (std::size_t i = 0; i < names.size(); ++i) {
    const MemoryUse& u = uses[i];
    table.add({names[i], grouped(u.weights), grouped(u.gradients), grouped(u.basis), grouped(u.moments),
               grouped(u.error), grouped(u.state()), grouped(u.formula), grouped(u.workspace)});
  }
  table.print(out);
}

inline void write_memory(const std::filesystem::path& path, const std::vector<std::string>& names,
                         const std::vector<MemoryUse>& uses) {
  CsvWriter csv(path, {"method", "weights", "gradients", "basis", "moments", "errors", "numbers", "state", "formula",
                       "workspace"}, CsvWriter::Open::Fresh);
  for (std::size_t i = 0; i < names.size(); ++i) {
    const MemoryUse& u = uses[i];
    std::vector<std::string> row{names[i]};
    for (const std::size_t n : {u.weights, u.gradients, u.basis, u.moments, u.error, u.numbers, u.state(), u.formula,
                                u.workspace})
      row.push_back(std::to_string(n));
    csv.row(row);
  }
}

}  // namespace pretrain
