// Adam on the whole gradient.
#include <lowrank/rule/adam_bf16.hpp>

#include "examples/pretrain/recipe.hpp"

namespace pretrain {

std::vector<Method> adam_methods() {
  const Recipe adamw = recipe([] { return lowrank::adamw(); });
  const StateFormula moments = [](Index d, Index k, Index) { return numbers(2 * d * k); };
  // codes of one byte for M and V, and two scales for each block of 256 in a tile of 64 columns
  const StateFormula bytes = [](Index d, Index k, Index) {
    return 2 * d * k + numbers(2 * ((64 * d + 255) / 256) * ((k + 63) / 64));
  };
  return {
      {"adamw", adamw, moments, 2e-3, grids::full},
      {.name = "adamw_unclipped", .recipe = adamw, .state = moments, .rate = 2e-3, .grid = grids::full, .clips = false},
      {"adam8bit", recipe([] { return lowrank::Recipe{lowrank::Identity{}, lowrank::Adam8bit{}}; }), bytes, 2e-3, grids::full},
      {"adam_bf16", recipe([] { return lowrank::Recipe{lowrank::Identity{}, lowrank::AdamBf16{}}; }),
       [](Index d, Index k, Index) { return 4 * d * k; }, 2e-3, grids::full},
  };
}

}  // namespace pretrain
