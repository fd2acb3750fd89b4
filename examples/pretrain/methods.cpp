#include "examples/pretrain/methods.hpp"

#include "examples/pretrain/tables.hpp"

namespace pretrain {

const std::vector<Method>& all_methods() {
  static const std::vector<Method> methods = [] {
    std::vector<Method> all;
    for (const auto& family : {adam_methods, galore_methods, scaled_methods, cosine_methods, coupled_methods,
                               replaced_methods})
      for (Method& m : family()) all.push_back(std::move(m));
    return all;
  }();
  return methods;
}

}  // namespace pretrain
