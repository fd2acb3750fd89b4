// Weights made of few numbers from the first step on, all trained by AdamW.
#include "examples/pretrain/layers_trainer.hpp"

namespace pretrain {

std::vector<Method> replaced_methods() {
  const StateFormula factors = [](Index m, Index n, Index r) { return numbers(2 * r * (m + n)); };
  // two moments for each number trained; densities are the library's defaults, as published
  const StateFormula and_entries = [](Index m, Index n, Index r) {
    return numbers(2 * (r * (m + n) + Index(lowrank::SlTrainOptions{}.density * double(m * n))));
  };
  const StateFormula and_columns = [](Index m, Index n, Index r) {
    return numbers(2 * (r * (m + n) + m * std::max<Index>(1, Index(lowrank::LostOptions{}.density * double(n)))));
  };
  const StateFormula and_spectrum = [](Index m, Index n, Index r) { return numbers(2 * (r * (m + n) + std::min(m, n))); };
  return {
      {"low_rank", replaced(LowRankKind{}), factors, 2e-3, grids::one},
      // alpha / rank = 1/4, as published for the smallest model
      {"sltrain", replaced(SlTrainKind{}), and_entries, 8e-3, grids::four, Scaling::Separate, 1, 1, {"alpha=8"}},
      {"lost", replaced(LostKind{}), and_columns, 4e-3, grids::two},
      // 32 columns for 20 steps, so that a round of four visits all of them seven times in 600 steps
      {"sst", replaced(SstKind{}), and_spectrum, 4e-3, grids::two, Scaling::Separate, 1, 20},
      {"maestro", replaced(MaestroKind{}), [](Index m, Index n, Index) { return numbers(2 * std::min(m, n) * (m + n)); },
       2e-3, grids::one, Scaling::Separate, 1, 100},
      {"relora", replaced(ReLoraKind{}), factors, 8e-3, grids::four, Scaling::Separate, 1, 200, {"alpha=8"}},
  };
}

}  // namespace pretrain
