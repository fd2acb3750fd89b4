// Tables of methods, one for each family: what a family's recipes have in common is instantiated once, and families are
// compiled side by side. all_methods() is all of them.
#pragma once

#include <vector>

#include "examples/pretrain/methods.hpp"

namespace pretrain {

/// Where a study starts. Peak rates of attention and MLP matrices, scale included.
namespace grids {
inline constexpr Grid full{1e-3, 2, 4}, one{1e-3, 1, 3}, two{2e-3, 1, 3}, four{4e-3, 1, 3}, eight{8e-3, 1, 3};
}

std::vector<Method> adam_methods();      // full rank
std::vector<Method> galore_methods();    // Adam in a subspace
std::vector<Method> scaled_methods();    // Fira and APOLLO
std::vector<Method> cosine_methods();    // DCT-AdamW, FRUGAL
std::vector<Method> coupled_methods();   // Muon, and papers whose three parts are one
std::vector<Method> replaced_methods();  // weights made of few numbers

}  // namespace pretrain
