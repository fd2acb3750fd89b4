// Orthogonal updates, all with the size of an AdamW update, 0.2 sqrt(max(m, n)), and the other whole optimizers.
#include "examples/pretrain/recipe.hpp"

namespace pretrain {

std::vector<Method> coupled_methods() {
  using lowrank::ShapeScale;
  const StateFormula momentum_and_indices = [](Index d, Index k, Index r) { return numbers(d * k + r); };
  const Recipe trion = recipe([] { return lowrank::trion({.shape_scale = ShapeScale::Rms}); });
  const Recipe dion2 = recipe([] { return lowrank::dion2({.shape_scale = ShapeScale::Rms}); });
  return {
      {"muon", recipe([] { return lowrank::muon({.shape_scale = ShapeScale::Rms}); }),
       [](Index d, Index k, Index) { return numbers(d * k); }, 8e-3, grids::four},
      {"trion", trion, momentum_and_indices, 8e-3, grids::eight},
      {"dion", recipe([] { return lowrank::dion({.shape_scale = ShapeScale::Rms}); }),
       [](Index d, Index k, Index r) { return numbers(d * k + k * r); }, 4e-3, grids::four},
      {"dion2", dion2, momentum_and_indices, 8e-3, grids::eight},
      // what is not selected waits in the momentum, which lengthens it by about d / r: 1 - mu is multiplied by that
      {.name = "trion_short", .recipe = trion, .state = momentum_and_indices, .rate = 8e-3, .grid = grids::eight,
       .options = {"mu=0.8"}, .standing = Standing::Variant},
      {.name = "dion2_short", .recipe = dion2, .state = momentum_and_indices, .rate = 8e-3, .grid = grids::eight,
       .options = {"mu=0.8"}, .standing = Standing::Variant},
      {"ldadam", recipe([] { return lowrank::ldadam(); }),
       [](Index d, Index k, Index r) { return numbers((d + 2 * k) * r + d * k); }, 4e-3, grids::two},
      {"online_subspace", recipe([] { return lowrank::online_subspace(); }),
       [](Index d, Index k, Index r) { return numbers((3 * d + 2 * k) * r); }, 4e-3, grids::two, Scaling::Linear, 0.25},
      // published: 1000 steps, so that 600 would see one random subspace and no other
      {"flora", recipe([] { return lowrank::flora(); }), [](Index d, Index k, Index r) { return numbers(k * r + d + k); },
       4e-3, grids::two, Scaling::Separate, 1, 50},
  };
}

}  // namespace pretrain
