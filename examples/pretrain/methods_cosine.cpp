// Adam on the strongest cosine coefficients, and FRUGAL, which descends along the sign of the rest.
#include "examples/pretrain/recipe.hpp"

namespace pretrain {

std::vector<Method> cosine_methods() {
  const Recipe dct = recipe([] { return lowrank::dct_adamw(); });
  const StateFormula indices_and_moments = [](Index, Index k, Index r) { return numbers((1 + 2 * k) * r); };
  const Recipe feedback = recipe([] { return lowrank::dct_adamw<lowrank::ErrorFeedback>(); });
  return {
      {"dct_adamw", dct, indices_and_moments, 4e-3, grids::two},
      {.name = "dct_adamw_keep", .recipe = dct, .state = indices_and_moments, .rate = 4e-3, .grid = grids::two,
       .options = {"transport=keep"}, .standing = Standing::Variant},
      {.name = "dct_adamw_feedback", .recipe = feedback,
       .state = [](Index d, Index k, Index r) { return numbers((1 + 2 * k) * r + d * k); }, .rate = 4e-3,
       .grid = grids::two, .standing = Standing::Variant},
      {.name = "dct_adamw_feedback_8bit", .recipe = feedback,
       .state = [](Index d, Index k, Index r) { return numbers((1 + 2 * k) * r + 2 * ((d + 255) / 256) * k) + d * k; },
       .rate = 4e-3, .grid = grids::two, .options = {"storage=int8"}, .standing = Standing::Variant},
      {.name = "dct_adamw_feedback_4bit", .recipe = feedback,
       .state = [](Index d, Index k, Index r) { return numbers((1 + 2 * k) * r + 2 * ((d + 255) / 256) * k) + (d + 1) / 2 * k; },
       .rate = 4e-3, .grid = grids::two, .options = {"storage=int4"}, .standing = Standing::Variant},
      {"frugal", recipe([] { return lowrank::frugal(); }), [](Index d, Index k, Index r) { return numbers((d + 2 * k) * r); },
       2e-3, grids::one, Scaling::Separate, 1, 200},
      {"dct_frugal", recipe([] { return lowrank::frugal<lowrank::Dct>(); }), indices_and_moments, 2e-3, grids::one,
       Scaling::Separate, 1, 200},
  };
}

}  // namespace pretrain
