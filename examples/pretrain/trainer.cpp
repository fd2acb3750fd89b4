#include "examples/pretrain/methods.hpp"

namespace pretrain {

std::unique_ptr<Trainer> make_trainer(const RunSpec& spec, const Settings& settings, Network& network) {
  const Method& m = method(spec.method);
  return m.recipe.make({m, spec, settings, network});
}

}  // namespace pretrain
