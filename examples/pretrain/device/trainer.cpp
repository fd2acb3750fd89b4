#include "examples/pretrain/device/trainer.hpp"

#include "examples/pretrain/device/fleet.hpp"
#include "examples/pretrain/recipe.hpp"

namespace pretrain {
namespace {

template <class R>
using OnDevice = FleetTrainer<R, DeviceFleet<CpuFleet<R>>>;

/// The trainer of the recipe, if R is what it is.
template <class R>
void take(const std::any& recipe, const Task& task, Machine& machine, std::unique_ptr<Trainer>& made) {
  if (const R* r = std::any_cast<R>(&recipe)) made = std::make_unique<OnDevice<R>>(task, *r, machine);
}
template <class... R>
std::unique_ptr<Trainer> one_of(MachineFor<R...>& machine, const std::any& recipe, const Task& task) {
  std::unique_ptr<Trainer> made;
  (take<R>(recipe, task, machine, made), ...);
  return made;
}
template <class... R>
std::string listed(const MachineFor<R...>&, const Task& task) {
  std::string names;
  for (const Method& m : all_methods()) {
    if (m.recipe.weights == Weights::Replaced) continue;
    const std::any recipe = m.recipe.tuned({m, task.spec, Settings{}, task.network});
    if ((... || (std::any_cast<R>(&recipe) != nullptr))) names += (names.empty() ? "" : ", ") + m.name;
  }
  return names;
}

}  // namespace

std::unique_ptr<Trainer> make_trainer_on(Machine& machine, const RunSpec& spec, const Settings& settings, Network& network) {
  const Method& m = method(spec.method);
  const Task task{m, spec, settings, network};
  if (settings.watch) throw std::invalid_argument("--watch: bases can be watched on the CPU only");
  std::unique_ptr<Trainer> made;
  if (m.recipe.weights == Weights::Dense) made = one_of(machine, m.recipe.tuned(task), task);
  if (!made) throw std::invalid_argument("--method " + m.name + ": not on a GPU, which has " + listed(machine, task));
  return made;
}

}  // namespace pretrain
