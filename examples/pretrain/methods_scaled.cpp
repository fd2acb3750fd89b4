// What the projection loses returns, scaled by what the rule did: per column to the residual (Fira), to all of the gradient
// (APOLLO).
#include "examples/pretrain/recipe.hpp"

namespace pretrain {

std::vector<Method> scaled_methods() {
  const StateFormula with_basis = [](Index d, Index k, Index r) { return numbers((d + 2 * k) * r + 1); };  // and a norm
  const StateFormula moments = [](Index, Index k, Index r) { return numbers(2 * k * r + 1); };  // P is drawn again
  return {
      {"fira", recipe([] { return lowrank::fira(); }), with_basis, 8e-3, grids::two, Scaling::Separate, 0.25, 200},
      {"fira_rmsprop", recipe([] { return lowrank::fira_rmsprop(); }),
       [](Index d, Index k, Index r) { return numbers((d + k) * r + 1); }, 4e-3, grids::two, Scaling::Separate, 0.25, 200},
      {"subtrack", recipe([] { return lowrank::subtrack(); }), with_basis, 8e-3, grids::two, Scaling::Separate, 0.25, 200},
      {"dct_fira", recipe([] { return lowrank::fira<lowrank::Dct>(); }),
       [](Index, Index k, Index r) { return numbers((1 + 2 * k) * r + 1); }, 8e-3, grids::two, Scaling::Separate, 0.25, 200},
      {"apollo", recipe([] { return lowrank::apollo(); }), moments, 16e-3, grids::eight, Scaling::Root, 1, 200},
      {"apollo_mini", recipe([] { return lowrank::apollo_mini(); }), moments, 64e-3, grids::four, Scaling::Root, 128, 200, {"rank=1"}},
      {"apollo_svd", recipe([] { return lowrank::apollo<lowrank::Subspace>(); }), with_basis, 16e-3, grids::eight,
       Scaling::Root, 1, 200},
  };
}

}  // namespace pretrain
