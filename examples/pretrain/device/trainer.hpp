// make_trainer (trainer.hpp) with the optimizers on another machine.
#pragma once

#include "examples/pretrain/device/machine.hpp"
#include "examples/pretrain/trainer.hpp"

namespace pretrain {

/// The machine and the network must outlive it. Throws std::invalid_argument for a method that the machine does not have, and for
/// options it does not have.
std::unique_ptr<Trainer> make_trainer_on(Machine& machine, const RunSpec& spec, const Settings& settings, Network& network);

}  // namespace pretrain
