// GaLore: Adam in a subspace. Bases of every kind, then moments in fewer bits or numbers.
#include <lowrank/projector/sara.hpp>

#include "examples/pretrain/recipe.hpp"

namespace pretrain {

std::vector<Method> galore_methods() {
  const Recipe galore = recipe([] { return lowrank::galore(); });
  const auto sara = [] { return lowrank::Recipe{lowrank::Sara{}, lowrank::galore().rule, lowrank::BackProject{}}; };
  const StateFormula basis_and_moments = [](Index d, Index k, Index r) { return numbers((d + 2 * k) * r); };
  const StateFormula indices_and_moments = [](Index, Index k, Index r) { return numbers((1 + 2 * k) * r); };
  const StateFormula bytes = [](Index d, Index k, Index r) {  // two scales for each block of 256 in a tile of 64 columns
    return numbers(d * r) + 2 * k * r + numbers(2 * ((64 * r + 255) / 256) * ((k + 63) / 64));
  };
  const StateFormula four_bits = [](Index d, Index k, Index r) {  // and five similarities
    return (d + 1) / 2 * r + numbers(2 * ((d + 255) / 256) * r) + 2 * k * r + numbers(2 * ((64 * r + 255) / 256) * ((k + 63) / 64)) + 40;
  };
  return {
      {"galore", galore, basis_and_moments, 4e-3, grids::two, Scaling::Linear, 0.25, 200},
      {.name = "galore_rotate", .recipe = galore, .state = basis_and_moments, .rate = 4e-3, .grid = grids::two,
       .scaling = Scaling::Linear, .scale = 0.25, .refresh_every = 200, .options = {"transport=rotate"},
       .standing = Standing::Variant},
      // a period that brings two random bases within the last fifth of 600 steps
      {"golore", recipe([] { return lowrank::golore(); }), basis_and_moments, 4e-3, grids::two, Scaling::Linear, 1, 60},
      {"sara", recipe(sara), basis_and_moments, 4e-3, grids::two, Scaling::Linear, 0.25, 200},
      {"galore_random", recipe([] { return lowrank::galore<lowrank::RandomOrthogonal>(); }), basis_and_moments, 4e-3,
       grids::two, Scaling::Linear, 0.25, 200},
      {"galore_coordinates", recipe([] { return lowrank::galore<lowrank::Coordinates>(); }), indices_and_moments, 4e-3,
       grids::two, Scaling::Linear, 0.25, 200},
      {"galore_8bit", recipe([] { return lowrank::galore_8bit(); }), bytes, 4e-3, grids::two, Scaling::Linear, 0.25, 200},
      {"q_galore", recipe([] { return lowrank::q_galore(); }), four_bits, 4e-3, grids::two, Scaling::Linear, 0.25, 200},
      {"galore_adafactor", recipe([] { return lowrank::galore_adafactor(); }),
       [](Index d, Index k, Index r) { return numbers(d * r + r + k); }, 4e-3, grids::two, Scaling::Linear, 0.25, 200},
  };
}

}  // namespace pretrain
