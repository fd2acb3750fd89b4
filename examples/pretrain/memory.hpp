// Memory: what the formulas say an optimizer keeps for a matrix, and the table that puts it beside what was counted.
#pragma once

#include <filesystem>
#include <vector>

#include "examples/pretrain/csv.hpp"
#include "examples/pretrain/methods.hpp"
#include "examples/pretrain/table.hpp"

namespace pretrain {

/// Bytes kept for a matrix whose side of length d is projected to r <= d dimensions, k being the other side, in floats
/// (counters aside). P: the basis, M and V: the moments, L: the norm the limiter remembers.
inline std::size_t state_formula(RecipeName recipe, Index d, Index k, Index r) {
  const Index number = sizeof(float), index = sizeof(std::int32_t);
  switch (recipe) {
    case RecipeName::AdamW: return std::size_t(2 * d * k * number);                       // M, V
    case RecipeName::Galore: return std::size_t((d + 2 * k) * r * number);                // P, M, V
    case RecipeName::Fira: return std::size_t(((d + 2 * k) * r + 1) * number);            // P, M, V, L
    case RecipeName::Apollo:                                                              // P is drawn again
    case RecipeName::ApolloMini: return std::size_t((2 * k * r + 1) * number);            // M, V, L
    case RecipeName::DctAdamw: return std::size_t(2 * k * r * number + r * index);        // M, V and which r of d
    case RecipeName::DctAdamwFeedback:                                                    // and the error
      return std::size_t(2 * k * r * number + r * index + d * k * number);
  }
  return 0;
}

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
