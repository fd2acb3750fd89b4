#include "examples/pretrain/methods.hpp"

#include "examples/pretrain/tables.hpp"

namespace pretrain {

const std::vector<Method>& all_methods() {
  static const std::vector<Method> methods = [] {
    std::vector<Method> all;
    for (const auto& family : {adam_methods, galore_methods, scaled_methods, cosine_methods, coupled_methods})
      for (Method& m : family()) all.push_back(std::move(m));
    return all;
  }();
  return methods;
}

std::unique_ptr<Trainer> make_trainer(const RunSpec& spec, const Settings& settings, const Layout& layout,
                                      float* weights, const float* gradients) {
  const Method& m = method(spec.method);
  return m.recipe.make({m, spec, settings, layout, weights, gradients});
}

}  // namespace pretrain
