// What makes the program pretrain_cuda of pretrain: the other make_trainer.
#include "examples/pretrain/device/trainer.hpp"

namespace pretrain {

std::unique_ptr<Trainer> make_trainer(const RunSpec& spec, const Settings& settings, Network& network) {
  static const std::unique_ptr<Machine> machine = gpu();
  return make_trainer_on(*machine, spec, settings, network);
}

}  // namespace pretrain
