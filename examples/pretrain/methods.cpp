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

std::unique_ptr<Trainer> make_trainer(const RunSpec& spec, const Settings& settings, Network& network) {
  const Method& m = method(spec.method);
  return m.recipe.make({m, spec, settings, network});
}

}  // namespace pretrain
