// The command line: every setting that has a switch, its bounds and its help.
#pragma once

#include <optional>

#include "examples/finetune/settings.hpp"

namespace finetune {

/// Fills in what is on the command line and leaves the rest. A number: the program ends with it (help, or an error that
/// has been printed).
std::optional<int> parse(int argc, char** argv, Settings& settings);

}  // namespace finetune
